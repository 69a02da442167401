"""Examine a stack: every check by itself, so that one that cannot be made says so and stops no other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from nightcrew.domain import tags as tag
from nightcrew.domain.run import Limits, Run
from nightcrew.domain.sweep import Leak, SeenWorker, find_leaks
from nightcrew.usecases.diagnosis import Finding, Health
from nightcrew.usecases.errors import NightcrewError
from nightcrew.usecases.operate import JobCatalogue, ScheduleRecord, ScheduleTarget, desired_schedule
from nightcrew.usecases.rebuild import Survey, named_by

logger = logging.getLogger("nightcrew")

# The due sweep comes every minute and a worker takes some to end: a run that is open longer past its deadline is stuck.
_STUCK_AFTER = timedelta(minutes=10)
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    make: Callable[[], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Explanation:
    what: str
    command: str = ""


def examine(checks: Iterable[Check], explain: Callable[[Exception], Explanation]) -> Iterator[Finding]:
    """Yield what every check finds; one that cannot be made is unknown, which is not ok."""
    for check in checks:
        try:
            yield from check.make()
        except Exception as error:
            logger.debug("check could not be made", exc_info=True, extra={"check": check.name})
            told = explain(error)
            yield Finding(check=check.name, health=Health.UNKNOWN, text=told.what, command=told.command)


class JobRecords(JobCatalogue, Protocol):
    def get(self, name: str, revision: str) -> object | None:
        """Return the job of that revision, or None when it has no record."""
        ...


class Records(Protocol):
    def get_many(self, run_ids: Iterable[str]) -> Mapping[str, Run | None]: ...

    def open(self) -> Sequence[Run]: ...


# ---- Schedules ---------------------------------------------------------------------------------------------


def schedules(
    found: Sequence[ScheduleRecord], jobs: JobRecords, target: ScheduleTarget, restorable: frozenset[str]
) -> Iterator[Finding]:
    """Compare what AWS will fire with what is applied. `restorable` are jobs that a rebuild can bring back."""
    by_name = {schedule.name: schedule for schedule in found}
    applied = {job.name: job for job in jobs.all_current()}
    problems: list[Finding] = []
    for name, job in applied.items():
        problems += _differences(name, by_name.get(name), desired_schedule(job, target))
    for schedule in found:
        problems += _dangling(schedule, jobs, is_applied=schedule.name in applied, restorable=restorable)
    yield from problems
    if not problems:
        yield _schedule(Health.OK, f"{len(found)} for {len(applied)} applied jobs, all as applied")


def _differences(name: str, found: ScheduleRecord | None, wanted: ScheduleRecord | None) -> Iterator[Finding]:
    if found == wanted:
        return
    if found is None:
        yield _schedule(Health.FAIL, f"{name} has none", "its ticks do not come")
    elif wanted is None:
        yield _schedule(Health.FAIL, f"{name} has one, and should run by hand only", "it runs unasked")
    elif wanted.is_enabled and not found.is_enabled:
        yield _schedule(Health.FAIL, f"that of {name} is disabled", "somebody paused it by hand: its ticks do not come")
    else:
        yield _schedule(Health.WARN, f"that of {name} differs from what was applied", "somebody changed it by hand")


def _dangling(
    schedule: ScheduleRecord, jobs: JobRecords, *, is_applied: bool, restorable: frozenset[str]
) -> Iterator[Finding]:
    name, revision = named_by(schedule)
    if is_applied and jobs.get(name, revision) is not None:
        return
    lost = f"revision {revision or '(none)'} of {name}" if is_applied else f"the job {name}"
    command = "nightcrew doctor --fix" if name in restorable else "nightcrew apply jobs/"
    meaning = "its ticks end in the dead letters, or run what nobody has applied"
    yield _schedule(Health.FAIL, f"that of {schedule.name} names {lost}, which has no record", meaning, command)


def _schedule(health: Health, text: str, meaning: str = "", command: str = "") -> Finding:
    command = command or ("" if health is Health.OK else "nightcrew apply jobs/")
    return Finding(check="schedules", health=health, text=text, meaning=meaning, command=command)


# ---- Workers and runs --------------------------------------------------------------------------------------


def workers(
    seen: Sequence[SeenWorker],
    records: Callable[[], Records],
    rebuildable: frozenset[str],
    *,
    now: datetime,
    limits: Limits,
    aws: str,
) -> Iterator[Finding]:
    """Judge every worker as the inventory sweep does. Those that a rebuild gives a record are no leaks."""
    trouble, runs = "", {}
    try:
        run_ids = sorted({worker.tags[tag.RUN] for worker in seen if worker.tags.get(tag.RUN)})
        runs = dict(records().get_many(run_ids)) if run_ids else {}
        trouble = "" if set(run_ids) <= set(runs) else "some records cannot be read"
    except NightcrewError as error:
        trouble = f"the records cannot be read: {error}"
    findings = find_leaks(seen, runs, now, limits)
    leaks = [leak for leak in (*findings.leaks, *findings.spared) if leak.instance_id not in rebuildable]
    if leaks:
        yield _leaks(leaks, aws)
    if trouble:
        text = f"{len(seen)} are there, judged by their deadline tags alone: {trouble}"
        yield Finding(check="workers", health=Health.UNKNOWN, text=text)
    elif not leaks:
        yield Finding(check="workers", health=Health.OK, text=f"{len(seen)} are there, none that should not be")


def _leaks(leaks: Sequence[Leak], aws: str) -> Finding:
    told = "; ".join(f"{leak.instance_id}: {leak.reason}" for leak in leaks[:_SHOWN])
    ids = " ".join(leak.instance_id for leak in leaks)
    return Finding(
        check="workers",
        health=Health.FAIL,
        text=f"{len(leaks)} should not be there: {told}{_more(leaks)}",
        meaning="they cost money; the inventory sweep ends them within ten minutes, unless it is in trouble itself",
        command=f"nightcrew doctor, ten minutes later; if they are still there: {aws} ec2 terminate-instances "
        f"--instance-ids {ids}",
        leaks=len(leaks),
    )


def open_runs(records: Records, now: datetime) -> Iterator[Finding]:
    runs = [run for run in records.open() if not run.status.is_terminal]
    stuck = [run for run in runs if now >= run.deadline + _STUCK_AFTER]
    if not stuck:
        yield Finding(check="runs", health=Health.OK, text=f"{len(runs)} open, none past its deadline")
        return
    yield Finding(
        check="runs",
        health=Health.FAIL,
        text=f"{len(stuck)} open past their deadline: {_listed([run.run_id for run in stuck])}",
        meaning="the due sweep should have ended them: see the reaper above",
        command=f"nightcrew runs show {stuck[0].run_id}",
    )


def lost_records(survey: Survey, hours: int) -> Iterator[Finding]:
    """What a survey found missing; jobs are told by the schedules that name them."""
    if survey.runs:
        yield Finding(
            check="records",
            health=Health.FAIL,
            text=f"{len(survey.runs)} runs have none: {_listed([lost.run.run_id for lost in survey.runs])}",
            meaning="the table lost them; tags, rosters and results still tell what they were",
            command="nightcrew doctor --fix",
        )
    for item in survey.unrecoverable:
        yield Finding(
            check="records",
            health=Health.FAIL,
            text=f"{item.subject}: {item.why}",
            meaning="it cannot be rebuilt; a worker of it ends at its deadline tag at the latest",
        )
    if not survey.runs and not survey.unrecoverable:
        rest = f"; {survey.unread} older ones were not looked at" if survey.unread else ""
        yield Finding(
            check="records", health=Health.OK, text=f"none is missing for the launches of the last {hours} h{rest}"
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + _more(names)


def _more(items: Sequence[object]) -> str:
    return f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
