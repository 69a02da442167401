"""A checked job file to the compiled job: defaults that depend on other fields, aliases, expressions."""

from datetime import timedelta

from nightcrew.domain.job import Backoff, Compute, Files, Job, JobSchedule, Retry
from nightcrew_cli.jobfile import crontab, machine
from nightcrew_cli.jobfile.model import ComputeSection, JobSection, RetrySection, ScheduleSection

DEFAULT_TIMEOUT = timedelta(hours=1)
DEFAULT_START_WITHIN = timedelta(minutes=30)
LONGEST_DEADLINE = timedelta(days=7)
_MINUTE = timedelta(minutes=1)
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)


def compile_job(section: JobSection, files: Files | None = None) -> Job:
    """Return the job that the stack runs."""
    retry = _retry(section.retry)
    timeout = section.timeout or min(DEFAULT_TIMEOUT, section.deadline or DEFAULT_TIMEOUT)
    start_within = (section.schedule and section.schedule.start_within) or min(
        DEFAULT_START_WITHIN, section.deadline or DEFAULT_START_WITHIN
    )
    return Job(
        name=section.name,
        description=section.description,
        owner=section.owner,
        schedule=None if section.schedule is None else _schedule(section.schedule, start_within),
        command=section.command,
        env=dict(section.env),
        files=files,
        compute=_compute(section.compute),
        timeout=timeout,
        deadline=section.deadline or default_deadline(timeout, start_within, retry),
        retry=retry,
        on_finish=section.on_finish,
        tags=dict(section.tags),
    )


def default_deadline(timeout: timedelta, start_within: timedelta, retry: Retry) -> timedelta:
    """Return time for a late start, every attempt in full, one interrupted attempt again, and the waits between.

    Not for every interruption in full: the deadline is what bounds the bill, and most interruptions come early.
    """
    attempts = retry.attempts + min(retry.interruptions, 1)
    waits = sum((retry.backoff.delay(number) for number in range(1, attempts)), timedelta())
    total = start_within + attempts * timeout + waits
    return min(-(-total // _MINUTE) * _MINUTE, LONGEST_DEADLINE)


def rate_expression(every: timedelta) -> str:
    """Spell an interval in the largest unit that fits."""
    for unit, length in (("day", _DAY), ("hour", _HOUR), ("minute", _MINUTE)):
        count, rest = divmod(every, length)
        if not rest:
            return f"rate({count} {unit}{'' if count == 1 else 's'})"
    raise ValueError(f"{every} is not a whole number of minutes")


def _schedule(section: ScheduleSection, start_within: timedelta) -> JobSchedule:
    if section.cron is not None:
        expression = crontab.cron_expression(section.cron)
    elif section.every is not None:
        expression = rate_expression(section.every)
    else:
        assert section.at is not None  # checks.py refuses a schedule with none of the three
        expression = crontab.at_expression(section.at)
    return JobSchedule(
        expressions=(expression,), timezone=section.timezone, enabled=section.enabled, start_within=start_within
    )


def _compute(section: ComputeSection) -> Compute:
    images = machine.ALIASES.get(section.image)
    types = tuple(section.instance_types or machine.DEFAULT_TYPES[next(iter(images or {machine.ARM64: ""}))])
    return Compute(
        image=section.image if images is None else images[machine.architecture(types[0])],
        instance_types=types,
        capacity_type=section.capacity_type,
        disk_gib=section.disk,
        subnets=tuple(section.subnets),
    )


def _retry(section: RetrySection) -> Retry:
    backoff = section.backoff
    return Retry(
        attempts=section.attempts,
        interruptions=section.interruptions,
        backoff=Backoff(initial=backoff.initial, factor=backoff.factor, max=backoff.max),
    )
