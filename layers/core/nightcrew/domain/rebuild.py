"""What a lost record must have said: from the roster of the launch, the worker as AWS shows it, and its result."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from nightcrew.domain import tags as tag
from nightcrew.domain.job import Retry
from nightcrew.domain.lifecycle import Event, Launched, ResultWritten, WorkerEnding, decide, notice_sent
from nightcrew.domain.result import Result
from nightcrew.domain.run import Attempt, Limits, Run, RunStatus, Worker
from nightcrew.domain.sweep import SeenWorker, gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """What the launcher left for its workers: the run as it was frozen right before its record named the worker."""

    launch: str
    run: Run
    instance_ids: tuple[str, ...]
    written_at: datetime

    @property
    def attempt(self) -> Attempt:
        """The attempt it was launched for. Raises ValueError when there is none; `damage` says so beforehand."""
        if self.run.attempt is None:
            raise ValueError(f"{self.run.run_id}: a roster's record without an attempt")
        return self.run.attempt

    @property
    def place(self) -> tuple[int, int]:
        """Where it stands among the launches of its run."""
        return (self.attempt.number, self.attempt.step)


@dataclass(frozen=True, slots=True)
class BrokenRoster:
    """A roster that holds no record we can read; `run_id` is empty when not even that can be told."""

    run_id: str
    why: str


@dataclass(frozen=True, slots=True)
class PastResult:
    result: Result
    at: datetime


def damage(roster: Roster, launch: str, stack: str) -> str:
    """Why this roster is not what the launcher of this stack wrote for this launch; empty when it is."""
    run = roster.run
    if roster.launch != launch or run.attempt is None or run.attempt.launch != launch:
        return "its roster is for another launch"
    if run.stack != stack or run.status is not RunStatus.LAUNCHING or not roster.instance_ids:
        return "its roster holds a record that no launcher of this stack wrote"
    return ""


def contradiction(roster: Roster | BrokenRoster | None, worker: SeenWorker, stack: str) -> str:
    """Why this roster cannot speak for this worker; empty when it can."""
    if roster is None:
        return "it has no roster"
    if isinstance(roster, BrokenRoster):
        return roster.why
    why = damage(roster, worker.tags.get(tag.LAUNCH, ""), stack)
    if why:
        return why
    run = roster.run
    said = {tag.RUN: run.run_id, tag.ATTEMPT: str(roster.attempt.number), tag.STACK: run.stack, tag.JOB: run.job.name}
    for name, value in said.items():
        if worker.tags.get(name) != value:
            return f"its roster says {name} {value}, its tags say {worker.tags.get(name)}"
    return "" if worker.instance_id in roster.instance_ids else "its roster names another worker"


def reopened(roster: Roster, seen: SeenWorker, now: datetime, limits: Limits) -> Run:
    """Return the run of a worker that is still there, for events and sweeps to carry on with."""
    run = _launched(roster, seen.as_worker, seen.launched_at, limits)
    return run.noted(now, "record rebuilt from tags and roster")


def closed(roster: Roster, seen: SeenWorker | None, past: PastResult | None, now: datetime, limits: Limits) -> Run:
    """Return the run of a worker that is gone: ended as its result says, or lost.

    Its budgets are put aside meanwhile: whether another attempt was made, refused or called off went with the
    record, so none is made now.
    """
    instance_id = seen.instance_id if seen else roster.instance_ids[0]
    run = _launched(roster, _worker(roster, seen), seen.launched_at if seen else roster.written_at, limits)
    job = run.job
    run = replace(run, job=replace(job, retry=Retry(attempts=1, interruptions=0)))
    source, at = "roster; its worker is gone", now
    events: tuple[Event, ...] = (gone(instance_id, seen),)
    if past is not None and past.result.launch == roster.launch:
        source, at = "roster and result", past.at
        events = (ResultWritten(instance_id, past.result), WorkerEnding(instance_id, is_final=True))
    for event in events:
        run = decide(run, event, at, limits).run
    # Whoever rebuilds it is told its outcome at once; a notice of it days later would be read as news.
    return notice_sent(replace(run, job=job)).noted(now, f"record rebuilt from {source}")


def with_worker(roster: Roster, seen: SeenWorker | None) -> Attempt:
    """Return the roster's attempt with its worker: what finds its result."""
    return replace(roster.attempt, worker=_worker(roster, seen))


def _worker(roster: Roster, seen: SeenWorker | None) -> Worker:
    """The worker as AWS shows it, or what the plan still tells of one that AWS has forgotten."""
    if seen is not None:
        return seen.as_worker
    plan = roster.run.plan
    capacity_type = plan.steps[roster.attempt.step].capacity_type.value if plan else ""
    return Worker(instance_id=roster.instance_ids[0], instance_type="", capacity_type=capacity_type)


def _launched(roster: Roster, worker: Worker, at: datetime, limits: Limits) -> Run:
    # At the time of the launch, not of the rebuilding: the timeout is counted from it.
    launched = Launched(roster.attempt.number, worker)
    return decide(roster.run, launched, max(at, roster.attempt.created_at), limits).run
