"""What a run of a job would be: the launcher's own plan and requests, and what they would cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING

from nightcrew.domain import schedule as scheduler
from nightcrew.domain.job import Job
from nightcrew.domain.lifecycle import launch_request, new_run
from nightcrew.domain.plan import Image, LaunchPlan, LaunchRequest, Subnet, Template, make_plan
from nightcrew.domain.run import Run, RunStatus, Trigger, launch_id
from nightcrew_cli.prices import PriceBook

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nightcrew_cli.session import Connection

# Drawn for each run, and secret; a preview has none.
_NONCE = "preview"
UNKNOWN_AT_HOME = "(known at launch)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """`requests` are exact when they were built from the stack's own settings, else some values are placeholders."""

    requests: tuple[LaunchRequest, ...]
    is_exact: bool


def preview(job: Job, now: datetime, connection: Connection | None) -> Preview:
    """Return the launch of this job's next run. Raises LaunchInputError when the launcher would refuse it."""
    plan, stack = _plan_at_home(job), "nightcrew"
    if connection is not None:
        plan, stack = _plan_of_launcher(job, connection), connection.stack
    tick = next_ticks(job, now, 1)
    run = new_run(
        job,
        stack=stack,
        scheduled_at=tick[0] if tick else now.replace(microsecond=0),
        trigger=Trigger.SCHEDULE if tick else Trigger.MANUAL,
        nonce=_NONCE,
        now=now,
        plan=plan,
    )
    requests = tuple(_request_of_step(run, step) for step in range(len(plan.steps)))
    return Preview(requests=requests, is_exact=connection is not None)


def _plan_of_launcher(job: Job, connection: Connection) -> LaunchPlan:
    """The same calls and the same decision as the launcher's, with the launcher's own settings."""
    settings, inputs = connection.launcher_settings, connection.launch_inputs
    return make_plan(
        job,
        template=settings.template,
        image=inputs.image(job.compute.image),
        subnets=inputs.subnets(job.compute.subnets or settings.subnets),
    )


def _plan_at_home(job: Job) -> LaunchPlan:
    subnets = tuple(Subnet(subnet, f"(zone of {subnet})") for subnet in job.compute.subnets)
    return make_plan(
        job,
        template=Template(template_id="(the stack's)", version="(pinned)"),
        image=Image(image_id=job.compute.image, root_device=UNKNOWN_AT_HOME),
        subnets=subnets or (Subnet("(the stack's)", "(each zone)"),),
    )


def _request_of_step(run: Run, step: int) -> LaunchRequest:
    first = run.attempts[0]
    return launch_request(run.with_attempt(replace(first, step=step, launch=launch_id(_NONCE, 1, step))))


def next_ticks(job: Job, now: datetime, count: int, *, anchor: datetime | None = None) -> list[datetime]:
    """Return the coming ticks; none for a job that is run by hand, paused, or over.

    A rate counts from when its schedule was created: without that `anchor` its ticks are not known.
    """
    schedule = job.schedule
    if schedule is None or not schedule.enabled or (is_rate(job) and anchor is None):
        return []
    parsed, ticks, after = scheduler.parse(*schedule.expressions), list[datetime](), now
    while len(ticks) < count:
        tick = parsed.next_tick(after, schedule.timezone, anchor=anchor)
        if tick is None:
            break
        ticks.append(tick)
        after = tick
    return ticks


def is_rate(job: Job) -> bool:
    return job.schedule is not None and any(text.startswith("rate") for text in job.schedule.expressions)


def clock_changes(job: Job, now: datetime) -> list[str]:
    """Return what the coming year's clock changes do to this job's ticks."""
    if job.schedule is None:
        return []
    timezone = job.schedule.timezone
    return [
        str(note)
        for expression in job.schedule.expressions
        for note in scheduler.dst_notes(expression, timezone, now, now + timedelta(days=365))
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """USD on-demand for the cheapest and the dearest type of a job; None where the price list does not say."""

    label: str
    duration: timedelta
    lowest: float | None
    highest: float | None


def estimates(job: Job, region: str, prices: PriceBook, runs: Iterable[Run]) -> list[Estimate]:
    """Return what a run costs: as long as runs usually take, one attempt in full, and until the deadline."""
    spans = [("one attempt, in full", job.timeout), ("the whole run, at most", job.deadline)]
    usual = usual_time(runs)
    if usual is not None:
        spans.insert(0, ("as usual (recent runs)", usual))
    return [_estimate(label, duration, job.compute.instance_types, region, prices) for label, duration in spans]


def _estimate(
    label: str, duration: timedelta, instance_types: Sequence[str], region: str, prices: PriceBook
) -> Estimate:
    costs = [prices.cost(instance_type, region, duration) for instance_type in instance_types]
    known = [cost for cost in costs if cost is not None]
    complete = len(known) == len(costs)
    # One unknown price leaves both ends unknown: the dearest type may be the one that gets the worker.
    return Estimate(
        label=label,
        duration=duration,
        lowest=min(known) if complete else None,
        highest=max(known) if complete else None,
    )


def usual_time(runs: Iterable[Run]) -> timedelta | None:
    """Return the median worker time of runs that succeeded, or None when there was none."""
    times = [
        (attempt.ended_at - attempt.launched_at).total_seconds()
        for run in runs
        if run.status is RunStatus.SUCCEEDED and (attempt := run.attempt)
        if attempt.ended_at and attempt.launched_at
    ]
    return timedelta(seconds=median(times)) if times else None
