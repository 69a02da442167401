"""Write lost records again: from the tags of the workers, the rosters of their launches, and their results.

Nothing is launched or ended here, and no record that exists is touched. What is written is a record that events
and sweeps carry on with; what cannot be told for certain is reported instead.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

from nightcrew.domain import rebuild
from nightcrew.domain import tags as tag
from nightcrew.domain.job import Job
from nightcrew.domain.rebuild import BrokenRoster, PastResult, Roster
from nightcrew.domain.run import Attempt, Limits, Run
from nightcrew.domain.sweep import SeenWorker, WorkerState
from nightcrew.usecases.operate import ScheduleRecord
from nightcrew.usecases.ports import Clock, Nonces

logger = logging.getLogger("nightcrew")

# A look reads the newest rosters only; one that finds something missing, or is to repair, reads this many.
SAMPLE = 20
MOST = 2000


@dataclass(frozen=True, slots=True)
class PastLaunch:
    launch: str
    at: datetime


class Archive(Protocol):
    """The exchange bucket. Every method raises UnreadableError."""

    def launches(self, since: datetime) -> Sequence[PastLaunch]:
        """Return the launches that got a worker since then, newest first."""
        ...

    def roster(self, launch: str) -> Roster | BrokenRoster | None:
        """Return what the launch was for, or None when there is no roster."""
        ...

    def result(self, attempt: Attempt) -> PastResult | None:
        """Return what the attempt's worker reported and when, or None when it did not."""
        ...


class LostRuns(Protocol):
    def get_many(self, run_ids: Iterable[str]) -> Mapping[str, Run | None]: ...

    def restore(self, run: Run) -> bool:
        """Write record and worker rows; return False, and write nothing, when there is a record already."""
        ...


class LostJobs(Protocol):
    def get(self, name: str, revision: str) -> Job | None: ...

    def current(self, name: str) -> Job | None: ...

    def restore(self, job: Job, now: datetime) -> bool:
        """Make the job the applied one; return False, and change nothing, when one is applied already."""
        ...


class Inventory(Protocol):
    def all_ours(self) -> Sequence[SeenWorker]: ...

    def describe(self, instance_ids: Sequence[str]) -> Mapping[str, SeenWorker]: ...


class ScheduleList(Protocol):
    def all(self) -> Sequence[ScheduleRecord]:
        """Return every schedule of the stack's group. Raises UnreadableError."""
        ...


@dataclass(frozen=True, slots=True)
class LostRun:
    """A run without a record, as its record would be now. Its nonce is drawn when it is written."""

    run: Run
    instance_id: str


@dataclass(frozen=True, slots=True)
class Unrecoverable:
    """A worker or run that has no record and cannot get one, with why, and what becomes of it."""

    subject: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What is lost. `orphans` are schedules whose job cannot be told; `unread` counts older rosters left unread."""

    runs: tuple[LostRun, ...] = ()
    jobs: tuple[Job, ...] = ()
    unrecoverable: tuple[Unrecoverable, ...] = ()
    orphans: tuple[str, ...] = ()
    unread: int = 0

    @property
    def can_write(self) -> bool:
        return bool(self.runs or self.jobs)


@dataclass(frozen=True, slots=True)
class Written:
    """What became of one lost record."""

    subject: str
    done: bool
    text: str


@dataclass(slots=True)
class _Found:
    """What one survey has come across so far. Of a run's launches the newest one counts."""

    newest: dict[str, tuple[Roster, SeenWorker | None]] = field(default_factory=dict)
    jobs: dict[tuple[str, str], Job] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)

    def add(self, roster: Roster, seen: SeenWorker | None) -> None:
        run = roster.run
        self.jobs.setdefault((run.job.name, run.job.revision), run.job)
        before = self.newest.get(run.run_id)
        if before is None or roster.place > before[0].place:
            self.newest[run.run_id] = (roster, seen)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuild:
    stack: str
    workers: Inventory
    runs: LostRuns
    jobs: LostJobs
    schedules: ScheduleList
    archive: Archive
    nonces: Nonces
    clock: Clock
    limits: Limits

    def survey(self, *, window: timedelta, thorough: bool) -> Survey:
        """Return what has no record and what that would be. Changes nothing. Raises UnreadableError."""
        found = _Found()
        stray = self._read_living(found)
        orphans = self._orphans()
        launches = self.archive.launches(self.clock.now() - window)
        lost, unrecoverable = self._read_past(launches[:SAMPLE], found)
        read = SAMPLE
        if thorough or lost or unrecoverable or stray or orphans:
            read = MOST
            lost, unrecoverable = self._read_past(launches[SAMPLE:MOST], found)
        jobs = [job for name, revision in orphans if (job := self._job(name, revision, found))]
        restored = {job.name for job in jobs}
        return Survey(
            runs=tuple(lost),
            jobs=tuple(jobs),
            unrecoverable=(*stray, *unrecoverable),
            orphans=tuple(name for name, _ in orphans if name not in restored),
            unread=max(0, len(launches) - read),
        )

    def perform(self, survey: Survey) -> list[Written]:
        """Write what the survey found. A record that came into being meanwhile stays as it is."""
        return [self._write_job(job) for job in survey.jobs] + [self._write_run(lost) for lost in survey.runs]

    # ---- Reading -------------------------------------------------------------------------------------------

    def _read_living(self, found: _Found) -> list[Unrecoverable]:
        """Read the rosters of workers that are there and have no record; return those that no roster speaks for."""
        workers = self.workers.all_ours()  # Before the records, as in every sweep.
        records = self.runs.get_many(sorted({w.tags[tag.RUN] for w in workers if w.tags.get(tag.RUN)}))
        stray = []
        for worker in workers:
            run_id = worker.tags.get(tag.RUN, "")
            if run_id and (run_id not in records or records[run_id] is not None):
                continue  # It has a record, or one that cannot be read, which is not the same as lost.
            launch = worker.tags.get(tag.LAUNCH, "")
            roster = self.archive.roster(launch) if launch else None
            why = rebuild.contradiction(roster, worker, self.stack)
            if isinstance(roster, Roster) and not why:
                found.read.add(launch)
                found.add(roster, worker)
            else:
                stray.append(Unrecoverable(worker.instance_id, f"{run_id or 'no run'} has no record, and {why}"))
        return stray

    def _read_past(self, launches: Iterable[PastLaunch], found: _Found) -> tuple[list[LostRun], list[Unrecoverable]]:
        """Read these rosters, too; return what all that was read says about runs without a record."""
        for past in launches:
            if past.launch in found.read:
                continue
            found.read.add(past.launch)
            roster = self.archive.roster(past.launch)
            if isinstance(roster, BrokenRoster):
                found.broken[roster.run_id] = roster.why
            elif roster is not None and not rebuild.damage(roster, past.launch, self.stack):
                found.add(roster, None)
        records = self.runs.get_many(sorted({*found.newest, *filter(None, found.broken)}))
        lost_ids = [run_id for run_id, run in records.items() if run is None]
        broken = [Unrecoverable(run_id, found.broken[run_id]) for run_id in lost_ids if run_id not in found.newest]
        return self._lost([found.newest[run_id] for run_id in lost_ids if run_id in found.newest]), broken

    def _lost(self, missing: Sequence[tuple[Roster, SeenWorker | None]]) -> list[LostRun]:
        unseen = [roster.instance_ids[0] for roster, seen in missing if seen is None]
        described = self.workers.describe(unseen) if unseen else {}
        lost = []
        for roster, seen in missing:
            seen = seen or described.get(roster.instance_ids[0])
            run = self._as_it_is_now(roster, seen)
            if run is not None:
                lost.append(LostRun(run, seen.instance_id if seen else roster.instance_ids[0]))
        return sorted(lost, key=lambda item: item.run.run_id)

    def _as_it_is_now(self, roster: Roster, seen: SeenWorker | None) -> Run | None:
        """Return the run as its record would be, or None when it is too soon to tell."""
        now = self.clock.now()
        if seen is None and now < roster.written_at + self.limits.grace:
            return None  # EC2 may not show yet what was just launched.
        if seen is not None and seen.state not in {WorkerState.TERMINATED, WorkerState.STOPPED}:
            return rebuild.reopened(roster, seen, now, self.limits)
        past = self.archive.result(rebuild.with_worker(roster, seen))
        return rebuild.closed(roster, seen, past, now, self.limits)

    def _orphans(self) -> list[tuple[str, str]]:
        """Job and revision of each schedule whose ticks name something that has no record."""
        named = [named_by(schedule) for schedule in self.schedules.all()]
        return [key for key in named if self.jobs.get(*key) is None or self.jobs.current(key[0]) is None]

    def _job(self, name: str, revision: str, found: _Found) -> Job | None:
        """The job that a schedule names, if it is known from anywhere and none is applied under its name."""
        if self.jobs.current(name) is not None:
            return None
        return self.jobs.get(name, revision) or found.jobs.get((name, revision))

    # ---- Writing -------------------------------------------------------------------------------------------

    def _write_run(self, lost: LostRun) -> Written:
        # Drawn anew: rosters do not hold it, and launch ids of later attempts must not be guessable from them.
        run = replace(lost.run, nonce=self.nonces.draw())
        return _written(run.run_id, f"record rebuilt: {run.status}", lambda: self.runs.restore(run))

    def _write_job(self, job: Job) -> Written:
        now = self.clock.now()
        return _written(job.name, f"job rebuilt: revision {job.revision}", lambda: self.jobs.restore(job, now))


def _written(subject: str, done: str, write: Callable[[], bool]) -> Written:
    """Write one record; a failure is told, and the next one gets its turn."""
    try:
        is_new = write()
    except Exception as error:
        logger.exception("record could not be rebuilt", extra={"subject": subject})
        return Written(subject, False, f"could not be written: {error}")
    return Written(subject, is_new, done if is_new else "there is a record by now; it was not touched")


def named_by(schedule: ScheduleRecord) -> tuple[str, str]:
    """Return job and revision that a schedule's ticks name; its own name and no revision when they name none."""
    try:
        payload = json.loads(schedule.payload)
        return str(payload["job"]), str(payload["revision"])
    except (KeyError, TypeError, ValueError):
        return schedule.name, ""
