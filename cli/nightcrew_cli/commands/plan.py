"""plan: what a job's next run would be, exactly, before anything is changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nightcrew_cli.commands.jobfiles import PANEL, Paths, load
from nightcrew_cli.exits import ExitCode
from nightcrew_cli.failures import CommandError, explain
from nightcrew_cli.invocation import Invocation
from nightcrew_cli.options import command

if TYPE_CHECKING:
    from nightcrew.usecases.operate import Difference
    from nightcrew_cli.clock import Clock
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
    reach = _Reach(None, _region_said(invocation)) if offline else _reach(invocation, needed=detailed_exitcode)
    plans = [_plan_of(file, reach, invocation.clock, ticks) for file in files]
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


@dataclass(frozen=True, slots=True)
class _Reach:
    """How far we got: the stack, or only the Region whose prices count."""

    connection: Connection | None
    region: str


def _reach(invocation: Invocation, *, needed: bool) -> _Reach:
    """Connect; without a stack say why, and go on unless it is needed: the rest of the plan needs none."""
    from botocore.exceptions import BotoCoreError, ClientError

    from nightcrew.usecases.errors import NightcrewError

    region = _region_said(invocation)
    try:
        connection = invocation.connect()
        region = connection.region
        _ = connection.outputs
        return _Reach(connection, region)
    except (NightcrewError, BotoCoreError, ClientError) as error:
        if needed:
            raise
        failure = explain(error)
        invocation.err.print(f"offline: {failure.what}", style="yellow", markup=False, soft_wrap=True)
        for hint in failure.hints:
            invocation.note(f"  {hint}")
        return _Reach(None, region)


def _region_said(invocation: Invocation) -> str:
    environment = invocation.environment
    return invocation.options.region or environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or ""


def _plan_of(file: JobFile, reach: _Reach, clock: Clock, count: int) -> JobPlan:
    from nightcrew.usecases.errors import LaunchInputError
    from nightcrew_cli import preview
    from nightcrew_cli.prices import price_book
    from nightcrew_cli.view.plan import JobPlan

    job, now, connection = file.job, clock.now(), reach.connection
    difference = connection.operate(clock).difference(job) if connection else None
    refusal, launch = "", None
    try:
        launch = preview.preview(job, now, connection)
    except LaunchInputError as error:
        refusal = str(error)
    found = difference.found_schedule if difference else None
    anchor = found.created_at if found else None
    ticks = preview.next_ticks(job, now, count, anchor=anchor)
    recent = connection.runs.recent(job.name, _RECENT_RUNS) if connection else []
    return JobPlan(
        file=str(file.path),
        job=job,
        difference=difference,
        preview=launch,
        refusal=refusal,
        ticks=ticks,
        no_ticks=_why_no_ticks(job.schedule is None, count, preview.is_rate(job), difference),
        warnings=[warning.message for warning in file.warnings],
        estimates=preview.estimates(job, reach.region, price_book(), recent),
        region=reach.region,
    )


def _why_no_ticks(by_hand: bool, count: int, is_rate: bool, difference: Difference | None) -> str:
    if by_hand:
        return "none: it is run by hand (nightcrew run)"
    if not count:
        return "not asked for"
    if is_rate and (difference is None or difference.found_schedule is None):
        return "counted from the moment it is applied"
    return "none: the schedule is paused or over"
