"""The inventory sweep's judgement: which of the things that carry our tags must not be there any more.

It believes tags and AWS. Records, where they can be read, only add findings; they never excuse a worker
that is past its deadline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from nightcrew.domain import tags as tag
from nightcrew.domain.job import OnFinish
from nightcrew.domain.lifecycle import WorkerEnding
from nightcrew.domain.run import Attempt, Limits, Outcome, Run, Worker


class WorkerState(StrEnum):
    """EC2's instance states."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    SHUTTING_DOWN = "shutting-down"
    TERMINATED = "terminated"

    @property
    def is_ending(self) -> bool:
        """Whether EC2 has stopped billing the machine and only a new command could bring it back."""
        return self in {WorkerState.STOPPING, WorkerState.STOPPED, WorkerState.SHUTTING_DOWN, WorkerState.TERMINATED}

    @property
    def is_gone(self) -> bool:
        return self in {WorkerState.SHUTTING_DOWN, WorkerState.TERMINATED}


class EndCause(StrEnum):
    """Who ended an instance, as far as AWS says."""

    UNKNOWN = "unknown"
    ITSELF = "itself"
    OUTSIDE = "outside"
    INTERRUPTION = "interruption"
    NO_CAPACITY = "no_capacity"
    QUOTA = "quota"
    NOT_STARTABLE = "not_startable"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenWorker:
    """An instance as AWS describes it. `end_reason` is AWS's own wording of the cause."""

    instance_id: str
    state: WorkerState
    launched_at: datetime
    tags: Mapping[str, str]
    instance_type: str = ""
    capacity_type: str = ""
    zone: str = ""
    private_address: str = ""
    public_address: str = ""
    end_cause: EndCause = EndCause.UNKNOWN
    end_reason: str = ""

    @property
    def as_worker(self) -> Worker:
        return Worker(
            instance_id=self.instance_id,
            instance_type=self.instance_type,
            capacity_type=self.capacity_type,
            zone=self.zone,
            private_address=self.private_address,
            public_address=self.public_address,
        )


def gone(instance_id: str, seen: SeenWorker | None) -> WorkerEnding:
    """Return what it means for an open attempt that its worker is gone; None is an instance AWS has forgotten."""
    if seen is None:
        return WorkerEnding(instance_id, is_final=True, message="AWS knows the worker no more, and it left no result")
    outcome, text = _GONE[seen.end_cause]
    said = f" ({seen.end_reason})" if seen.end_reason else ""
    return WorkerEnding(instance_id, is_final=True, outcome=outcome, message=f"{text}{said}")


_GONE = {
    EndCause.UNKNOWN: (Outcome.LOST, "the worker is gone and left no result"),
    EndCause.ITSELF: (Outcome.LOST, "the worker shut itself down and left no result"),
    EndCause.OUTSIDE: (Outcome.LOST, "the worker was ended from outside and left no result"),
    EndCause.INTERRUPTION: (Outcome.INTERRUPTED, "EC2 took the Spot worker back"),
    EndCause.NO_CAPACITY: (Outcome.NO_CAPACITY, "EC2 accepted the worker and then had no capacity for it"),
    EndCause.QUOTA: (Outcome.QUOTA_EXCEEDED, "EC2 accepted the worker and then met a quota"),
    EndCause.NOT_STARTABLE: (Outcome.LAUNCH_FAILED, "EC2 could not start the worker; often its disk's KMS key"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOver:
    """A volume or network interface that carries our tags and is attached to nothing.

    AWS does not say when an interface was made: `created_at` is None, and its deadline tag has to tell its age.
    """

    resource_id: str
    created_at: datetime | None
    deadline: datetime | None = None


class Certainty(StrEnum):
    """How a finding came about: by the clock alone, or by comparing with records that might be wrong."""

    DEADLINE = "deadline"
    COMPARED = "compared"


@dataclass(frozen=True, slots=True)
class Leak:
    instance_id: str
    action: OnFinish
    certainty: Certainty
    reason: str


@dataclass(frozen=True, slots=True)
class Findings:
    """What a sweep found. `spared` are leaks above the cap: reported and alarmed, not ended."""

    leaks: tuple[Leak, ...]
    spared: tuple[Leak, ...] = ()
    distrusted: bool = False


def find_leaks(
    workers: Sequence[SeenWorker], runs: Mapping[str, Run | None], now: datetime, limits: Limits
) -> Findings:
    """Return what must be ended now. `runs` holds an answer for the run of each worker: None is "no record".

    A run id that is missing from `runs` could not be read, and unknown is never taken for absent: only the
    clock can end its workers. When not one worker has a record, the records are distrusted as a whole.
    """
    leaks = [leak for worker in workers if (leak := judge(worker, runs, now, limits))]
    certain = [leak for leak in leaks if leak.certainty is Certainty.DEADLINE]
    compared = [leak for leak in leaks if leak.certainty is Certainty.COMPARED]
    alive = [worker for worker in workers if not worker.state.is_gone]
    if _looks_lost(alive, runs):
        return Findings(tuple(certain), tuple(compared), distrusted=True)
    cap = max(10, len(alive) // 5)
    return Findings((*certain, *compared[:cap]), tuple(compared[cap:]))


def _looks_lost(alive: Sequence[SeenWorker], runs: Mapping[str, Run | None]) -> bool:
    """Three workers and more without a single record between them: a lost table, not three leaks."""
    asked = [worker.tags.get(tag.RUN, "") for worker in alive]
    return len(alive) >= 3 and all(run_id in runs and runs[run_id] is None for run_id in asked)


def judge(worker: SeenWorker, runs: Mapping[str, Run | None], now: datetime, limits: Limits) -> Leak | None:
    """Return why this worker must end, or None. The one place where a worker is judged without an event."""
    if worker.state.is_gone:
        return None
    run_id = worker.tags.get(tag.RUN, "")
    run = runs.get(run_id)
    overdue = _overdue(worker, run, now, limits)
    if overdue:
        return Leak(worker.instance_id, OnFinish.TERMINATE, Certainty.DEADLINE, overdue)
    if worker.state in {WorkerState.STOPPING, WorkerState.STOPPED} and _is_kept(worker):
        return None
    if now < worker.launched_at + limits.grace or run_id not in runs:
        return None
    if run is None:
        return Leak(worker.instance_id, OnFinish.TERMINATE, Certainty.COMPARED, f"run {run_id} has no record")
    reason = _not_needed(worker, run, now, limits)
    if not reason:
        return None
    action = OnFinish.STOP if _is_kept(worker) and run.attempt_of(worker.instance_id) else OnFinish.TERMINATE
    return Leak(worker.instance_id, action, Certainty.COMPARED, reason)


def _is_kept(worker: SeenWorker) -> bool:
    return worker.tags.get(tag.ON_FINISH) == OnFinish.STOP


def _overdue(worker: SeenWorker, run: Run | None, now: datetime, limits: Limits) -> str:
    """Why the clock alone ends this worker; empty when it does not."""
    if now >= worker.launched_at + limits.max_worker_age + limits.keep_stopped:
        return "older than any worker may be"
    deadline = tag.deadline_of(worker.tags) or (run.deadline if run else None)
    if deadline is None:
        # Unknown is not unlimited: a deadline that cannot be read gives a shorter life, never a longer one.
        deadline = worker.launched_at + limits.unreadable_deadline
    if worker.state is WorkerState.STOPPED and _is_kept(worker):
        deadline += limits.keep_stopped
    return f"past its deadline {tag.format_time(deadline)}" if now >= deadline else ""


def _not_needed(worker: SeenWorker, run: Run, now: datetime, limits: Limits) -> str:
    """Why the record says that this worker should not be there; empty when it should."""
    attempt = run.attempt_of(worker.instance_id)
    if attempt is None:
        return _unrecorded(worker, run)
    if attempt.outcome is not None and _waited(attempt, now, limits):
        return f"attempt {attempt.number} of {run.run_id} has ended ({attempt.outcome})"
    return ""


def _waited(attempt: Attempt, now: datetime, limits: Limits) -> bool:
    """Long enough for the command that follows the decision, and for EC2 to end what it interrupts itself."""
    return attempt.ended_at is None or now >= attempt.ended_at + limits.grace


def _unrecorded(worker: SeenWorker, run: Run) -> str:
    launching = run.attempt
    under_way = launching is not None and launching.worker is None and launching.outcome is None
    if under_way and launching is not None and worker.tags.get(tag.LAUNCH) == launching.launch:
        return ""  # The launcher will repeat its call and get this very worker.
    return f"not the worker of any attempt of {run.run_id}"


def is_left_over(thing: LeftOver, now: datetime, limits: Limits) -> bool:
    """Whether an unattached volume or interface of ours is old enough not to be in the middle of a launch."""
    if thing.created_at is not None:
        return now >= thing.created_at + limits.grace
    # All tags come with the launch: without a deadline it is not in the middle of one.
    return thing.deadline is None or now >= thing.deadline
