"""run: begin a run by hand, and wait for its end."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from nightcrew_cli import exits
from nightcrew_cli.exits import ExitCode
from nightcrew_cli.failures import CommandError
from nightcrew_cli.invocation import Invocation
from nightcrew_cli.options import command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nightcrew.domain.run import Run
    from nightcrew_cli.session import Connection
    from nightcrew_cli.view.progress import Progress

PANEL = "Runs"
_RECORD_TRIES = 5
_RECENT_RUNS = 20


def register(app: typer.Typer) -> None:
    command(
        app,
        "run",
        panel=PANEL,
        examples=[
            "nightcrew run nightly-report",
            "nightcrew run nightly-report --wait && echo done",
            "nightcrew run nightly-report --follow --exit-status",
        ],
    )(run)


def run(
    invocation: Invocation,
    job: Annotated[
        str, typer.Argument(metavar="JOB", help="Name of an applied job, or its unique beginning.", show_default=False)
    ],
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Wait until the run has ended.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait, and print its log as it grows.")] = False,
    exit_status: Annotated[bool, typer.Option("--exit-status", help="Exit with the job's own exit code.")] = False,
    wait_timeout: Annotated[
        str | None, typer.Option("--wait-timeout", help="Wait no longer than this, such as 30m.", show_default=False)
    ] = None,
) -> None:
    """Run a job now.

    Prints the id of the run. With --wait or --follow the exit code says how it ended; Ctrl-C stops the waiting,
    not the run.
    """
    from nightcrew.usecases.references import find_job

    waits = wait or follow or exit_status or wait_timeout is not None
    until = _until(invocation, wait_timeout)
    connection = invocation.connect()
    found = find_job(job, connection.jobs)
    started = connection.launcher.start(found.name, found.revision, invocation.clock.now())
    if invocation.is_for_people:
        invocation.out.file.write(f"{started.run_id}\n")
        invocation.out.file.flush()
    if not waits:
        _show_started(invocation, connection, started.run_id, started.reason)
        return
    first = _record(invocation, connection, started.run_id)
    ended = watch(invocation, connection, first, with_log=follow, until=until)
    finish(invocation, ended, own_code=exit_status)


def _until(invocation: Invocation, wait_timeout: str | None) -> datetime | None:
    if wait_timeout is None:
        return None
    from nightcrew_cli.jobfile.quantity import parse_duration

    try:
        return invocation.clock.now() + parse_duration(wait_timeout)
    except ValueError as error:
        raise CommandError(f"--wait-timeout: {error}", code=ExitCode.USAGE) from error


def _show_started(invocation: Invocation, connection: Connection, run_id: str, reason: str) -> None:
    from nightcrew_cli.view import data

    if not invocation.is_for_people:
        invocation.show("", data.short_run(_record(invocation, connection, run_id)))
        return
    if reason:
        invocation.note(reason)
    invocation.next_steps(
        [
            (f"nightcrew logs -f {run_id}", "follow its log"),
            (f"nightcrew runs show {run_id}", "how it stands"),
            (f"nightcrew cancel {run_id}", "call it off"),
        ]
    )


def _record(invocation: Invocation, connection: Connection, run_id: str) -> Run:
    for _ in range(_RECORD_TRIES):
        run = connection.runs.get(run_id)
        if run is not None:
            return run
        invocation.clock.sleep(1)
    raise CommandError(f"the launcher began {run_id}, and there is no record of it", "nightcrew ps")


def watch(
    invocation: Invocation,
    connection: Connection,
    run: Run,
    *,
    with_log: bool,
    until: datetime | None = None,
    only: int | None = None,
    on_look: Callable[[Run], None] | None = None,
) -> Run:
    """Wait for the run's end, or until Ctrl-C, which leaves the run alone and ends the program with 101."""
    from nightcrew_cli.preview import usual_time
    from nightcrew_cli.view.progress import Progress
    from nightcrew_cli.watch import LogFollower, Watcher

    usual = usual_time(connection.runs.recent(run.job.name, _RECENT_RUNS))
    progress = Progress(
        invocation.out,
        invocation.err,
        invocation.clock,
        usual=usual,
        quiet=invocation.options.quiet,
    )
    on_line = progress.line if invocation.is_for_people else progress.line_aside
    log = LogFollower(connection.exchange, progress.attempt, on_line, only=only) if with_log else None
    looks = [progress.look, *([on_look] if on_look else [])]
    watcher = Watcher(runs=connection.runs, clock=invocation.clock, on_look=looks, log=log)
    with _detaching(invocation, run.run_id), _shown(progress):
        return watcher.until_ended(run, until=until)


@contextmanager
def _shown(progress: Progress) -> Iterator[None]:
    with progress.showing():
        yield


@contextmanager
def _detaching(invocation: Invocation, run_id: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        invocation.err.print(f"detached: {run_id} goes on", markup=False, soft_wrap=True)
        invocation.next_steps(
            [(f"nightcrew logs -f {run_id}", "follow it again"), (f"nightcrew cancel {run_id}", "call it off")]
        )
        raise typer.Exit(ExitCode.STILL_RUNNING) from None


def finish(invocation: Invocation, run: Run, *, own_code: bool = False) -> None:
    """Say how the run ended, and leave with the exit code that says it, too."""
    from nightcrew_cli.view import data, text

    if invocation.is_for_people:
        invocation.err.print(text.verdict(run, invocation.clock.now()), soft_wrap=True)
        if exits.of_run(run) is not ExitCode.OK:
            has_log = any(attempt.worker for attempt in run.attempts)
            steps = [(f"nightcrew runs show {run.run_id}", "what happened")]
            invocation.next_steps([*steps, *([(f"nightcrew logs {run.run_id}", "its log")] if has_log else [])])
    else:
        invocation.show("", data.run(run))
    code = exits.of_command(run) if own_code else exits.of_run(run)
    if code:
        raise typer.Exit(code)
