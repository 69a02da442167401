"""ps: what runs, and what ran."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nightcrew_cli.commands.run import PANEL
from nightcrew_cli.exits import ExitCode
from nightcrew_cli.failures import CommandError
from nightcrew_cli.invocation import Invocation
from nightcrew_cli.options import command

if TYPE_CHECKING:
    from rich.console import RenderableType

    from nightcrew.domain.run import Run
    from nightcrew_cli.session import Connection

_FEW, _MANY = 10, 200
_OF_EACH_JOB = 20
_EVERY = 2.0


def register(app: typer.Typer) -> None:
    command(app, "ps", panel=PANEL, examples=["nightcrew ps", "nightcrew ps -a", "nightcrew ps --watch"])(ps)


def ps(
    invocation: Invocation,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Older runs, too.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again every two seconds.")] = False,
) -> None:
    """List the runs that are going on, then the latest others."""
    from nightcrew_cli.view import data

    connection = invocation.connect()
    if watch:
        _watch(invocation, connection, everything=everything)
        return
    runs, left = collect(connection, everything=everything)
    invocation.show(_screen(invocation, runs), [data.short_run(run) for run in runs])
    if left and invocation.is_for_people:
        invocation.note(f"{left} older runs are not shown: nightcrew ps -a")
    if not runs:
        invocation.next_steps([("nightcrew run JOB", "run one now"), ("nightcrew jobs list", "which there are")])


def collect(connection: Connection, *, everything: bool) -> tuple[list[Run], int]:
    """Return every open run and the newest others, newest first, and how many more were found."""
    runs = {run.run_id: run for run in connection.runs.open()}
    for job in connection.jobs.all_current():
        for run in connection.runs.recent(job.name, _MANY if everything else _OF_EACH_JOB):
            runs.setdefault(run.run_id, run)
    newest = sorted(runs.values(), key=lambda run: (not run.status.is_terminal, run.created_at), reverse=True)
    going_on = sum(1 for run in newest if not run.status.is_terminal)
    shown = newest[: max(going_on, _MANY if everything else _FEW)]
    return shown, len(newest) - len(shown)


def _screen(invocation: Invocation, runs: list[Run]) -> RenderableType:
    from rich.text import Text

    from nightcrew_cli.view.runs import run_table

    return run_table(runs, invocation.clock.now()) if runs else Text("no runs yet")


def _watch(invocation: Invocation, connection: Connection, *, everything: bool) -> None:
    from rich.live import Live

    if not invocation.out.is_terminal or not invocation.is_for_people:
        raise CommandError("--watch needs a terminal", code=ExitCode.USAGE)
    with Live(console=invocation.out, screen=False, auto_refresh=False) as live:
        try:
            while True:
                live.update(_screen(invocation, collect(connection, everything=everything)[0]), refresh=True)
                invocation.clock.sleep(_EVERY)
        except KeyboardInterrupt:
            return
