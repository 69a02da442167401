"""What the fields of a job say about each other: contradictions, which are refused, and things worth knowing."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from nightcrew.domain import schedule as scheduler
from nightcrew.domain.job import CapacityType, Job, OnFinish
from nightcrew_cli.jobfile import crontab, machine
from nightcrew_cli.jobfile.model import JobSection, ScheduleSection
from nightcrew_cli.jobfile.problem import Finding, Path
from nightcrew_cli.jobfile.quantity import format_duration

_YEAR = timedelta(days=365)
_ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)
_FOREVER = datetime(2200, 1, 1, tzinfo=UTC)
_SECRET = re.compile("PASSWORD|PASSWD|SECRET|TOKEN|PRIVATE_KEY|API_KEY|ACCESS_KEY")

_Checked = tuple[Finding, tuple[Path, ...]]


def contradictions(job: JobSection) -> Iterator[_Checked]:
    """Yield what cannot be meant, each with the paths it is about."""
    if job.schedule is not None:
        yield from _schedule(job.schedule)
    yield from _limits(job)
    yield from _machine(job)


def warnings(job: JobSection, compiled: Job, now: datetime | None) -> Iterator[Finding]:
    """Yield what is allowed and still worth knowing; without `now` nothing that depends on the date."""
    if job.deadline is None:
        yield Finding(
            (), f"no deadline given: the run may take until {format_duration(compiled.deadline)} after its tick"
        )
    spot = job.compute.capacity_type is not CapacityType.ON_DEMAND
    if spot and job.retry.interruptions == 0:
        yield Finding(
            ("retry", "interruptions"), "with capacity on Spot and no interruptions, the first one ends the run"
        )
    for name in job.env:
        if _SECRET.search(name.upper()):
            yield Finding(
                ("env", name),
                f"{name!r} looks like a secret: env is stored and shown as it is; fetch it in the command",
            )
    if now is not None and compiled.schedule is not None:
        yield from _dates(compiled, now)


def _schedule(schedule: ScheduleSection) -> Iterator[_Checked]:
    kinds = [kind for kind in ("cron", "every", "at") if getattr(schedule, kind) is not None]
    all_kinds: tuple[Path, ...] = (("schedule", "cron"), ("schedule", "every"), ("schedule", "at"))
    if not kinds:
        yield Finding(("schedule",), "a schedule needs one of cron, every and at", at_key=True), all_kinds
    for kind in kinds[1:]:
        message = f"{kind!r} cannot stand beside {kinds[0]!r}: a schedule has one of cron, every and at"
        yield Finding(("schedule", kind), message, at_key=True), all_kinds
    if schedule.every is not None and schedule.every % timedelta(minutes=1):
        yield Finding(("schedule", "every"), "schedule.every: only whole minutes can be scheduled"), (all_kinds[1],)
    if schedule.cron is not None and _next(crontab.cron_expression(schedule.cron)) is None:
        yield (
            Finding(("schedule", "cron"), f"schedule.cron: {schedule.cron!r} names a day that never comes"),
            (all_kinds[0],),
        )
    if schedule.at is not None and _next(crontab.at_expression(schedule.at), schedule.timezone) is None:
        message = f"schedule.at: {schedule.at} does not exist in {schedule.timezone}, the clocks go forward over it"
        yield Finding(("schedule", "at"), message), (all_kinds[2], ("schedule", "timezone"))


def _limits(job: JobSection) -> Iterator[_Checked]:
    deadline = job.deadline
    if deadline is not None and job.timeout is not None and job.timeout > deadline:
        message = f"timeout: {format_duration(job.timeout)} is longer than the deadline, {format_duration(deadline)}"
        yield Finding(("timeout",), message), (("timeout",), ("deadline",))
    start_within = job.schedule.start_within if job.schedule is not None else None
    if deadline is not None and start_within is not None and start_within > deadline:
        late = ("schedule", "start_within")
        message = f"schedule.start_within: {format_duration(start_within)} is longer than the deadline"
        yield Finding(late, message), (late, ("deadline",))
    backoff = job.retry.backoff
    if backoff.initial > backoff.max:
        path: Path = ("retry", "backoff", "initial")
        initial, longest = format_duration(backoff.initial), format_duration(backoff.max)
        message = f"retry.backoff.initial: {initial} is longer than max, {longest}"
        yield Finding(path, message), (path, ("retry", "backoff", "max"))


def _machine(job: JobSection) -> Iterator[_Checked]:
    compute = job.compute
    image, types, capacity = ("compute", "image"), ("compute", "instance_types"), ("compute", "capacity_type")
    if job.on_finish is OnFinish.STOP and compute.capacity_type is not CapacityType.ON_DEMAND:
        message = f"on_finish: 'stop' is for on-demand workers; a {compute.capacity_type} worker may be a Spot instance"
        hint = "which cannot be stopped here: use 'terminate' or capacity_type on-demand"
        yield Finding(("on_finish",), message, hint), (("on_finish",), capacity)
    offered = machine.ALIASES.get(compute.image)
    if compute.instance_types is None:
        if offered is None:
            message = f"compute.instance_types is needed with {compute.image}: its architecture is not known here"
            yield Finding(image, message), (image, types)
        return
    wanted = machine.architectures(compute.instance_types)
    if len(wanted) > 1:
        first, other = (next(t for t in compute.instance_types if machine.architecture(t) == a) for a in wanted)
        message = (
            f"compute.instance_types: {first} is {wanted[0]} and {other} is {wanted[1]}; one image cannot run on both"
        )
        yield Finding((*types, compute.instance_types.index(other)), message), (types,)
    elif offered is not None and wanted[0] not in offered:
        first = compute.instance_types[0]
        message = f"compute.image: {compute.image} is for {', '.join(offered)}, but {first} is {wanted[0]}"
        yield Finding(image, message), (image, types)


def _dates(job: Job, now: datetime) -> Iterator[Finding]:
    schedule = job.schedule
    assert schedule is not None
    if not any(expression.startswith("rate") for expression in schedule.expressions):
        following = scheduler.parse(*schedule.expressions).next_tick(now, schedule.timezone)
        if following is None:
            message = "the schedule has no tick left: the job will not run again on its own"
            yield Finding(("schedule",), message, at_key=True)
    for expression in schedule.expressions:
        for note in scheduler.dst_notes(expression, schedule.timezone, now, now + _YEAR):
            yield Finding(("schedule",), str(note), at_key=True)


def _next(expression: str, timezone: str = "UTC") -> datetime | None:
    return scheduler.parse(expression).next_tick(_ALWAYS - timedelta(days=1), timezone)
