"""Look at everything outside that can tell how a run stands, and let the state machine decide.

Events and the sweeps both end here: an event is a hint to look at once, the sweep looks without one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nightcrew.domain.lifecycle import (
    Decision,
    Event,
    LaunchAbsent,
    Launched,
    ResultWritten,
    TimePassed,
    WorkerEnding,
    WorkerRunning,
)
from nightcrew.domain.run import Attempt, Limits, Run, RunStatus
from nightcrew.domain.sweep import SeenWorker, WorkerState, gone
from nightcrew.usecases import ports
from nightcrew.usecases.apply import Effects


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    runs: ports.RunStore
    workers: ports.Workers
    exchange: ports.Exchange
    effects: Effects
    clock: ports.Clock
    limits: Limits

    def at(self, run_id: str) -> Decision | None:
        """Bring the run up to date with AWS and the exchange; None when there is no such run.

        Raises UnreadableError: what cannot be read changes nothing.
        """
        run = self.runs.get(run_id)
        if run is None:
            return None
        decision: Decision | None = None
        for event in self._events(run):
            decision = self.effects.handle(run_id, event)
        return decision

    def _events(self, run: Run) -> Iterator[Event]:
        match run.status:
            case RunStatus.LAUNCHING:
                yield from self._launching(run)
            case RunStatus.STARTING | RunStatus.RUNNING:
                if run.attempt is not None:
                    yield from self._open_attempt(run.attempt)
            case RunStatus.STOPPING:
                yield from self._ending(run)
        yield TimePassed()

    def _launching(self, run: Run) -> Iterator[Event]:
        """A launch that took too long is repeated by the launcher; one that must end is looked for first."""
        if run.attempt is None or not (run.cancelled_by or self.clock.now() >= run.deadline):
            return
        seen = self.workers.of_launch(run.attempt.launch)
        if seen is None:
            yield LaunchAbsent(run.attempt.number)
        else:
            yield Launched(run.attempt.number, seen.as_worker)

    def _open_attempt(self, attempt: Attempt) -> Iterator[Event]:
        if attempt.worker is None:
            return
        instance_id = attempt.worker.instance_id
        # The worker before its result: one that is gone now wrote its result, if any, before.
        seen = self.workers.describe([instance_id]).get(instance_id)
        yield from self.evidence(attempt, seen)

    def evidence(self, attempt: Attempt, seen: SeenWorker | None) -> Iterator[Event]:
        """What the worker as it was seen (None: unknown to AWS), and its result, say about an open attempt."""
        if attempt.worker is None:
            return
        instance_id = attempt.worker.instance_id
        yield from self.result_of(attempt)
        if seen is None:
            if self._is_old(attempt):
                yield gone(instance_id, None)
        elif seen.state in {WorkerState.TERMINATED, WorkerState.STOPPED}:
            yield gone(instance_id, seen)
        elif seen.state.is_ending:
            yield WorkerEnding(instance_id, is_final=False)
        elif seen.state is WorkerState.RUNNING and attempt.running_at is None:
            yield WorkerRunning(seen.as_worker)

    def result_of(self, attempt: Attempt) -> Iterator[Event]:
        """The result of an attempt that is still open, if its worker has written one."""
        if attempt.worker is None or attempt.outcome is not None:
            return
        result = self.exchange.result(attempt)
        if result is not None:
            yield ResultWritten(attempt.worker.instance_id, result)

    def _is_old(self, attempt: Attempt) -> bool:
        """EC2 may not know for a while what it has just launched."""
        return attempt.launched_at is None or self.clock.now() >= attempt.launched_at + self.limits.grace

    def _ending(self, run: Run) -> Iterator[Event]:
        ids = [attempt.worker.instance_id for attempt in run.unended_workers if attempt.worker]
        seen: Mapping[str, SeenWorker] = self.workers.describe(ids) if ids else {}
        for instance_id in ids:
            worker = seen.get(instance_id)
            if worker is None or worker.state.is_ending:
                yield WorkerEnding(instance_id, is_final=True)
