"""Help pages as plain text with panels: Typer's own panels load rich's Markdown and pygments, half of a start-up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from typer.core import TyperCommand, TyperGroup

PANELS = ("Job files", "Runs", "Look closer", "On this machine")
_OPTIONS, _ARGUMENTS, _COMMANDS = "Options", "Arguments", "Commands"
Row = tuple[str, str]


class Command(TyperCommand):
    def format_options(self, ctx: Any, formatter: Any) -> None:
        _write(formatter, _parameters(self, ctx))


class Group(TyperGroup):
    def format_options(self, ctx: Any, formatter: Any) -> None:
        _write(formatter, _commands(self, ctx, formatter.width))
        _write(formatter, _parameters(self, ctx))


def _parameters(command: Any, ctx: Any) -> dict[str, list[Row]]:
    """Return the rows of each panel, arguments first."""
    panels: dict[str, list[Row]] = {_ARGUMENTS: [], _OPTIONS: []}
    for parameter in command.get_params(ctx):
        row = parameter.get_help_record(ctx)
        if row is not None:
            usual = _ARGUMENTS if parameter.param_type_name == "argument" else _OPTIONS
            panels.setdefault(getattr(parameter, "rich_help_panel", None) or usual, []).append(row)
    return panels


def _commands(group: TyperGroup, ctx: Any, width: int) -> dict[str, list[Row]]:
    panels: dict[str, list[Row]] = {title: [] for title in PANELS}
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        if command is not None and not command.hidden:
            panel = getattr(command, "rich_help_panel", None)
            title = panel if isinstance(panel, str) else _COMMANDS
            panels.setdefault(title, []).append((name, command.get_short_help_str(width - 16)))
    return panels


def _write(formatter: Any, panels: dict[str, list[Row]]) -> None:
    for title, rows in panels.items():
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows)


def block(title: str, lines: Iterable[str]) -> str | None:
    """Return a paragraph whose lines stay as they are, for the end of a help page; None without lines."""
    kept = "\n".join(f"  {line}" for line in lines)
    # The first line tells the formatter not to fill up the paragraph.
    return f"\b\n{title}:\n{kept}" if kept else None
