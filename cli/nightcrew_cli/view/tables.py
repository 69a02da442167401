"""The shape that all tables and lists of facts share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table
from rich.text import Text

Cell = str | Text


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Table:
    """Return a plain table; a column whose name ends in `>` is set to the right.

    Cells are taken as text: what a job or a worker calls itself is never markup.
    """
    result = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold dim")
    for column in columns:
        result.add_column(column.rstrip(">"), justify="right" if column.endswith(">") else "left", overflow="fold")
    for row in rows:
        result.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    return result


def facts(pairs: Iterable[tuple[str, Cell]]) -> Table:
    """Return names and values in two columns; what is empty is left out."""
    result = Table.grid(padding=(0, 2, 0, 0))
    result.add_column(style="dim", no_wrap=True)
    result.add_column(overflow="fold")
    for name, value in pairs:
        if value:
            result.add_row(name, value if isinstance(value, Text) else Text(value))
    return result


def heading(text: str) -> Text:
    return Text(f"\n{text}", style="bold")
