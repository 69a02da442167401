"""The run state machine. Every change of a run's status is decided here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never

from nightcrew.domain.job import CapacityType, Job, OnFinish
from nightcrew.domain.plan import LaunchPlan, LaunchRequest, Refusal, RefusalKind, client_token, worker_tags
from nightcrew.domain.result import Result, one_line
from nightcrew.domain.run import (
    Attempt,
    Budget,
    Limits,
    Outcome,
    Run,
    RunStatus,
    Trigger,
    Worker,
    launch_id,
    run_id_of,
    timeout_at,
)

# ---- Events: facts that reached us -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Launched:
    """CreateFleet answered with a worker (the same one, when the call was repeated)."""

    attempt: int
    worker: Worker


@dataclass(frozen=True, slots=True)
class Refused:
    """CreateFleet answered that it launched nothing."""

    attempt: int
    step: int
    kind: RefusalKind
    refusals: tuple[Refusal, ...]
    is_token_spent: bool = False


@dataclass(frozen=True, slots=True)
class LaunchAbsent:
    """AWS knows no worker of this launch, and the launcher that may have asked for one is long gone."""

    attempt: int


@dataclass(frozen=True, slots=True)
class WorkerRunning:
    """The worker runs; its details were read from AWS."""

    worker: Worker


@dataclass(frozen=True, slots=True)
class WorkerEnding:
    """The worker is shutting down, stopping, stopped, terminated, or not known to AWS any more.

    `is_final` is False while the guest may still be writing its result.
    """

    instance_id: str
    is_final: bool
    outcome: Outcome = Outcome.LOST
    message: str = ""


@dataclass(frozen=True, slots=True)
class InterruptionWarned:
    instance_id: str
    action: str


@dataclass(frozen=True, slots=True)
class WorkerNoted:
    """Something about the worker that is worth a line of history and nothing more."""

    instance_id: str
    text: str


@dataclass(frozen=True, slots=True)
class ResultWritten:
    """The worker's own result was read from under the prefix only that worker can write."""

    instance_id: str
    result: Result


@dataclass(frozen=True, slots=True)
class CancelRequested:
    by: str


@dataclass(frozen=True, slots=True)
class TimePassed:
    """The due sweep looked at everything outside and found no news: only time has passed."""


Event = (
    Launched
    | Refused
    | LaunchAbsent
    | WorkerRunning
    | WorkerEnding
    | InterruptionWarned
    | WorkerNoted
    | ResultWritten
    | CancelRequested
    | TimePassed
)

# ---- Commands: effects we ask for --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EndWorker:
    instance_id: str
    on_finish: OnFinish
    reason: str


@dataclass(frozen=True, slots=True)
class RequestLaunch:
    """Ask the launcher to carry on with this run: only its role may launch."""

    run_id: str


@dataclass(frozen=True, slots=True)
class SendNotice:
    subject: str
    text: str


Command = EndWorker | RequestLaunch | SendNotice


@dataclass(frozen=True, slots=True)
class Decision:
    run: Run
    commands: tuple[Command, ...] = ()
    reason: str = ""


# ---- Beginning ---------------------------------------------------------------------------------------------


def new_run(
    job: Job, *, stack: str, scheduled_at: datetime, trigger: Trigger, nonce: str, now: datetime, plan: LaunchPlan
) -> Run:
    """Return the record that is written before anything is launched."""
    run = _record(job, stack=stack, scheduled_at=scheduled_at, trigger=trigger, nonce=nonce, now=now)
    run = replace(run, plan=plan, attempts=(_attempt(run, 1, now),))
    return run.noted(now, f"run of tick {scheduled_at:%Y-%m-%d %H:%M:%S}Z accepted, {trigger}")


def ended_run(
    job: Job, *, stack: str, scheduled_at: datetime, trigger: Trigger, now: datetime, outcome: Outcome, message: str
) -> Run:
    """Return the record of a tick that never launched anything, with why: missed, or refused beforehand."""
    run = _record(job, stack=stack, scheduled_at=scheduled_at, trigger=trigger, nonce="", now=now)
    return _close(run, outcome, one_line(message), now)


def _record(job: Job, *, stack: str, scheduled_at: datetime, trigger: Trigger, nonce: str, now: datetime) -> Run:
    return Run(
        run_id=run_id_of(job.name, scheduled_at, trigger),
        stack=stack,
        job=job,
        trigger=trigger,
        scheduled_at=scheduled_at,
        created_at=now,
        updated_at=now,
        deadline=scheduled_at + job.deadline,
        nonce=nonce,
        status=RunStatus.LAUNCHING,
    )


def _attempt(run: Run, number: int, now: datetime) -> Attempt:
    return Attempt(number=number, step=0, launch=launch_id(run.nonce, number, 0), created_at=now, claimed_at=now)


def launch_request(run: Run) -> LaunchRequest:
    """Return the call that the current attempt's plan step stands for: from the record alone, the same every time."""
    attempt, plan = run.attempt, run.plan
    if attempt is None or plan is None:
        raise ValueError(f"{run.run_id}: nothing to launch: the record holds no attempt or no plan")
    return LaunchRequest(
        client_token=client_token(run.stack, run.run_id, attempt.number, attempt.step, attempt.repeats),
        launch=attempt.launch,
        template=plan.template,
        image=plan.image,
        disk_gib=plan.disk_gib,
        step=plan.steps[attempt.step],
        tags=worker_tags(
            run.job,
            stack=run.stack,
            run_id=run.run_id,
            attempt=attempt.number,
            launch=attempt.launch,
            deadline=run.deadline,
        ),
    )


_NO_TIME_LEFT = "the deadline passed while waiting for another attempt"


def begin_retry(run: Run, now: datetime) -> Decision:
    """Return the run with its next attempt to launch; unchanged when it is not waiting for one, or not yet."""
    if run.status is not RunStatus.RETRYING or run.retry_at is None or run.attempt is None:
        return Decision(run, reason=f"ignored: run is {run.status}, not waiting for a retry")
    if now < run.retry_at:
        return Decision(run, reason=f"ignored: the next attempt is not due before {run.retry_at:%H:%M:%S}Z")
    if now >= run.deadline:
        return _final(run, Outcome.DEADLINE_EXCEEDED, _NO_TIME_LEFT, now)
    attempt = _attempt(run, run.attempt.number + 1, now)
    begun = replace(run, status=RunStatus.LAUNCHING, retry_at=None, attempts=(*run.attempts, attempt))
    reason = f"attempt {attempt.number} begins"
    return Decision(begun.noted(now, reason), reason=reason)


def claim_launch(run: Run, now: datetime, limits: Limits) -> Decision:
    """Return the run as claimed by a launcher that is about to call for an attempt that others began.

    Two launchers may call under one token, and EC2 gives both the same worker. But "nothing was launched" is
    true only of the call that was answered so: going on to another token is left to a launcher that holds the
    last claim, while no earlier one can still have a call under way. The grace outlives every launcher.
    """
    attempt = run.attempt
    if run.status is not RunStatus.LAUNCHING or attempt is None or now >= run.deadline:
        return Decision(run, reason="ignored: nothing is to be launched")
    since = attempt.claimed_at or attempt.created_at
    claimed = replace(attempt, claimed_at=now, contested=now < since + limits.grace)
    return Decision(replace(run.with_attempt(claimed), updated_at=now), reason="launch is carried on")


# ---- Deciding ----------------------------------------------------------------------------------------------


def decide(run: Run, event: Event, now: datetime, limits: Limits) -> Decision:  # noqa: C901 one arm for each event
    """Return the run as it is after the event, and what has to be done about it.

    A late or repeated event is not an error: the run comes back unchanged, with a reason.
    """
    match event:
        case Launched():
            return _launched(run, event, now)
        case Refused():
            return _refused(run, event, now)
        case LaunchAbsent():
            return _launch_absent(run, event, now)
        case WorkerRunning():
            return _worker_running(run, event, now)
        case WorkerEnding():
            return _worker_ending(run, event, now)
        case InterruptionWarned():
            return _interruption_warned(run, event, now)
        case WorkerNoted():
            return _worker_noted(run, event, now)
        case ResultWritten():
            return _result_written(run, event, now)
        case CancelRequested():
            return _cancel(run, event, now)
        case TimePassed():
            return _time_passed(run, now, limits)
        case _:
            assert_never(event)


def _launched(run: Run, event: Launched, now: datetime) -> Decision:
    attempt = run.attempt
    if run.status is not RunStatus.LAUNCHING or attempt is None or attempt.number != event.attempt:
        return Decision(run, reason=f"ignored: attempt {event.attempt} is not being launched")
    launched = replace(attempt, worker=event.worker, launched_at=now)
    worker = event.worker
    reason = f"attempt {attempt.number}: worker {worker.instance_id} launched ({_describe(worker)})"
    started = replace(run.with_attempt(launched), status=RunStatus.STARTING).noted(now, reason)
    if run.cancelled_by:
        return _end_attempt(started, Outcome.CANCELLED, _cancel_text(run.cancelled_by), now)
    return Decision(started, reason=reason)


def _describe(worker: Worker) -> str:
    return ", ".join(part for part in (worker.instance_type, worker.zone, worker.capacity_type) if part)


def _refused(run: Run, event: Refused, now: datetime) -> Decision:
    attempt = run.attempt
    if run.status is not RunStatus.LAUNCHING or attempt is None or run.plan is None:
        return Decision(run, reason="ignored: the run is not being launched")
    if (attempt.number, attempt.step) != (event.attempt, event.step):
        return Decision(run, reason=f"ignored: about attempt {event.attempt} step {event.step}")
    if attempt.contested:
        return Decision(run, reason="ignored: another launcher may still be calling; the launch is repeated later")
    said = _summary(event.refusals)
    if event.kind is RefusalKind.THROTTLED:
        # Nothing was spent and nothing is wrong: the same call again, later.
        reason = f"launch throttled, will be repeated: {said}"
        throttled = run.with_attempt(replace(attempt, repeats=attempt.repeats + event.is_token_spent))
        return Decision(throttled.noted(now, reason), reason=reason)
    noted = run.with_attempt(replace(attempt, refusals=(*attempt.refusals, *event.refusals)))
    next_step = attempt.step + 1
    if event.kind.tries_next_step and next_step < len(run.plan.steps) and not run.cancelled_by:
        capacity_type = run.plan.steps[next_step].capacity_type
        launch = launch_id(run.nonce, attempt.number, next_step)
        tried = replace(noted.attempts[-1], step=next_step, launch=launch, claimed_at=now, repeats=0)
        reason = f"attempt {attempt.number}: {event.kind} refused ({said}); trying {capacity_type} next"
        return Decision(noted.with_attempt(tried).noted(now, reason), reason=reason)
    if run.cancelled_by:
        return _end_attempt(noted, Outcome.CANCELLED, _cancel_text(run.cancelled_by), now)
    return _end_attempt(noted, _REFUSED[event.kind], said, now)


_REFUSED = {
    RefusalKind.CAPACITY: Outcome.NO_CAPACITY,
    RefusalKind.QUOTA: Outcome.QUOTA_EXCEEDED,
    RefusalKind.CONFIGURATION: Outcome.LAUNCH_FAILED,
    RefusalKind.PERMISSION: Outcome.LAUNCH_FAILED,
    RefusalKind.WORKER_GONE: Outcome.LOST,
}


def _summary(refusals: tuple[Refusal, ...]) -> str:
    """One line that names each answer once, with how many pools gave it."""
    pools: dict[str, list[Refusal]] = {}
    for refusal in refusals:
        pools.setdefault(refusal.code, []).append(refusal)
    parts = [
        f"{code} in {len(said)} pool{'s' if len(said) > 1 else ''}: {said[0].message}" for code, said in pools.items()
    ]
    return one_line("; ".join(parts)) or "no worker, and no reason given"


def _launch_absent(run: Run, event: LaunchAbsent, now: datetime) -> Decision:
    if run.status is not RunStatus.LAUNCHING or run.attempt is None or run.attempt.number != event.attempt:
        return Decision(run, reason="ignored: the run is not being launched")
    if run.cancelled_by:
        return _end_attempt(run, Outcome.CANCELLED, _cancel_text(run.cancelled_by), now)
    if now >= run.deadline:
        return _end_attempt(run, Outcome.DEADLINE_EXCEEDED, "the deadline passed before a worker was launched", now)
    reason = "launch did not finish; it is repeated under the same token"
    return Decision(run.noted(now, reason), (RequestLaunch(run.run_id),), reason)


def _worker_running(run: Run, event: WorkerRunning, now: datetime) -> Decision:
    attempt = run.attempt_of(event.worker.instance_id)
    if attempt is None or run.status.is_terminal:
        return Decision(run, reason="ignored: not a worker of an open run")
    if attempt.running_at is not None:
        return Decision(run, reason="ignored: already known to run")
    reason = f"worker {event.worker.instance_id} runs ({_describe(event.worker)})"
    known = run.with_attempt(replace(attempt, worker=event.worker, running_at=now)).noted(now, reason)
    if attempt.outcome is None:
        known = replace(known, status=RunStatus.RUNNING)
    return Decision(known, reason=reason)


def _worker_ending(run: Run, event: WorkerEnding, now: datetime) -> Decision:
    attempt = run.attempt_of(event.instance_id)
    if attempt is None:
        return Decision(run, reason="ignored: not a worker of this run")
    if attempt.outcome is None:
        return _open_worker_ending(run, attempt, event, now)
    if attempt.worker_ended:
        return Decision(run, reason="ignored: already known to be ending")
    ended = run.with_attempt(replace(attempt, worker_ended=True))
    reason = f"worker {event.instance_id} is ending"
    return _settle(ended.noted(now, reason), now, reason)


def _open_worker_ending(run: Run, attempt: Attempt, event: WorkerEnding, now: datetime) -> Decision:
    """The worker ends while its attempt is open: it may be about to report, or it is lost."""
    if not event.is_final:
        if attempt.worker_ended:
            return Decision(run, reason="ignored: already known to be ending")
        reason = f"worker {event.instance_id} is shutting down; waiting for its result"
        return Decision(run.with_attempt(replace(attempt, worker_ended=True)).noted(now, reason), reason=reason)
    outcome = Outcome.INTERRUPTED if attempt.interrupted_at else event.outcome
    ended = run.with_attempt(replace(attempt, worker_ended=True))
    return _end_attempt(ended, outcome, event.message or "the worker is gone and left no result", now)


def _interruption_warned(run: Run, event: InterruptionWarned, now: datetime) -> Decision:
    attempt = run.attempt_of(event.instance_id)
    if attempt is None or attempt.outcome is not None:
        return Decision(run, reason="ignored: not the worker of an open attempt")
    if attempt.interrupted_at is not None:
        return Decision(run, reason="ignored: interruption already known")
    # No terminate here: the guest has two minutes to save its work, and an instance that EC2 itself
    # interrupts in its first hour is not charged. The due sweep ends it if EC2 does not.
    reason = f"worker {event.instance_id} has notice of interruption ({event.action})"
    warned = run.with_attempt(replace(attempt, interrupted_at=now))
    return Decision(warned.noted(now, reason), reason=reason)


def _worker_noted(run: Run, event: WorkerNoted, now: datetime) -> Decision:
    if run.status.is_terminal or run.attempt_of(event.instance_id) is None:
        return Decision(run, reason="ignored: not a worker of an open run")
    return Decision(run.noted(now, one_line(event.text)), reason=one_line(event.text))


def _result_written(run: Run, event: ResultWritten, now: datetime) -> Decision:
    attempt, result = run.attempt_of(event.instance_id), event.result
    if attempt is None:
        return Decision(run, reason="ignored: not a worker of this run")
    if result.launch != attempt.launch:
        return Decision(run, reason="ignored: the result belongs to another launch of that worker")
    if attempt.outcome is not None:
        return Decision(run, reason=f"ignored: attempt {attempt.number} has already ended ({attempt.outcome})")
    reported = run.with_attempt(replace(attempt, exit_code=result.exit_code))
    return _end_attempt(reported, result.outcome, result.message or result.outcome.value, now)


def _cancel_text(by: str) -> str:
    return one_line(f"cancelled by {by}")


def _cancel(run: Run, event: CancelRequested, now: datetime) -> Decision:
    if run.outcome is not None or run.status.is_terminal:
        return Decision(run, reason=f"ignored: run has already ended ({run.outcome})")
    text = _cancel_text(event.by)
    match run.status:
        case RunStatus.LAUNCHING:
            # A launch under way cannot be called back: its answer, or its proven absence, ends the run.
            if run.cancelled_by:
                return Decision(run, reason="ignored: cancellation already asked for")
            return Decision(replace(run, cancelled_by=event.by).noted(now, text), reason=text)
        case RunStatus.RETRYING:
            return _final(replace(run, cancelled_by=event.by), Outcome.CANCELLED, text, now)
        case _:
            return _end_attempt(replace(run, cancelled_by=event.by), Outcome.CANCELLED, text, now)


def _time_passed(run: Run, now: datetime, limits: Limits) -> Decision:
    if run.status.is_terminal:
        return _settle(run, now, "notice not sent yet")
    match run.status:
        case RunStatus.LAUNCHING:
            return Decision(replace(run, updated_at=now), (RequestLaunch(run.run_id),), "launch is not finished yet")
        case RunStatus.RETRYING:
            if now >= run.deadline:
                return _final(run, Outcome.DEADLINE_EXCEEDED, _NO_TIME_LEFT, now)
            if run.retry_at is not None and now < run.retry_at:
                return Decision(run, reason="the next attempt is not due yet")
            return Decision(replace(run, updated_at=now), (RequestLaunch(run.run_id),), "the next attempt is due")
        case RunStatus.STOPPING:
            commands = tuple(_end_worker(run, attempt, "still not ending") for attempt in run.unended_workers)
            return Decision(replace(run, updated_at=now), commands, "worker is still not ending")
        case _:
            return _watch(run, now, limits)


def _watch(run: Run, now: datetime, limits: Limits) -> Decision:
    """An open attempt whose worker is there and has not reported: only the clock can end it."""
    attempt = run.attempt
    if attempt is None:
        raise ValueError(f"{run.run_id}: {run.status} without an attempt")
    if now >= run.deadline:
        return _end_attempt(run, Outcome.DEADLINE_EXCEEDED, f"deadline {run.deadline:%H:%M:%S}Z passed", now)
    if attempt.interrupted_at is not None and now >= attempt.interrupted_at + limits.interruption_notice:
        return _end_attempt(run, Outcome.INTERRUPTED, "interrupted, and no result in time", now)
    if now >= timeout_at(run, attempt, limits):
        return _end_attempt(run, Outcome.TIMED_OUT, "the worker did not end its command at the timeout", now)
    return Decision(replace(run, updated_at=now), reason="looked: the worker is there, no result yet")


# ---- Ending ------------------------------------------------------------------------------------------------


def _end_attempt(run: Run, outcome: Outcome, message: str, now: datetime) -> Decision:
    """Close the current attempt; try again if a budget pays for it and the deadline leaves time."""
    attempt = run.attempt
    if attempt is None:
        raise ValueError(f"{run.run_id}: no attempt to end")
    ended = replace(attempt, outcome=outcome, message=message, ended_at=now)
    run = run.with_attempt(ended).noted(now, f"attempt {attempt.number}: {outcome}: {message}")
    retry_at = _retry_at(run, outcome, now)
    if retry_at is None or run.cancelled_by:
        return _final(run, Outcome.CANCELLED if run.cancelled_by else outcome, message, now)
    reason = f"{outcome}: next attempt at {retry_at:%H:%M:%S}Z"
    waiting = replace(run, status=RunStatus.RETRYING, retry_at=retry_at)
    return Decision(waiting, _end_workers(waiting, reason), reason)


def _retry_at(run: Run, outcome: Outcome, now: datetime) -> datetime | None:
    """When to try again, or None: final outcome, budget spent, or no time left before the deadline."""
    budget = outcome.budget
    if budget is None:
        return None
    retry = run.job.retry
    # `attempts` counts every try, the first included; `interruptions` counts the extra ones.
    allowed = retry.attempts - 1 if budget is Budget.ATTEMPTS else retry.interruptions
    spent = run.spent(budget)
    if spent > allowed:
        return None
    retry_at = now + run.job.retry.backoff.delay(spent)
    return retry_at if retry_at + timedelta(minutes=1) < run.deadline else None


def _final(run: Run, outcome: Outcome, message: str, now: datetime) -> Decision:
    reason = f"run ends: {outcome}: {message}"
    ended = replace(run, status=RunStatus.STOPPING, outcome=outcome, message=message, retry_at=None, updated_at=now)
    return _settle(ended, now, reason)


def _settle(run: Run, now: datetime, reason: str) -> Decision:
    """Ask for the end of every worker that is left; close the record when none is."""
    if run.outcome is None:
        return Decision(run, reason=reason)
    if run.status.is_terminal:
        return Decision(run, _notices(run), reason)
    if run.unended_workers:
        return Decision(run, _end_workers(run, reason), reason)
    closed = _close(run, run.outcome, run.message, now)
    return Decision(closed, _notices(closed), f"{reason}; no worker is left")


def _close(run: Run, outcome: Outcome, message: str, now: datetime) -> Run:
    notice = "" if outcome in {Outcome.SUCCEEDED, Outcome.CANCELLED} else f"{run.job.name}: {outcome}: {message}"
    closed = replace(
        run, status=outcome.status, outcome=outcome, message=message, ended_at=now, retry_at=None, notice=notice
    )
    return closed.noted(now, f"run {closed.status}: {outcome}: {message}")


def _notices(run: Run) -> tuple[Command, ...]:
    if not run.notice:
        return ()
    text = (
        f"{run.notice}\n\nrun       {run.run_id}\nscheduled {run.scheduled_at:%Y-%m-%d %H:%M:%S}Z\n"
        f"attempts  {len(run.attempts)}\n\nnightcrew logs {run.run_id}\nnightcrew runs show {run.run_id}\n"
    )
    return (SendNotice(f"{run.status} {run.run_id}", text),)


def notice_sent(run: Run) -> Run:
    """Return the run with its notice off the list: the last thing that keeps a closed record in the sweep."""
    return replace(run, notice="")


def _end_workers(run: Run, reason: str) -> tuple[Command, ...]:
    return tuple(_end_worker(run, attempt, reason) for attempt in run.unended_workers if not _left_to_ec2(run, attempt))


def _left_to_ec2(run: Run, attempt: Attempt) -> bool:
    """A Spot worker under notice is EC2's to end: terminating it ourselves would make its first hour cost.

    No worker is left to anybody past its deadline.
    """
    return (
        run.updated_at < run.deadline
        and attempt.outcome is Outcome.INTERRUPTED
        and attempt.interrupted_at is not None
        and attempt.worker is not None
        and attempt.worker.capacity_type == CapacityType.SPOT
        and attempt.ended_at is not None
        and attempt.ended_at - attempt.interrupted_at < timedelta(minutes=2)
    )


def _end_worker(run: Run, attempt: Attempt, reason: str) -> EndWorker:
    if attempt.worker is None:
        raise ValueError(f"{run.run_id}: attempt {attempt.number} has no worker to end")
    # Only a worker that finished its work is kept for another day; a lost or hung one is not worth keeping.
    keep = run.job.on_finish is OnFinish.STOP and attempt.outcome in {Outcome.SUCCEEDED, Outcome.FAILED}
    on_finish = OnFinish.STOP if keep else OnFinish.TERMINATE
    return EndWorker(attempt.worker.instance_id, on_finish, one_line(reason))
