"""Deliberate bugs, patched in at run time: a simulation that does not notice them proves nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from botocore.exceptions import BotoCoreError, ClientError

from nightcrew.adapters import aws_errors, workers
from nightcrew.adapters.run_store import DynamoRuns
from nightcrew.adapters.workers import Ec2Workers
from nightcrew.domain import lifecycle, sweep
from nightcrew.domain.job import OnFinish
from nightcrew.domain.lifecycle import SendNotice, notice_sent
from nightcrew.domain.plan import RefusalKind
from nightcrew.domain.run import Outcome, RunStatus, run_id_of
from nightcrew.domain.sweep import EndCause, WorkerState
from nightcrew.usecases import launch, reap
from nightcrew.usecases.apply import Effects
from nightcrew.usecases.errors import UnreadableError
from nightcrew.usecases.launch import Launch
from nightcrew.usecases.look import Look
from nightcrew.usecases.ports import EndReport, EndStatus
from nightcrew.usecases.reap import DueSweep
from nightcrew.usecases.watch import Watch

Patches = Callable[[], contextlib.AbstractContextManager[Any]]


@dataclass(frozen=True, slots=True)
class Mutant:
    name: str
    patches: Patches


_all: list[Mutant] = []


def _mutant(name: str) -> Callable[[Callable[[], Sequence[Any]]], None]:
    def add(make: Callable[[], Sequence[Any]]) -> None:
        @contextlib.contextmanager
        def patched() -> Iterator[None]:
            with contextlib.ExitStack() as stack:
                for one in make():
                    stack.enter_context(one)
                yield

        _all.append(Mutant(name, patched))

    return add


def mutants() -> tuple[Mutant, ...]:
    return tuple(_all)


# ---- Launching -----------------------------------------------------------------------------------------------


@_mutant("the token does not hold the attempt")
def _token_without_attempt() -> Sequence[Any]:
    real = lifecycle.client_token

    def token(stack: str, run_id: str, _attempt: int, step: int, repeats: int = 0) -> str:
        return real(stack, run_id, 1, step, repeats)

    return [patch.object(lifecycle, "client_token", token)]


@_mutant("the record is saved after the launch")
def _save_after_launch() -> Sequence[Any]:
    real = Launch.tick

    def tick(self: Launch, it: Any) -> Any:
        if self.runs.get(run_id_of(it.job, it.scheduled_at, it.trigger)) is None:
            job = self.jobs.get(it.job, it.revision)
            run = self._first_record(job, it) if job else None
            if run is not None and run.status is RunStatus.LAUNCHING:
                self.fleet.launch(lifecycle.launch_request(run))
        return real(self, it)

    return [patch.object(Launch, "tick", tick)]


@_mutant("any launcher may go on to another token")
def _no_claim() -> Sequence[Any]:
    def claim(run: Any, _now: Any, _limits: Any) -> Any:
        return lifecycle.Decision(run, reason="not claimed")

    return [patch.object(launch, "claim_launch", claim)]


@_mutant("a token spent on an empty answer is used again")
def _spent_token() -> Sequence[Any]:
    real = lifecycle.client_token
    return [
        patch.object(
            lifecycle,
            "client_token",
            lambda stack, run_id, attempt, step, _repeats=0: real(stack, run_id, attempt, step),
        )
    ]


@_mutant("a throttle is read as a lack of capacity")
def _throttle_as_capacity() -> Sequence[Any]:
    real = aws_errors.refusal_kind

    def kind(code: str) -> RefusalKind:
        return RefusalKind.CAPACITY if code in aws_errors.THROTTLED else real(code)

    return [patch.object(aws_errors, "refusal_kind", kind)]


@_mutant("the roster is put after the record")
def _roster_after_save() -> Sequence[Any]:
    put: list[Any] = []
    real = Effects.apply

    def apply(self: Effects, run: Any, decision: Any) -> Any:
        applied = real(self, run, decision)
        while put:
            exchange, arguments = put.pop()
            exchange(*arguments)
        return applied

    from nightcrew.adapters.exchange import S3Exchange

    real_put = S3Exchange.put_roster

    def later(self: S3Exchange, *arguments: Any) -> None:
        put.append((lambda *a: real_put(self, *a), arguments))

    return [patch.object(Effects, "apply", apply), patch.object(S3Exchange, "put_roster", later)]


@_mutant("the deadline counts from the attempt")
def _deadline_from_attempt() -> Sequence[Any]:
    real = lifecycle.begin_retry

    def begin(run: Any, now: Any) -> Any:
        decision = real(run, now)
        if decision.run is run or decision.run.status is not RunStatus.LAUNCHING:
            return decision
        return replace(decision, run=replace(decision.run, deadline=now + run.job.deadline))

    return [patch.object(launch, "begin_retry", begin)]


@_mutant("a launch is asked for after the deadline")
def _launch_after_deadline() -> Sequence[Any]:
    real = Launch._launch_step

    def step(self: Launch, run: Any) -> Any:
        return real(replace(self, clock=_Stopped(run.scheduled_at)), run)

    return [patch.object(Launch, "_launch_step", step)]


@dataclass(frozen=True)
class _Stopped:
    moment: Any

    def now(self) -> Any:
        return self.moment


# ---- Deciding ------------------------------------------------------------------------------------------------


@_mutant("a result of another launch is accepted")
def _foreign_result() -> Sequence[Any]:
    real = lifecycle._result_written

    def written(run: Any, event: Any, now: Any) -> Any:
        attempt = run.attempt_of(event.instance_id)
        if attempt is not None:
            event = replace(event, result=replace(event.result, launch=attempt.launch))
        return real(run, event, now)

    return [patch.object(lifecycle, "_result_written", written)]


@_mutant("a worker that shut itself down has succeeded")
def _gone_is_success() -> Sequence[Any]:
    return [patch.dict(sweep._GONE, {EndCause.ITSELF: (Outcome.SUCCEEDED, "it must have been done")})]


@_mutant("a run that waits for its retry is not in the due index")
def _no_due_for_retrying() -> Sequence[Any]:
    from nightcrew.adapters import run_store

    real = run_store.due_at
    return [
        patch.object(
            run_store, "due_at", lambda run, limits: None if run.status is RunStatus.RETRYING else real(run, limits)
        )
    ]


@_mutant("one more attempt than the job allows")
def _one_more_attempt() -> Sequence[Any]:
    real = lifecycle._retry_at

    def retry_at(run: Any, outcome: Any, now: Any) -> Any:
        retry = replace(run.job.retry, attempts=run.job.retry.attempts + 1)
        return real(replace(run, job=replace(run.job, retry=retry)), outcome, now)

    return [patch.object(lifecycle, "_retry_at", retry_at)]


# ---- Saving and telling --------------------------------------------------------------------------------------


@_mutant("a message is acknowledged although it failed")
def _ack_before_save() -> Sequence[Any]:
    real = Watch.handle

    def handle(self: Watch, fact: Any, known: Mapping[str, str]) -> Any:
        with contextlib.suppress(Exception):
            return real(self, fact, known)

    return [patch.object(Watch, "handle", handle)]


@_mutant("a record is saved without asking for its version")
def _unconditional_save() -> Sequence[Any]:
    def save(self: DynamoRuns, run: Any) -> Any:
        saved = replace(run, version=run.version + 1)
        self.table.client.put_item(TableName=self.table.name, Item=self._item(saved))
        return saved

    return [patch.object(DynamoRuns, "save", save)]


@_mutant("a notice is ticked off before it is sent")
def _notice_before_sending() -> Sequence[Any]:
    real = Effects._perform

    def perform(self: Effects, run: Any, command: Any) -> Any:
        if isinstance(command, SendNotice) and run.notice:
            run = self.runs.save(notice_sent(run))
        return real(self, run, command)

    return [patch.object(Effects, "_perform", perform)]


@_mutant("a tick is ticked off before it is recorded")
def _advance_first() -> Sequence[Any]:
    real = DueSweep._check_tick

    def check(self: DueSweep, expected: Any, tally: Any) -> None:
        self.watch.advance(expected)
        real(self, expected, tally)

    return [patch.object(DueSweep, "_check_tick", check)]


# ---- Sweeping ------------------------------------------------------------------------------------------------


@_mutant("no grace: an absence is believed at once")
def _no_grace() -> Sequence[Any]:
    real = reap.find_leaks

    def find(found: Any, runs: Any, now: Any, limits: Any) -> Any:
        return real(found, runs, now, replace(limits, grace=timedelta(0)))

    return [patch.object(reap, "find_leaks", find), patch.object(Look, "_is_old", lambda self, attempt: True)]


@_mutant("the sweep does not see stopped workers")
def _blind_for_stopped() -> Sequence[Any]:
    return [patch.object(workers, "_LIVING", ["pending", "running"])]


@_mutant("a 403 for a vanished worker is a failure")
def _denied_is_failure() -> Sequence[Any]:
    real = Ec2Workers._failure

    def failure(self: Ec2Workers, instance_id: str, error: BotoCoreError | ClientError) -> EndReport:
        if isinstance(error, ClientError) and aws_errors.code_of(error) in aws_errors.DENIED:
            return EndReport(EndStatus.DENIED, aws_errors.message_of(error))
        return real(self, instance_id, error)

    return [patch.object(Ec2Workers, "_failure", failure)]


@_mutant("an error of one item of the sweep is swallowed")
def _swallowed_error() -> Sequence[Any]:
    def isolated(_tally: Any, _name: str, step: Callable[..., object], *arguments: object) -> bool:
        with contextlib.suppress(Exception):
            step(*arguments)
            return True
        return False

    return [patch.object(reap, "isolated", isolated)]


@_mutant("a read that failed is taken for an empty one")
def _failed_read_is_empty() -> Sequence[Any]:
    real = Ec2Workers._list

    def listed(self: Ec2Workers, filters: Any) -> Any:
        with contextlib.suppress(UnreadableError):
            yield from real(self, filters)

    return [patch.object(Ec2Workers, "_list", listed)]


@_mutant("without a record no deadline holds")
def _record_excuses() -> Sequence[Any]:
    real = sweep.judge

    def judge(worker: Any, runs: Any, now: Any, limits: Any) -> Any:
        if runs.get(worker.tags.get("nightcrew:run", "")) is None:
            return None
        return real(worker, runs, now, limits)

    return [patch.object(sweep, "judge", judge)]


@_mutant("the sweep ends whatever looks like ours")
def _not_only_ours() -> Sequence[Any]:
    def all_of_them(self: Ec2Workers) -> Any:
        found = self._list([workers._state_filter()])
        return [worker for worker in found if "nightcrew:stack" in worker.tags]

    return [patch.object(Ec2Workers, "all_ours", all_of_them)]


@_mutant("a kept worker is kept even while it runs")
def _kept_runs_on() -> Sequence[Any]:
    real = sweep._overdue

    def overdue(worker: Any, run: Any, now: Any, limits: Any) -> str:
        if worker.tags.get("nightcrew:on-finish") == OnFinish.STOP and worker.state is WorkerState.RUNNING:
            return ""
        return real(worker, run, now, limits)

    return [patch.object(sweep, "_overdue", overdue)]
