"""The options that every command takes, before or after its name, and the decorator that gives them to it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import typer

from nightcrew_cli import help as help_page
from nightcrew_cli.invocation import Invocation, begin

_PANEL = "Global options"
Function = TypeVar("Function", bound=Callable[..., None])


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalOptions:
    """What was asked for; None and False mean "not said", so that a later mention adds to an earlier one."""

    profile: str | None = None
    region: str | None = None
    stack: str | None = None
    local: bool = False
    output: Format | None = None
    quiet: bool = False

    def updated(self, later: GlobalOptions) -> GlobalOptions:
        """Return these options with what was said later, nearer to the command."""
        names = [field.name for field in fields(self)]
        return GlobalOptions(**{name: getattr(later, name) or getattr(self, name) for name in names})


_OPTIONS = {
    "profile": Annotated[
        str | None, typer.Option("--profile", help="AWS profile to use.", rich_help_panel=_PANEL, show_default=False)
    ],
    "region": Annotated[
        str | None,
        typer.Option("--region", help="AWS Region of the stack.", rich_help_panel=_PANEL, show_default=False),
    ],
    "stack": Annotated[
        str | None,
        typer.Option(
            "--stack",
            help="Name of the stack. Default: $NIGHTCREW_STACK, then nightcrew.",
            rich_help_panel=_PANEL,
            show_default=False,
        ),
    ],
    "local": Annotated[
        bool,
        typer.Option("--local", help="Talk to the local stack (or NIGHTCREW_LOCAL=1).", rich_help_panel=_PANEL),
    ],
    "output": Annotated[
        Format | None,
        typer.Option(
            "--output", "-o", help="How to print. Default: table.", rich_help_panel=_PANEL, show_default=False
        ),
    ],
    "quiet": Annotated[bool, typer.Option("--quiet", "-q", help="No notes on stderr.", rich_help_panel=_PANEL)],
}
_FLAGS = {"local", "quiet"}


def command(
    app: typer.Typer, name: str, *, panel: str = "", examples: Iterable[str] = (), hidden: bool = False
) -> Callable[[Function], Function]:
    """Register a command; its first parameter is the Invocation, the rest are its own options."""

    def register(function: Function) -> Function:
        panel_name: dict[str, Any] = {"rich_help_panel": panel} if panel else {}
        epilog = help_page.block("Examples", examples)
        app.command(name, cls=help_page.Command, epilog=epilog, hidden=hidden, **panel_name)(
            _with_global_options(function)
        )
        return function

    return register


def group(help_text: str, *, epilog: str | None = None) -> typer.Typer:
    """Return an empty group of commands which takes the global options itself, too."""
    app = typer.Typer(
        cls=help_page.Group,
        help=help_text,
        epilog=epilog,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_with_global_options(_remember, is_group=True))
    return app


def _remember(_invocation: Invocation) -> None:
    """A group does nothing itself; the wrapper has kept its options for the command that follows."""


def _help(function: Callable[..., None]) -> str | None:
    """The docstring with a line for each paragraph: where lines end is the terminal's business."""
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs) or None


def _with_global_options(function: Callable[..., None], *, is_group: bool = False) -> Callable[..., None]:
    """Return the function in the shape that Typer reads: own parameters, then the global options."""
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]

    def wrapper(ctx: typer.Context, **values: Any) -> None:
        said = GlobalOptions(**{name: values.pop(name) for name in _OPTIONS})
        before = ctx.obj if isinstance(ctx.obj, GlobalOptions) else GlobalOptions()
        ctx.obj = before.updated(said)
        if not is_group:
            begin(ctx.obj).call(function, **values)

    context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    shared = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, annotation=hint, default=False if name in _FLAGS else None
        )
        for name, hint in _OPTIONS.items()
    ]
    parameters = [context, *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own), *shared]
    wrapper.__name__, wrapper.__doc__ = function.__name__, None if is_group else _help(function)
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return wrapper
