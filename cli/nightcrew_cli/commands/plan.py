"""plan: what a job's next run would be, exactly, before anything is changed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nightcrew_cli.commands.jobfiles import PANEL, Paths, load
from nightcrew_cli.exits import ExitCode
from nightcrew_cli.failures import CommandError, explain
from nightcrew_cli.invocation import Invocation
from nightcrew_cli.options import command

if TYPE_CHECKING:
    from nightcrew.usecases.operate import Difference, Operate

    from nightcrew_cli.jobfile.loader import JobFile
    from nightcrew_cli.session import Connection
    from nightcrew_cli.view.plan import JobPlan

_RECENT_RUNS = 20


def register(app: typer.Typer) -> None:
    command(
        app,
        "plan",
        panel=PANEL,
        examples=[
            "nightcrew plan",
            "nightcrew plan jobs/nightly-report.yaml --offline",
            "nightcrew plan --detailed-exitcode  # 3 when something would change, for CI",
        ],
    )(plan)


def plan(
    invocation: Invocation,
    paths: Paths = None,
    ticks: Annotated[int, typer.Option("--ticks", help="How many coming ticks to show.", min=0, max=100)] = 5,
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask AWS anything.")] = False,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit with 3 when something would change.")
    ] = False,
) -> None:
    """Show changes, the exact launch, its price and the next ticks.

    Changes nothing. Without a stack the comparison is left out, and values that only the stack knows have placeholders.
    """
    from nightcrew.usecases.operate import Change

    from nightcrew_cli.prices import price_book
    from nightcrew_cli.view.plan import changes_line, plan_data, plan_view

    files = load(invocation, paths)
    if offline and detailed_exitcode:
        raise CommandError("--detailed-exitcode compares with the stack: not with --offline", code=ExitCode.USAGE)
    connection = None if offline else _connected(invocation, needed=detailed_exitcode)
    operate = connection.operate(invocation.clock) if connection else None
    plans = [_plan_of(invocation, file, connection, operate, ticks) for file in files]
    now, prices = invocation.clock.now(), price_book()
    parts: list[Any] = []
    for item in plans:
        parts += [*plan_view(item, prices, now), ""]
    differences = [item.difference for item in plans if item.difference]
    invocation.show(parts, [plan_data(item, prices) for item in plans])
    if differences and invocation.is_for_people:
        invocation.out.print(changes_line(differences), markup=False)
        invocation.next_steps([("nightcrew apply", "make it so")])
    if detailed_exitcode and any(difference.change is not Change.NONE for difference in differences):
        raise typer.Exit(ExitCode.DIFFERENCES)


def _connected(invocation: Invocation, *, needed: bool) -> Connection | None:
    """Return the connection, or None with a note why there is none: the rest of the plan needs no stack."""
    try:
        connection = invocation.connect()
        _ = connection.outputs
        return connection
    except Exception as error:  # whatever keeps us from the stack, its explanation is the note
        if needed:
            raise
        failure = explain(error)
        invocation.err.print(f"offline: {failure.what}", style="yellow", markup=False, soft_wrap=True)
        for hint in failure.hints:
            invocation.note(f"  {hint}")
        return None


def _plan_of(
    invocation: Invocation, file: JobFile, connection: Connection | None, operate: Operate | None, count: int
) -> JobPlan:
    from nightcrew.usecases.errors import LaunchInputError

    from nightcrew_cli import preview
    from nightcrew_cli.prices import price_book
    from nightcrew_cli.view.plan import JobPlan

    job, now = file.job, invocation.clock.now()
    difference = operate.difference(job) if operate else None
    refusal, launch = "", None
    try:
        launch = preview.preview(job, now, connection)
    except LaunchInputError as error:
        refusal = str(error)
    found = difference.found_schedule if difference else None
    anchor = found.created_at if found else None
    ticks = preview.next_ticks(job, now, count, anchor=anchor)
    region = _region(invocation, connection)
    recent = connection.runs.recent(job.name, _RECENT_RUNS) if connection else []
    return JobPlan(
        file=_shown(file.path),
        job=job,
        difference=difference,
        preview=launch,
        refusal=refusal,
        ticks=ticks,
        no_ticks=_why_no_ticks(job.schedule is None, count, preview.is_rate(job), difference),
        warnings=[warning.message for warning in file.warnings],
        estimates=preview.estimates(job, region, price_book(), recent),
        region=region,
    )


def _why_no_ticks(by_hand: bool, count: int, is_rate: bool, difference: Difference | None) -> str:
    if by_hand:
        return "none: it is run by hand (nightcrew run)"
    if not count:
        return "not asked for"
    if is_rate and (difference is None or difference.found_schedule is None):
        return "counted from the moment it is applied"
    return "none: the schedule is paused or over"


def _region(invocation: Invocation, connection: Connection | None) -> str:
    if connection is not None:
        return connection.region
    environment = invocation.environment
    return invocation.options.region or environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or ""


def _shown(path: Path) -> str:
    return str(path)
