"""Apply decisions: save the run first, then perform the commands."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import assert_never

from nightcrew.domain.job import OnFinish
from nightcrew.domain.lifecycle import (
    Command,
    Decision,
    EndWorker,
    Event,
    RequestLaunch,
    SendNotice,
    TimePassed,
    WorkerEnding,
    decide,
    notice_sent,
)
from nightcrew.domain.run import Limits, Run
from nightcrew.usecases import ports
from nightcrew.usecases.errors import StaleRunError
from nightcrew.usecases.ports import EndStatus

logger = logging.getLogger("nightcrew")

# Two deliveries about one run at the same moment are common (result and state change), five are not.
SAVE_TRIES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """What a decision may do to the world. The launcher has no `workers`: its role may end none."""

    runs: ports.RunStore
    notifier: ports.Notifier
    clock: ports.Clock
    limits: Limits
    workers: ports.Workers | None = None
    launches: ports.LaunchRequests | None = None

    def handle(self, run_id: str, event: Event) -> Decision | None:
        """Load, decide, apply; once more with the new record when somebody else was faster.

        Returns None when there is no such run. Raises StaleRunError after SAVE_TRIES lost races.
        """
        for _ in range(SAVE_TRIES):
            run = self.runs.get(run_id)
            if run is None:
                return None
            decision = decide(run, event, self.clock.now(), self.limits)
            try:
                applied = self.apply(run, decision)
            except StaleRunError:
                continue
            return Decision(applied, decision.commands, decision.reason)
        raise StaleRunError(f"run {run_id}: changed {SAVE_TRIES} times while deciding; the event is delivered again")

    def settle(self, run: Run, reason: str) -> Decision:
        """Do what a closed run still owes (its notice)."""
        if not run.status.is_terminal:
            return Decision(run, reason=reason)
        decision = decide(run, TimePassed(), self.clock.now(), self.limits)
        return Decision(self.apply(run, decision), decision.commands, decision.reason)

    def apply(self, run: Run, decision: Decision) -> Run:
        """Save what was decided, then do it; return the run as it is saved in the end.

        Saved before acting: a crash in between leaves a record from which the sweep derives the same
        commands again. Raises StaleRunError before any command was performed.
        """
        current = decision.run
        if current != run:
            current = self.runs.save(current)
        logger.info(
            decision.reason,
            extra={"run_id": current.run_id, "status": current.status.value, "outcome": current.outcome},
        )
        for command in decision.commands:
            current = self._perform(current, command)
        return current

    def _perform(self, run: Run, command: Command) -> Run:
        match command:
            case EndWorker():
                return self._end_worker(run, command)
            case RequestLaunch(run_id):
                if self.launches is not None:
                    self.launches.request(run_id)
                return run
            case SendNotice(subject, text):
                self.notifier.send(subject, text)
                return self.runs.save(notice_sent(run)) if run.notice else run
            case _:
                assert_never(command)

    def _end_worker(self, run: Run, command: EndWorker) -> Run:
        if self.workers is None:
            return run  # The record says that the worker must end; the sweep has the right to do it.
        end = self.workers.stop if command.on_finish is OnFinish.STOP else self.workers.terminate
        report = end([command.instance_id])[command.instance_id]
        if report.status is not EndStatus.ENDED:
            logger.error(
                "worker could not be ended",
                extra={"run_id": run.run_id, "instance_id": command.instance_id, "why": report.message},
            )
            return run
        # EC2's answer already says that the worker is ending: no need to wait for the event.
        decision = decide(run, WorkerEnding(command.instance_id, is_final=False), self.clock.now(), self.limits)
        return self.apply(run, decision)
