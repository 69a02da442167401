"""The two sweeps: what is due by our records, and what is there by AWS's inventory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from nightcrew.domain import lifecycle
from nightcrew.domain import tags as tag
from nightcrew.domain.job import OnFinish
from nightcrew.domain.run import Limits, Outcome, Run, RunStatus, Trigger, run_id_of
from nightcrew.domain.sweep import Findings, Leak, SeenWorker, find_leaks, is_left_over
from nightcrew.usecases import ports
from nightcrew.usecases.apply import Effects
from nightcrew.usecases.errors import NightcrewError
from nightcrew.usecases.look import Look
from nightcrew.usecases.ports import EndReport, EndStatus

logger = logging.getLogger("nightcrew")


@dataclass(slots=True, kw_only=True)
class Tally:
    """What one sweep did. `failures` are told to whoever watches: a sweep that failed in part has failed."""

    looked: int = 0
    missed: int = 0
    workers: int = 0
    leaks: int = 0
    ended: int = 0
    denied: int = 0
    spared: int = 0
    left_overs: int = 0
    failures: list[str] = field(default_factory=list)

    def as_counts(self) -> dict[str, int]:
        return {
            "looked": self.looked,
            "missed": self.missed,
            "workers": self.workers,
            "leaks": self.leaks,
            "ended": self.ended,
            "denied": self.denied,
            "spared": self.spared,
            "left_overs": self.left_overs,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class DueSweep:
    """Every minute: one query, and nothing more when nothing is due."""

    stack: str
    runs: ports.RunStore
    due_list: ports.DueList
    watch: ports.JobWatch
    look: Look
    effects: Effects
    clock: ports.Clock

    def sweep(self) -> Tally:
        tally = Tally()
        due = self.due_list.due(self.clock.now())
        for run_id in due.run_ids:
            if isolated(tally, run_id, self.look.at, run_id):
                tally.looked += 1
        tally.failures += [f"{name}: its job record cannot be read; apply it again" for name in due.unreadable_jobs]
        for expected in due.jobs:
            isolated(tally, expected.job.name, self._check_tick, expected, tally)
        return tally

    def _check_tick(self, expected: ports.WatchedJob, tally: Tally) -> None:
        """A tick that should have started has a record, or gets one that says it was missed."""
        now = self.clock.now()
        run_id = run_id_of(expected.job.name, expected.tick, Trigger.SCHEDULE)
        if self.runs.get(run_id) is None:
            missed = lifecycle.ended_run(
                expected.job,
                stack=self.stack,
                scheduled_at=expected.tick,
                trigger=Trigger.SCHEDULE,
                now=now,
                outcome=Outcome.MISSED,
                message="the schedule did not fire in time",
            )
            if self.runs.create(missed):
                tally.missed += 1
                self.effects.settle(missed, "tick missed")
        self.watch.advance(expected)


@dataclass(frozen=True, slots=True, kw_only=True)
class InventorySweep:
    """Every ten minutes: all that carries our tags, whatever the records say; works with the table empty."""

    runs: ports.RunStore
    workers: ports.Workers
    left_overs: ports.LeftOvers
    look: Look
    clock: ports.Clock
    limits: Limits

    def sweep(self) -> Tally:
        """Raises UnreadableError when AWS cannot be read: an inventory that failed says nothing."""
        tally = Tally()
        workers = self.workers.all_ours()  # Before the records: a record that is read later is not older.
        tally.workers = len(workers)
        runs = self._records(workers, tally)
        findings = find_leaks(workers, runs, self.clock.now(), self.limits)
        self._end(findings, tally)
        self._look_at_vanished(workers, tally)
        self._delete_left_overs(tally)
        return tally

    def _records(self, workers: Sequence[SeenWorker], tally: Tally) -> Mapping[str, Run | None]:
        run_ids = sorted({worker.tags[tag.RUN] for worker in workers if worker.tags.get(tag.RUN)})
        try:
            return self.runs.get_many(run_ids) if run_ids else {}
        except NightcrewError as error:
            # Without records the deadline tags still hold.
            tally.failures.append(f"records: {error}")
            return {}

    def _end(self, findings: Findings, tally: Tally) -> None:
        tally.leaks = len(findings.leaks) + len(findings.spared)
        tally.spared = len(findings.spared)
        for leak in findings.spared:
            why = "records distrusted" if findings.distrusted else "above the cap of one sweep"
            logger.error("leak spared", extra={"instance_id": leak.instance_id, "why": why, "reason": leak.reason})
        for leak in findings.leaks:
            logger.warning("leak found", extra={"instance_id": leak.instance_id, "reason": leak.reason})
        ends = {OnFinish.TERMINATE: self.workers.terminate, OnFinish.STOP: self.workers.stop}
        for action, end in ends.items():
            self._end_all([leak for leak in findings.leaks if leak.action is action], end, tally)

    def _end_all(
        self, leaks: Sequence[Leak], end: Callable[[Sequence[str]], Mapping[str, EndReport]], tally: Tally
    ) -> None:
        if not leaks:
            return
        for instance_id, report in end([leak.instance_id for leak in leaks]).items():
            if report.status is EndStatus.ENDED:
                tally.ended += 1
                continue
            tally.denied += report.status is EndStatus.DENIED
            tally.failures.append(f"{instance_id}: {report.status}: {report.message}")

    def _look_at_vanished(self, workers: Sequence[SeenWorker], tally: Tally) -> None:
        """Open runs whose worker is not in the inventory: look now, not at their next due time."""
        present = {worker.instance_id for worker in workers if not worker.state.is_gone}
        for run in self.runs.open():
            attempt = run.attempt
            watched = run.status in {RunStatus.STARTING, RunStatus.RUNNING} and attempt is not None
            if not watched or attempt is None or attempt.worker is None:
                continue
            vanished = attempt.worker.instance_id not in present
            if vanished and isolated(tally, run.run_id, self.look.at, run.run_id):
                tally.looked += 1

    def _delete_left_overs(self, tally: Tally) -> None:
        now = self.clock.now()
        for thing in self.left_overs.find():
            if not is_left_over(thing, now, self.limits):
                continue
            report = self.left_overs.delete(thing.resource_id)
            if report.status is EndStatus.ENDED:
                tally.left_overs += 1
                logger.warning("left-over deleted", extra={"resource_id": thing.resource_id})
            else:
                tally.failures.append(f"{thing.resource_id}: {report.status}: {report.message}")


def isolated(tally: Tally, name: str, step: Callable[..., object], *args: object) -> bool:
    """Do one item of a sweep; a failure is logged and counted, and the next item gets its turn."""
    try:
        step(*args)
    except Exception as error:
        logger.exception("sweep item failed", extra={"item": name})
        tally.failures.append(f"{name}: {error}")
        return False
    return True
