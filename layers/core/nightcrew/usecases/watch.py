"""Take what EventBridge tells about our workers and runs; foreign instances cost one batched read together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from nightcrew.domain.lifecycle import CancelRequested, Decision, Event, InterruptionWarned, WorkerNoted
from nightcrew.domain.run import Attempt
from nightcrew.domain.sweep import SeenWorker, WorkerState
from nightcrew.usecases import ports
from nightcrew.usecases.apply import Effects
from nightcrew.usecases.look import Look


@dataclass(frozen=True, slots=True)
class StateChanged:
    instance_id: str
    state: WorkerState


@dataclass(frozen=True, slots=True)
class InterruptionNotice:
    instance_id: str
    action: str


@dataclass(frozen=True, slots=True)
class Advice:
    """A rebalance recommendation or a Health event: worth knowing, nothing to do."""

    instance_id: str
    text: str


@dataclass(frozen=True, slots=True)
class ResultAnnounced:
    """An object was created where this worker's result belongs. The object is the fact, this only a hint."""

    instance_id: str


@dataclass(frozen=True, slots=True)
class CancelAsked:
    run_id: str
    by: str


WorkerFact = StateChanged | InterruptionNotice | Advice | ResultAnnounced
Fact = WorkerFact | CancelAsked

# The order of an instance's life, for news that may be older than what we read, or newer.
_ORDER = {state: rank for rank, state in enumerate(WorkerState)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    runs: ports.RunStore
    workers: ports.Workers
    look: Look
    effects: Effects

    def known(self, facts: Sequence[Fact]) -> Mapping[str, str]:
        """Return the run of each instance in this batch that is ours, by one batched read."""
        ids = {fact.instance_id for fact in facts if not isinstance(fact, CancelAsked)}
        return self.runs.runs_of(sorted(ids)) if ids else {}

    def handle(self, fact: Fact, known: Mapping[str, str]) -> Decision | None:
        """Apply one fact; None when it is about a foreign instance or an unknown run."""
        if isinstance(fact, CancelAsked):
            return self.effects.handle(fact.run_id, CancelRequested(fact.by))
        run_id = known.get(fact.instance_id)
        run = self.runs.get(run_id) if run_id else None
        if run is None:
            return None
        attempt = run.attempt_of(fact.instance_id)
        decision: Decision | None = Decision(run, reason="nothing new")
        for event in self._events(fact, attempt) if attempt else ():
            decision = self.effects.handle(run.run_id, event)
        return decision

    def _events(self, fact: WorkerFact, attempt: Attempt) -> Iterator[Event]:
        match fact:
            case InterruptionNotice(instance_id, action):
                yield InterruptionWarned(instance_id, action)
            case Advice(instance_id, text):
                yield WorkerNoted(instance_id, text)
            case ResultAnnounced():
                yield from self.look.result_of(attempt)
            case StateChanged(_, state):
                if state is not WorkerState.PENDING:
                    yield from self.look.evidence(attempt, self._seen(attempt, state))

    def _seen(self, attempt: Attempt, state: WorkerState) -> SeenWorker | None:
        """The worker's details, in the later of the state that was announced and the one that was read.

        A description read right after the event may still show the state before it.
        """
        worker = attempt.worker
        if worker is None:
            return None
        known = SeenWorker(
            instance_id=worker.instance_id,
            state=state,
            launched_at=attempt.launched_at or attempt.created_at,
            tags={},
            instance_type=worker.instance_type,
            capacity_type=worker.capacity_type,
            zone=worker.zone,
        )
        if state in {WorkerState.STOPPING, WorkerState.SHUTTING_DOWN}:
            return known
        seen = self.workers.describe([worker.instance_id]).get(worker.instance_id, known)
        return seen if _ORDER[seen.state] > _ORDER[state] else replace(seen, state=state)
