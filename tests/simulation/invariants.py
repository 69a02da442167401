"""What must hold at every step of every night. Each check names the promise that it guards."""

from __future__ import annotations

import json
import math
from collections import Counter
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from nightcrew.domain.job import OnFinish
from nightcrew.domain.run import Budget, Outcome, Run, RunStatus, Trigger, run_id_of
from nightcrew.domain.tags import parse_time
from tests.simulation import memory
from tests.simulation.ec2 import LIVE, Instance
from tests.simulation.kernel import Invocation, at, seconds_of

if TYPE_CHECKING:
    from tests.simulation.world import World

PERIOD, DUE_PERIOD, GRACE, KEPT = 600.0, 60.0, 120.0, 3600.0
# How late Scheduler may be, and how long a sweep of a few workers takes.
SWEEP_TIME = 10.0
# A read may be this old (a minute at most, by the simulation), and a sweep takes its time to act.
STALE = 61.0
INDEX_LAG = 31.0
TICK_SLACK = 120.0


class BrokenPromise(BaseException):
    """No Exception: it is found inside the code under test, which must not catch it."""


class Invariants:
    def __init__(self, world: World) -> None:
        self._world = world
        self.statuses: dict[str, RunStatus] = {}
        self.runs: dict[str, Run] = {}
        self._deadlines: dict[str, float] = {}
        self._job_written: dict[str, float] = {}
        self._was_emptied = False
        self.longest_overtime: dict[str, float] = {}
        self._cried_wolf = ""
        self._futile: Counter[str] = Counter()
        self._wrote_success: set[tuple[str, str]] = set()
        self.launches: Counter[tuple[str, str]] = Counter()
        world.table.written = self._table_written
        world.ec2.launched = self._launched
        world.ec2.ended = self._ended
        world.account.asked_to_end = self._asked_to_end
        world.account.asked_to_launch = self._asked_to_launch
        world.account.repeated = self._launch_repeated

    def broken(self, promise: str, what: str) -> BrokenPromise:
        error = BrokenPromise(f"promise {promise}: {what}")
        self._world.kernel.note("BROKEN", error)
        return error

    def is_ours(self, instance: Instance) -> bool:
        return instance.tags.get("nightcrew:stack") == "nightcrew"

    # ---- EC2 -------------------------------------------------------------------------------------------------

    def _launched(self, instance: Instance) -> None:
        if not self.is_ours(instance):
            return
        run, attempt = instance.tags["nightcrew:run"], instance.tags["nightcrew:attempt"]
        self.launches[run, attempt] += 1
        alive = [
            other.instance_id
            for other in self._world.ec2.live()
            if (other.tags.get("nightcrew:run"), other.tags.get("nightcrew:attempt")) == (run, attempt)
            and self.is_ours(other)
        ]
        if len(alive) > 1:
            raise self.broken("1", f"{run} attempt {attempt} has {len(alive)} live workers: {', '.join(alive)}")

    def _ended(self, instance: Instance) -> None:
        """While nothing is wrong with the sweeps, no worker outlives its deadline by more than their period."""
        was_live = instance.history[-2][1] in LIVE
        if not was_live or not self.is_ours(instance) or not self._world.scenario.spares_the_net:
            return
        period, table = (PERIOD, "empty") if self._was_emptied else (DUE_PERIOD, "whole")
        self.longest_overtime[table] = max(
            self.longest_overtime.get(table, 0.0), self._world.kernel.now - self._deadline(instance)
        )
        if self._world.kernel.now > self._deadline(instance) + period + SWEEP_TIME:
            raise self.broken("2", self._overdue_text(instance, "although the sweeps are well"))

    def _asked_to_launch(self, request: dict[str, Any]) -> None:
        tags = {item["Key"]: item["Value"] for item in request["TagSpecifications"][0]["Tags"]}
        deadline = parse_time(tags["nightcrew:deadline"])
        assert deadline is not None
        if self._world.kernel.clock() >= deadline:
            raise self.broken("2", f"{tags['nightcrew:run']}: a launch was asked for after its deadline")
        run = self.runs.get(tags["nightcrew:run"])
        if run is None and not self._was_emptied:
            raise self.broken("1", f"{tags['nightcrew:run']}: a launch was asked for before there was a record")
        attempt = run.attempt if run else None
        if run and attempt and (run.status.is_terminal or attempt.number > int(tags["nightcrew:attempt"])):
            raise self.broken("1", f"{run.run_id}: attempt {attempt.number} is over, and a launch was asked for")

    def _launch_repeated(self, request: dict[str, Any], ids: list[str], same: bool) -> None:
        """EC2 repeats an empty answer: once or twice for a caller that did not get it, but not for ever."""
        token = request["ClientToken"]
        if not same and not self._was_emptied:
            raise self.broken("1", f"the token {token[:8]} was used again with other parameters")
        tags = {item["Key"]: item["Value"] for item in request["TagSpecifications"][0]["Tags"]}
        run = self.runs.get(tags["nightcrew:run"])
        if ids or run is None or run.attempt is None or run.attempt.contested:
            return
        self._futile[token] += 1
        if self._futile[token] > 8:
            raise self.broken("3", f"the token {token[:8]} is spent on an empty answer and asked for for ever")

    def _asked_to_end(self, operation: str, ids: list[str]) -> None:
        if self._world.kernel.current() is None:
            return
        for thing_id in ids:
            tags = self._tags_of(thing_id)
            if tags is not None and tags.get("nightcrew:stack") != "nightcrew":
                raise self.broken("4", f"{operation} was asked for {thing_id}, which is not ours: {tags}")
            instance = self._world.ec2.instances.get(thing_id)
            if instance is not None and instance.is_live:
                self._check_justified(instance)

    def _check_justified(self, instance: Instance) -> None:
        """A live worker is ended by us when its attempt is over or its time is up, and never before."""
        now = self._world.kernel.now
        if now >= self._deadline(instance):
            return
        run = self.runs.get(instance.tags["nightcrew:run"])
        if run is None:
            if now < instance.launched + GRACE - 1:  # EC2 tells launch times in whole seconds
                raise self.broken("4", f"{instance.instance_id} has no record and was ended within its grace")
            return
        mine = run.attempt_of(instance.instance_id)
        launching = run.status is RunStatus.LAUNCHING and run.attempt and run.attempt.launch
        if (mine is not None and mine.outcome is None) or launching == instance.tags["nightcrew:launch"]:
            raise self.broken("4", f"{instance.instance_id} is at work for {run.run_id} ({run.status}) and was ended")

    def _tags_of(self, thing_id: str) -> dict[str, str] | None:
        found = self._world.ec2.instances.get(thing_id) or self._world.ec2.things.get(thing_id)
        return found.tags if found else None

    def result_written(self, instance: Instance, body: bytes) -> None:
        try:
            document = json.loads(body)
            if document["outcome"] == "succeeded" and document["launch"] == instance.tags["nightcrew:launch"]:
                self._wrote_success.add((instance.instance_id, document["launch"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            return

    # ---- The table -------------------------------------------------------------------------------------------

    def table_emptied(self) -> None:
        self._was_emptied = True
        self.statuses.clear()
        self.runs.clear()
        self._world.ticks.clear()

    def _table_written(self, before: dict[str, Any] | None, after: dict[str, Any] | None) -> None:
        if after is None or not after["pk"]["S"].startswith("RUN#"):
            if after is not None and after["sk"]["S"] == "CURRENT":
                self._job_written[after["pk"]["S"].removeprefix("JOB#")] = self._world.kernel.now
            return
        run = memory.read(after)
        was = self.runs.get(run.run_id) if before else None
        self.runs[run.run_id] = run
        self.statuses[run.run_id] = run.status
        self._world.kernel.note("saved", run.run_id, run.version, run.status, run.outcome or "")
        self._check_ending(was, run)
        self._check_due(after, run)
        self._check_budgets(run)
        self._check_attempt(was, run)
        if run.status is RunStatus.SUCCEEDED:
            self._check_success(run)

    def _check_ending(self, was: Run | None, run: Run) -> None:
        if was is not None:
            if run.version != was.version + 1:
                raise self.broken("3", f"{run.run_id}: version {was.version} was followed by {run.version}")
            known = (was.status, was.outcome, was.message, was.ended_at)
            if was.status.is_terminal and (run.status, run.outcome, run.message, run.ended_at) != known:
                raise self.broken("3", f"{run.run_id}: was {was.status} {was.outcome}, became {run.status}")
        if run.status.is_terminal and (run.outcome is None or not run.message or "\n" in run.message):
            raise self.broken("3", f"{run.run_id}: ended without outcome and one-line message: {run.message!r}")

    def _check_due(self, item: dict[str, Any], run: Run) -> None:
        wanted = not run.status.is_terminal or bool(run.notice)
        if wanted != ("due" in item and "due_at" in item):
            raise self.broken("3", f"{run.run_id}: {run.status} is {'not ' if wanted else ''}in the due index")
        if wanted:
            latest = max(self._world.kernel.clock(), run.deadline) + timedelta(seconds=GRACE)
            if item["due_at"]["S"] > latest.isoformat():
                raise self.broken("3", f"{run.run_id}: {run.status} is not due before {item['due_at']['S']}")

    def _check_budgets(self, run: Run) -> None:
        retry = run.job.retry
        spent = {budget: run.spent(budget) for budget in Budget}
        if spent[Budget.ATTEMPTS] > retry.attempts or spent[Budget.INTERRUPTIONS] > retry.interruptions + 1:
            raise self.broken("3", f"{run.run_id}: budgets overdrawn: {spent}")
        if len(run.attempts) > retry.attempts + retry.interruptions:
            raise self.broken("3", f"{run.run_id}: {len(run.attempts)} attempts")
        if [attempt.number for attempt in run.attempts] != list(range(1, len(run.attempts) + 1)):
            raise self.broken("1", f"{run.run_id}: attempts are numbered wrongly")

    def _check_attempt(self, was: Run | None, run: Run) -> None:
        if run.deadline != run.scheduled_at + run.job.deadline:
            raise self.broken("2", f"{run.run_id}: its deadline has moved to {run.deadline}")
        attempt = run.attempt
        if attempt is None:
            return
        has_roster = f"launches/{attempt.launch}/roster.json" in self._world.bucket.objects
        if run.status is RunStatus.STARTING and not has_roster and self._world.kernel.clock() < run.deadline:
            raise self.broken("3", f"{run.run_id}: its worker is in the record and has no roster")
        before = was.attempts[attempt.number - 1] if was and len(was.attempts) >= attempt.number else None
        if attempt.outcome is None or (before is not None and before.outcome is not None):
            return
        codes = {refusal.code for refusal in attempt.refusals}
        if attempt.outcome is Outcome.NO_CAPACITY and codes and codes <= {"RequestLimitExceeded"}:
            raise self.broken("3", f"{run.run_id}: a throttle was taken for a lack of capacity")
        instance = self._world.ec2.instances.get(attempt.worker.instance_id) if attempt.worker else None
        if attempt.outcome is Outcome.LOST and instance and instance.is_live and not instance.restarted:
            raise self.broken("5", f"{run.run_id}: {instance.instance_id} is {instance.state} and was declared lost")

    def _check_success(self, run: Run) -> None:
        attempt = run.attempt
        worker = attempt.worker if attempt else None
        if attempt is None or worker is None or (worker.instance_id, attempt.launch) not in self._wrote_success:
            raise self.broken("5", f"{run.run_id}: succeeded, but its own worker wrote no success")

    # ---- Invocations -----------------------------------------------------------------------------------------

    def invocation_ended(self, invocation: Invocation) -> None:
        if isinstance(invocation.error, AssertionError | NotImplementedError):
            raise invocation.error
        if invocation.succeeded:
            self._check_unheard(invocation)
        if self._cried_wolf and not invocation.faults:
            raise self.broken("6", self._cried_wolf)
        self._cried_wolf = ""
        if invocation.function != "reaper":
            return
        if not invocation.faults and not invocation.succeeded and not self._may_fail(invocation):
            raise self.broken("6", f"a {invocation.payload['sweep']} sweep failed by itself: {invocation.error!r}")
        if invocation.succeeded:
            check = self._after_inventory if invocation.payload["sweep"] == "inventory" else self._after_due
            check(invocation.started)

    def _check_unheard(self, invocation: Invocation) -> None:
        """An error that nobody could answer must fail the invocation, or the message that it was about."""
        failed = (invocation.result or {}).get("batchItemFailures")
        if invocation.unheard and not failed:
            raise self.broken("6", f"{invocation.function} ended well in spite of {invocation.unheard[0]}")

    def could_not_end(self, instance_id: str) -> None:
        """The code under test reports that it could not end a worker: it must still be there."""
        instance = self._world.ec2.instances.get(instance_id)
        since = instance.history[-1][0] if instance else 0.0
        if instance is None or (instance.state == "terminated" and since < self._world.kernel.now - STALE):
            self._cried_wolf = f"{instance_id} is gone and was reported as not to be ended"

    def _may_fail(self, invocation: Invocation) -> bool:
        """Sweeps fail by right while something may not be ended, and when two of them change one thing at once."""
        protected = any(instance.protected for instance in self._world.ec2.instances.values())
        text = str(invocation.error)
        throttled = self._world.scenario.neighbours > 0 and "RequestLimitExceeded" in text
        return protected or throttled or any(reason in text for reason in _FAIR)

    def _after_inventory(self, started: float) -> None:
        """A sweep that says it is complete has left nothing overdue."""
        for instance in self._world.ec2.instances.values():
            if not self.is_ours(instance) or instance.launched > started - STALE:
                continue
            if self._is_overdue(instance, started - STALE):
                raise self.broken("2", self._overdue_text(instance, "after a complete inventory sweep"))

    def _is_overdue(self, instance: Instance, moment: float) -> bool:
        deadline = self._deadline(instance)
        if instance.state == "stopped" and instance.tags.get("nightcrew:on-finish") == OnFinish.STOP:
            return moment >= deadline + KEPT and instance.history[-1][0] < moment
        if instance.state in {"pending", "running"}:
            # Somebody may have started a stopped worker by hand a moment ago.
            return moment >= deadline and instance.history[-1][0] < moment
        return instance.state == "stopped" and moment >= deadline and instance.history[-1][0] < moment

    def _deadline(self, instance: Instance) -> float:
        known = self._deadlines.get(instance.instance_id)
        if known is None:
            # Only what Nightcrew launched has one; the contract tests launch by hand.
            deadline = parse_time(instance.tags.get("nightcrew:deadline", ""))
            known = self._deadlines[instance.instance_id] = seconds_of(deadline) if deadline else math.inf
        return known

    def _overdue_text(self, instance: Instance, when: str) -> str:
        return (
            f"{instance.instance_id} is {instance.state} {when}, at {at(self._world.kernel.now):%H:%M:%S}; "
            f"its deadline was {instance.tags['nightcrew:deadline']}"
        )

    def _after_due(self, started: float) -> None:
        """A due sweep that says it is complete has left no run and no tick behind that were due before it began."""
        for run in self.runs.values():
            if run.status.is_terminal or seconds_of(run.updated_at) >= started - INDEX_LAG:
                continue
            if run.deadline < at(started - INDEX_LAG - GRACE) and run.status in _WATCHED:
                raise self.broken("2", f"{run.run_id}: {run.status} past its deadline after a complete due sweep")
        self._check_ticks(started)

    def _check_ticks(self, started: float) -> None:
        """A tick without a record is still expected, and looked after as soon as it is due."""
        for (name, tick), job in self._world.ticks.items():
            assert job.schedule
            run_id = run_id_of(name, at(tick), Trigger.SCHEDULE)
            latest = tick + job.schedule.start_within.total_seconds() + TICK_SLACK + INDEX_LAG
            if latest > started or run_id in self.runs or name in self._world.reapplied:
                continue
            item = self._world.table.items[f"JOB#{name}", "CURRENT"]
            expected = seconds_of(datetime.fromisoformat(item["tick"]["S"])) if "tick" in item else tick + 1
            # A sweep takes one tick of a job; after an outage the next sweep takes the next.
            if expected > tick or (expected == tick and self._job_written.get(name, 0) < started - INDEX_LAG):
                raise self.broken("3", f"{run_id}: no record after a complete due sweep")

    # ---- The end ---------------------------------------------------------------------------------------------

    def at_the_end(self) -> None:
        """After the night has grown calm: everything ended, told and cleaned up."""
        world = self._world
        for run in self.runs.values():
            if not run.status.is_terminal:
                raise self.broken("3", f"{run.run_id}: never ended, is {run.status}: {run.history[-1].text}")
            if run.notice:
                raise self.broken("3", f"{run.run_id}: its notice was never sent")
            if run.outcome not in {Outcome.SUCCEEDED, Outcome.CANCELLED}:
                subject = f"{run.status} {run.run_id}"
                if subject[:100] not in world.sns.published:
                    raise self.broken("6", f"{run.run_id}: {run.outcome}, and nobody was told")
        for (name, tick), _ in world.ticks.items():
            run_id = run_id_of(name, at(tick), Trigger.SCHEDULE)
            if run_id not in self.runs and name not in world.reapplied:
                raise self.broken("3", f"{run_id}: the tick has no record")
        for instance in world.ec2.instances.values():
            if self.is_ours(instance) and instance.state not in {"shutting-down", "terminated"}:
                raise self.broken("2", self._overdue_text(instance, "when the night is over"))
        for thing in world.ec2.things.values():
            if thing.tags.get("nightcrew:stack") == "nightcrew" and thing.attached_to is None:
                raise self.broken("2", f"{thing.thing_id} was left behind and never deleted")


_WATCHED = frozenset({RunStatus.STARTING, RunStatus.RUNNING, RunStatus.RETRYING})
# In use again, changed meanwhile, started by hand a moment ago and not to be stopped yet.
_FAIR = ("InUse", "changed", "not the newest", "IncorrectInstanceState")
