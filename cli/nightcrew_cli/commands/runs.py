"""runs list|show|outputs: runs and what they left."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nightcrew_cli.commands.arguments import RunId
from nightcrew_cli.commands.jobs import PANEL
from nightcrew_cli.exits import ExitCode
from nightcrew_cli.failures import CommandError
from nightcrew_cli.invocation import Invocation
from nightcrew_cli.options import command, group

if TYPE_CHECKING:
    from nightcrew.domain.run import Attempt, Run
    from nightcrew_cli.session import Connection


def register(app: typer.Typer) -> None:
    runs = group("Runs and what they left.")
    command(
        runs,
        "list",
        examples=[
            "nightcrew runs list",
            "nightcrew runs list nightly-report --status FAILED,MISSED",
            "nightcrew runs list -o jsonl",
        ],
    )(list_runs)
    command(
        runs, "show", examples=["nightcrew runs show @last", "nightcrew runs show nightly-report-20261123T023000Z"]
    )(show)
    command(
        runs, "outputs", examples=["nightcrew runs outputs @last", "nightcrew runs outputs @last --download ./out"]
    )(outputs)
    app.add_typer(runs, name="runs", rich_help_panel=PANEL)


def list_runs(
    invocation: Invocation,
    job: Annotated[
        str | None, typer.Argument(metavar="JOB", help="Only this job's. Default: all jobs.", show_default=False)
    ] = None,
    status: Annotated[
        str | None, typer.Option("--status", help="Only these, such as FAILED,MISSED.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="At most so many.")] = 20,
) -> None:
    """List runs, newest first."""
    from rich.text import Text

    from nightcrew_cli.view import data
    from nightcrew_cli.view.runs import run_table

    connection = invocation.connect()
    wanted = _statuses(status)
    # Filters are applied here: the index knows job and time only.
    looked_at = limit if wanted is None else max(limit * 10, 200)
    runs = _runs_of(connection, job, looked_at)
    runs = [run for run in runs if wanted is None or run.status.value in wanted][:limit]
    table = run_table(runs, invocation.clock.now()) if runs else Text("no runs")
    invocation.show(table, [data.short_run(run) for run in runs])


def _statuses(text: str | None) -> set[str] | None:
    from nightcrew.domain.run import RunStatus

    if text is None:
        return None
    wanted = {word.strip().upper() for word in text.split(",") if word.strip()}
    known = {status.value for status in RunStatus}
    if not wanted or wanted - known:
        raise CommandError(
            f"--status {text!r}: allowed are {', '.join(sorted(known))}, separated by commas", code=ExitCode.USAGE
        )
    return wanted


def _runs_of(connection: Connection, job: str | None, limit: int) -> list[Run]:
    from nightcrew.usecases.operate import NotFoundError
    from nightcrew.usecases.references import find_job

    if job is None:
        found = [run for one in connection.jobs.all_current() for run in connection.runs.recent(one.name, limit)]
        return sorted(found, key=lambda run: run.created_at, reverse=True)
    try:
        return connection.runs.recent(find_job(job, connection.jobs).name, limit)
    except NotFoundError:
        runs = connection.runs.recent(job, limit)  # A job that was taken off still has its runs.
        if not runs:
            raise
        return runs


def show(invocation: Invocation, run: RunId) -> None:
    """Show one run: attempts, workers, timeline, cost, places."""
    from nightcrew.usecases.references import find_run
    from nightcrew_cli.prices import price_book
    from nightcrew_cli.view import data
    from nightcrew_cli.view.runs import story

    connection = invocation.connect()
    found = find_run(run, connection.jobs, connection.runs)
    places = places_of(connection, found)
    parts = story(found, invocation.clock.now(), prices=price_book(), region=connection.region, places=places)
    invocation.show(parts, {**data.run(found), "places": dict(places)})
    invocation.next_steps(next_commands(found))


def places_of(connection: Connection, run: Run) -> list[tuple[str, str]]:
    """Return where the newest worker's outputs and log are, when there was one."""
    attempt = newest_worked(run)
    if attempt is None:
        return []
    uri = connection.exchange.output_uri(attempt)
    return [("outputs", uri), ("log", uri.removesuffix("outputs/") + "log/")]


def newest_worked(run: Run) -> Attempt | None:
    """Return the newest attempt that had a worker."""
    return next((attempt for attempt in reversed(run.attempts) if attempt.worker), None)


def next_commands(run: Run) -> list[tuple[str, str]]:
    if not run.status.is_terminal:
        return [
            (f"nightcrew logs -f {run.run_id}", "follow its log"),
            (f"nightcrew cancel {run.run_id}", "call it off"),
        ]
    steps = [(f"nightcrew run {run.job.name}", "run the job again, now")]
    if newest_worked(run):
        steps = [
            (f"nightcrew logs {run.run_id}", "its log"),
            (f"nightcrew runs outputs {run.run_id} --download .", "its outputs"),
            *steps,
        ]
    return steps


def outputs(
    invocation: Invocation,
    run: RunId,
    attempt: Annotated[
        int | None, typer.Option("--attempt", min=1, help="Default: the newest with a worker.", show_default=False)
    ] = None,
    download: Annotated[
        Path | None, typer.Option("--download", "-d", help="Download them into this folder.", show_default=False)
    ] = None,
) -> None:
    """List the files that a run left, or download them."""
    from rich.text import Text

    from nightcrew.usecases.references import find_run
    from nightcrew_cli.downloads import download_outputs
    from nightcrew_cli.view.tables import table
    from nightcrew_cli.view.text import printable, size

    connection = invocation.connect()
    found = find_run(run, connection.jobs, connection.runs)
    chosen = _attempt(found, attempt)
    files = connection.exchange.outputs(chosen)
    if download is not None:
        written = download_outputs(connection.exchange, chosen, download)
        invocation.show([Text(str(path)) for path in written], [str(path) for path in written])
        invocation.note(f"{len(written)} of {len(files)} files downloaded to {download}")
        return
    rows = [(printable(path), size(count)) for path, count in files]
    listed = [{"path": path, "bytes": count} for path, count in files]
    invocation.show(table(("FILE", "SIZE>"), rows) if rows else Text("no outputs"), listed)
    invocation.note(connection.exchange.output_uri(chosen))


def _attempt(run: Run, number: int | None) -> Attempt:
    attempts = [one for one in run.attempts if one.worker and number in {None, one.number}]
    if not attempts:
        which = f"attempt {number} of {run.run_id}" if number else run.run_id
        raise CommandError(f"{which} had no worker, and so no outputs", code=ExitCode.NOT_FOUND)
    return attempts[-1]
