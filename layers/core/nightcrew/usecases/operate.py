"""What a person does to the stack: apply jobs and take them off, each time only what differs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

from nightcrew.domain.job import Job
from nightcrew.usecases.errors import NightcrewError
from nightcrew.usecases.ports import Clock

# Scheduler's own bounds of how long it goes on delivering one tick.
_SHORTEST_EVENT_AGE = timedelta(minutes=1)
_LONGEST_EVENT_AGE = timedelta(days=1)


class OperatorError(NightcrewError):
    """A person's wish cannot be fulfilled; `hints` say why, or what to do next."""

    def __init__(self, what: str, *hints: str) -> None:
        super().__init__(what)
        self.hints = hints


class NotFoundError(OperatorError):
    pass


class JobCatalogue(Protocol):
    def current(self, name: str) -> Job | None:
        """Return the job as it was last applied, or None when it is not applied."""
        ...

    def all_current(self) -> Sequence[Job]: ...

    def put(self, job: Job, now: datetime) -> None: ...

    def remove(self, name: str) -> None:
        """Take the job off; its revisions and runs stay readable."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRecord:
    """One schedule of EventBridge Scheduler, with everything we decide about it."""

    name: str
    expression: str
    timezone: str
    is_enabled: bool
    longest_event_age: int
    payload: str
    target: str
    role: str
    dead_letters: str
    created_at: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleTarget:
    """Where this stack's schedules deliver, and as whom."""

    launcher: str
    role: str
    dead_letters: str


class Schedules(Protocol):
    def get(self, name: str) -> ScheduleRecord | None:
        """Return the job's schedule as it is, or None when there is none."""
        ...

    def put(self, schedule: ScheduleRecord, *, exists: bool) -> None: ...

    def remove(self, name: str) -> None:
        """A schedule that is not there is removed already."""
        ...


class FileStore(Protocol):
    def has(self, key: str) -> bool: ...

    def put_files(self, key: str, data: bytes) -> None: ...


class Change(StrEnum):
    CREATE = "create"
    UPDATE = "update"
    REMOVE = "remove"
    NONE = "unchanged"


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One value that differs; None stands for "not there"."""

    path: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What applying one job would change: its record, its schedule, or neither."""

    name: str
    job: Job | None
    record: Change
    schedule: Change
    fields: tuple[FieldChange, ...] = ()
    before: Job | None = None
    found_schedule: ScheduleRecord | None = None

    @property
    def change(self) -> Change:
        """The one word for both; a job whose schedule alone is missing or different is updated."""
        if self.record is not Change.NONE:
            return self.record
        return Change.NONE if self.schedule is Change.NONE else Change.UPDATE


def desired_schedule(job: Job, target: ScheduleTarget) -> ScheduleRecord | None:
    """Return the schedule that fires this job's ticks, or None for a job that is run by hand only."""
    schedule = job.schedule
    if schedule is None:
        return None
    if len(schedule.expressions) != 1:
        raise OperatorError(
            f"job {job.name!r} has {len(schedule.expressions)} schedule expressions, and a job has one schedule",
            "make it two jobs",
        )
    age = min(max(schedule.start_within, _SHORTEST_EVENT_AGE), _LONGEST_EVENT_AGE)
    return ScheduleRecord(
        name=job.name,
        expression=schedule.expressions[0],
        timezone=schedule.timezone,
        is_enabled=schedule.enabled,
        longest_event_age=int(age.total_seconds()),
        payload=json.dumps(
            {"job": job.name, "revision": job.revision, "scheduled_time": "<aws.scheduler.scheduled-time>"}
        ),
        target=target.launcher,
        role=target.role,
        dead_letters=target.dead_letters,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Operate:
    """Applies and removes jobs. Every step can be repeated: a second time it finds nothing to do."""

    jobs: JobCatalogue
    schedules: Schedules
    files: FileStore
    target: ScheduleTarget
    clock: Clock

    def difference(self, job: Job) -> Difference:
        """Return what applying this job would change."""
        before = self.jobs.current(job.name)
        found = self.schedules.get(job.name)
        fields = field_changes(before.to_json() if before else {}, job.to_json())
        return Difference(
            name=job.name,
            job=job,
            record=_record_change(before, job),
            schedule=_schedule_change(found, desired_schedule(job, self.target)),
            fields=fields,
            before=before,
            found_schedule=found,
        )

    def removals(self, keep: Iterable[str]) -> list[Difference]:
        """Return what taking off every job but these would change."""
        kept = set(keep)
        return [self.removal(job) for job in self.jobs.all_current() if job.name not in kept]

    def removal(self, job: Job) -> Difference:
        found = self.schedules.get(job.name)
        schedule = Change.NONE if found is None else Change.REMOVE
        return Difference(
            name=job.name, job=None, record=Change.REMOVE, schedule=schedule, before=job, found_schedule=found
        )

    def perform(self, difference: Difference, archive: bytes | None = None) -> None:
        """Make it so: files, then the record, then the schedule, so that no tick names what is not there yet.

        Taking off goes the other way round, for the same reason.
        """
        job = difference.job
        if job is None:
            self.schedules.remove(difference.name)
            self.jobs.remove(difference.name)
            return
        if job.files is not None and archive is not None and not self.files.has(job.files.key):
            self.files.put_files(job.files.key, archive)
        if difference.record is not Change.NONE:
            self.jobs.put(job, self.clock.now())
        wanted = desired_schedule(job, self.target)
        if wanted is None:
            if difference.schedule is Change.REMOVE:
                self.schedules.remove(job.name)
        elif difference.schedule is not Change.NONE:
            self.schedules.put(wanted, exists=difference.schedule is Change.UPDATE)


def _record_change(before: Job | None, job: Job) -> Change:
    if before is None:
        return Change.CREATE
    return Change.NONE if before.revision == job.revision else Change.UPDATE


def _schedule_change(found: ScheduleRecord | None, wanted: ScheduleRecord | None) -> Change:
    if found == wanted:
        return Change.NONE
    if found is None:
        return Change.CREATE
    return Change.REMOVE if wanted is None else Change.UPDATE


def field_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[FieldChange, ...]:
    """Return every leaf that differs between two JSON objects, in the order of the new one."""
    old, new = dict(_leaves(before)), dict(_leaves(after))
    paths = [*new, *(path for path in old if path not in new)]
    return tuple(FieldChange(path, old.get(path), new.get(path)) for path in paths if old.get(path) != new.get(path))


def _leaves(value: Any, path: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}" if path else str(key))
    elif value not in (None, [], ""):
        yield path, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
