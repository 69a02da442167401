"""logs: what a run's command printed, while it runs and long after its worker is gone."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Annotated

import typer

from nightcrew_cli import exits
from nightcrew_cli.commands.run import PANEL, finish, watch
from nightcrew_cli.exits import ExitCode
from nightcrew_cli.failures import CommandError
from nightcrew_cli.invocation import Invocation
from nightcrew_cli.options import command

if TYPE_CHECKING:
    from nightcrew.domain.run import Attempt, Run
    from nightcrew_cli.session import Connection


def register(app: typer.Typer) -> None:
    command(
        app,
        "logs",
        panel=PANEL,
        examples=[
            "nightcrew logs @last",
            "nightcrew logs -f nightly-report",
            "nightcrew logs nightly-report@last --attempt 1 --tail 50",
            "nightcrew logs @last --raw > run.log",
        ],
    )(logs)


def logs(
    invocation: Invocation,
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="Run id, its beginning, JOB, JOB@last or @last.", show_default=False)
    ],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    attempt: Annotated[
        int | None, typer.Option("--attempt", min=1, help="Only this attempt. Default: the newest.", show_default=False)
    ] = None,
    tail: Annotated[
        int | None, typer.Option("--tail", "-n", min=0, help="Only the last lines.", show_default=False)
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Every byte as it was written, control sequences too. Not for a terminal.")
    ] = False,
) -> None:
    """Print the log of a run.

    Control sequences are taken out, so that no job can drive your terminal. With -f the exit code says how the run
    ended.
    """
    from nightcrew.usecases.references import find_run

    if raw and (follow or tail is not None):
        raise CommandError("--raw goes with neither --follow nor --tail", code=ExitCode.USAGE)
    if raw and invocation.out.is_terminal:
        raise CommandError("--raw is not for a terminal: send it to a file or a pipe", code=ExitCode.USAGE)
    connection = invocation.connect()
    found = find_run(run, connection.jobs, connection.runs)
    if follow and not found.status.is_terminal:
        ended = watch(invocation, connection, found, with_log=True, only=attempt)
        finish(invocation, ended)
        return
    chosen = _attempt(found, attempt)
    if chosen is None:
        _explain_none(invocation, found)
    elif raw:
        _print_raw(invocation, connection, chosen)
    else:
        _print_lines(invocation, connection, chosen, tail)
    if follow and (code := exits.of_run(found)):
        raise typer.Exit(code)


def _attempt(run: Run, number: int | None) -> Attempt | None:
    """Return the attempt that is meant, or the newest with a worker; None when no worker was ever launched."""
    with_worker = [attempt for attempt in run.attempts if attempt.worker]
    if number is None:
        return with_worker[-1] if with_worker else None
    chosen = next((attempt for attempt in with_worker if attempt.number == number), None)
    if chosen is None:
        numbers = ", ".join(str(attempt.number) for attempt in with_worker) or "none"
        raise CommandError(
            f"{run.run_id} has no attempt {number} with a worker; there are: {numbers}", code=ExitCode.NOT_FOUND
        )
    return chosen


def _explain_none(invocation: Invocation, run: Run) -> None:
    from nightcrew_cli.view import text

    invocation.note("no log: no worker was launched")
    invocation.err.print(text.verdict(run, invocation.clock.now()), soft_wrap=True)
    invocation.next_steps([(f"nightcrew runs show {run.run_id}", "what happened")])


def _print_raw(invocation: Invocation, connection: Connection, attempt: Attempt) -> None:
    stream = getattr(invocation.out.file, "buffer", None)
    for key, _, _ in connection.exchange.log_parts(attempt):
        data = connection.exchange.read(key)
        if stream is not None:
            stream.write(data)
    if stream is not None:
        stream.flush()


def _print_lines(invocation: Invocation, connection: Connection, attempt: Attempt, tail: int | None) -> None:
    from nightcrew_cli.view.clean import Lines
    from nightcrew_cli.watch import LogReader

    lines, kept = Lines(), deque[str](maxlen=tail)
    write = invocation.out.file.write

    def take(news: list[str]) -> None:
        if tail is not None:
            kept.extend(news)
            return
        for line in news:
            write(f"{line}\n")

    empty = True
    for data in LogReader(connection.exchange, attempt).news():
        empty = False
        take(lines.feed(data))
    take(lines.feed(b"", final=True))
    for line in kept:
        write(f"{line}\n")
    if empty:
        invocation.note(f"no log yet of attempt {attempt.number}: its worker has written nothing")
