"""What is known of a run: its attempts, their workers, and where it stands."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from nightcrew.domain.job import Job
from nightcrew.domain.plan import LaunchPlan, Refusal

HISTORY_LIMIT = 80


class RunStatus(StrEnum):
    """Where the run is. Why it ended is the outcome's business."""

    LAUNCHING = "LAUNCHING"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    RETRYING = "RETRYING"
    STOPPING = "STOPPING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    SKIPPED = "SKIPPED"
    MISSED = "MISSED"

    @property
    def is_terminal(self) -> bool:
        return self in _TERMINAL


_TERMINAL = frozenset({RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.SKIPPED, RunStatus.MISSED})


class Budget(StrEnum):
    """Who pays for another try: the job's own failures, or the world's."""

    ATTEMPTS = "attempts"
    INTERRUPTIONS = "interruptions"


class Outcome(StrEnum):
    """Why an attempt, and with the last attempt the run, ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    START_FAILED = "start_failed"
    TIMED_OUT = "timed_out"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    INTERRUPTED = "interrupted"
    LOST = "lost"
    NO_CAPACITY = "no_capacity"
    QUOTA_EXCEEDED = "quota_exceeded"
    LAUNCH_FAILED = "launch_failed"
    CANCELLED = "cancelled"
    MISSED = "missed"

    @property
    def budget(self) -> Budget | None:
        """The budget that pays for another attempt after this outcome; None means it is final.

        The one place that says what is retried. A timeout counts as the job's own failure.
        """
        return _BUDGETS.get(self)

    @property
    def status(self) -> RunStatus:
        """The terminal status of a run that ends with this outcome."""
        return _STATUSES.get(self, RunStatus.FAILED)


_BUDGETS = {
    Outcome.FAILED: Budget.ATTEMPTS,
    Outcome.START_FAILED: Budget.ATTEMPTS,
    Outcome.TIMED_OUT: Budget.ATTEMPTS,
    Outcome.INTERRUPTED: Budget.INTERRUPTIONS,
    Outcome.LOST: Budget.INTERRUPTIONS,
    Outcome.NO_CAPACITY: Budget.INTERRUPTIONS,
    Outcome.QUOTA_EXCEEDED: Budget.INTERRUPTIONS,
}

_STATUSES = {
    Outcome.SUCCEEDED: RunStatus.SUCCEEDED,
    Outcome.CANCELLED: RunStatus.CANCELLED,
    Outcome.MISSED: RunStatus.MISSED,
}


class Trigger(StrEnum):
    SCHEDULE = "schedule"
    MANUAL = "manual"


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """The EC2 instance of one attempt, with the details that are fetched once, when it runs."""

    instance_id: str
    instance_type: str
    capacity_type: str
    zone: str = ""
    private_address: str = ""
    public_address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of a run on one worker.

    `launch` names this attempt's current plan step in tags and exchange keys; nobody can guess it.
    `claimed_at` is when a launcher last set out to call for it, `contested` that an earlier one may have been
    calling still, `repeats` how many tokens of this step were spent on throttled, empty answers.
    `worker_ended` is set once AWS said that the worker is shutting down, stopped or gone: from then
    on it is no longer billed as running and needs no further command.
    """

    number: int
    step: int
    launch: str
    created_at: datetime
    worker: Worker | None = None
    launched_at: datetime | None = None
    running_at: datetime | None = None
    interrupted_at: datetime | None = None
    ended_at: datetime | None = None
    outcome: Outcome | None = None
    exit_code: int | None = None
    message: str = ""
    worker_ended: bool = False
    refusals: tuple[Refusal, ...] = ()
    claimed_at: datetime | None = None
    contested: bool = False
    repeats: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a run's history."""

    at: datetime
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One execution of a job: everything that is needed to carry on from here after any crash."""

    run_id: str
    stack: str
    job: Job
    trigger: Trigger
    scheduled_at: datetime
    created_at: datetime
    updated_at: datetime
    deadline: datetime
    nonce: str
    status: RunStatus
    plan: LaunchPlan | None = None
    attempts: tuple[Attempt, ...] = ()
    outcome: Outcome | None = None
    message: str = ""
    ended_at: datetime | None = None
    retry_at: datetime | None = None
    cancelled_by: str = ""
    notice: str = ""
    history: tuple[Entry, ...] = ()
    version: int = 1

    @property
    def attempt(self) -> Attempt | None:
        """The current attempt, or None when none was ever made (missed, refused before launch)."""
        return self.attempts[-1] if self.attempts else None

    @property
    def unended_workers(self) -> tuple[Attempt, ...]:
        """Attempts that are over while AWS has not said yet that their worker is ending."""
        return tuple(a for a in self.attempts if a.outcome and a.worker and not a.worker_ended)

    def attempt_of(self, instance_id: str) -> Attempt | None:
        """The attempt that was launched on this instance, or None."""
        return next((a for a in self.attempts if a.worker and a.worker.instance_id == instance_id), None)

    def with_attempt(self, attempt: Attempt) -> Run:
        """The run with the attempt of that number replaced."""
        return replace(self, attempts=tuple(attempt if a.number == attempt.number else a for a in self.attempts))

    def noted(self, now: datetime, text: str) -> Run:
        """The run with one more line of history; the oldest lines but the first go when it grows long."""
        history = (*self.history, Entry(now, text))
        if len(history) > HISTORY_LIMIT:
            history = (history[0], *history[-(HISTORY_LIMIT - 1) :])
        return replace(self, history=history, updated_at=now)

    def spent(self, budget: Budget) -> int:
        """How many attempts were charged to this budget so far."""
        return sum(1 for a in self.attempts if a.outcome and a.outcome.budget is budget)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long to wait before looking again, and before believing an absence.

    `grace` must be longer than the launcher's own timeout, so that a launch that is still under way is
    never taken for a crashed one.
    """

    grace: timedelta = timedelta(minutes=2)
    check_every: timedelta = timedelta(minutes=5)
    interruption_notice: timedelta = timedelta(minutes=3)
    keep_stopped: timedelta = timedelta(hours=72)
    max_worker_age: timedelta = timedelta(hours=168)
    unreadable_deadline: timedelta = timedelta(hours=1)


def run_id_of(job_name: str, scheduled_at: datetime, trigger: Trigger) -> str:
    """Return the id of the run of this tick: the same tick always gives the same id.

    A manual run has an id of its own, so that it never takes the place of a scheduled tick.
    """
    suffix = "-manual" if trigger is Trigger.MANUAL else ""
    return f"{job_name}-{scheduled_at:%Y%m%dT%H%M%SZ}{suffix}"


def launch_id(nonce: str, attempt: int, step: int) -> str:
    """Return the id under which one plan step's workers find their roster.

    Rosters are readable by every worker that knows the id, so it must not be guessable: `nonce` is drawn
    once for a run, kept in its record, and shown nowhere else.
    """
    return hashlib.sha256(f"{nonce}/{attempt}/{step}".encode()).hexdigest()[:32]


def due_at(run: Run, limits: Limits) -> datetime | None:
    """Return when the due sweep must look at this run again, or None when nothing is left to do.

    Every status that is not terminal has a due time: this is what lets a run end when no event arrives.
    """
    match run.status:
        case RunStatus.LAUNCHING:
            # Past its deadline a launch is looked at for its absence, and that needs the grace, too.
            return run.updated_at + limits.grace
        case RunStatus.STARTING | RunStatus.RUNNING:
            return min(run.updated_at + limits.check_every, _attempt_end(run, limits))
        case RunStatus.RETRYING:
            return max(run.retry_at or run.updated_at, _relaunch_not_before(run))
        case RunStatus.STOPPING:
            again = run.updated_at + min(limits.grace, limits.check_every)
            # A worker that is left to EC2 for a while is so no longer than to the deadline.
            return min(again, run.deadline) if run.updated_at < run.deadline else again
        case _:
            return run.updated_at if run.notice else None


def _attempt_end(run: Run, limits: Limits) -> datetime:
    attempt = run.attempt
    if attempt is None:
        return run.deadline
    if attempt.interrupted_at is not None:
        return min(run.deadline, attempt.interrupted_at + limits.interruption_notice)
    return min(run.deadline, timeout_at(run, attempt, limits))


def _relaunch_not_before(run: Run) -> datetime:
    """A retry that was asked for and did not start is asked for again half a minute later, not at once."""
    asked = run.retry_at is not None and run.updated_at > run.retry_at
    return run.updated_at + timedelta(seconds=30) if asked else run.updated_at


def timeout_at(run: Run, attempt: Attempt, limits: Limits) -> datetime:
    """Return when the control plane ends an attempt that its worker did not end at the job's timeout.

    The worker counts its timeout from the command's start; we only know when the instance ran. The grace
    covers boot and upload, so that a worker which keeps time always reports first.
    """
    since = attempt.running_at or attempt.launched_at or attempt.created_at
    return since + run.job.timeout + 2 * limits.grace
