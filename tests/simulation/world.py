"""One night put together: the simulated AWS, the deployed functions, the guests, the people and the faults."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from nightcrew.adapters.job_store import DynamoJobs
from nightcrew.adapters.table import Table as TableAdapter
from nightcrew.domain import schedule
from nightcrew.domain.job import Job
from nightcrew.usecases.operate import ScheduleTarget, desired_schedule
from tests.simulation.dice import Dice
from tests.simulation.dynamodb import DynamoClient, Table
from tests.simulation.ec2 import Ec2, Instance, Throttle
from tests.simulation.ec2_client import Account, Ec2Client
from tests.simulation.exchange import Bucket, S3Client, SnsClient, SsmClient
from tests.simulation.functions import ENVIRONMENT, TIMEOUTS, Functions
from tests.simulation.guests import Behaviour, Guest
from tests.simulation.invariants import Invariants
from tests.simulation.kernel import START, Invocation, Kernel, seconds_of
from tests.simulation.messaging import AsyncConfig, AsyncInvocations, EventBridge, LambdaClient, Queue, Scheduler
from tests.simulation.people import People
from tests.simulation.scenario import Scenario

# EventInvokeConfig of template.yaml.
ASYNC = {"launcher": AsyncConfig(2, 3600), "reaper": AsyncConfig(0, 60)}
SWEEPS = {"due": 60.0, "inventory": 600.0}
DRY_SLOT = 900.0


class World:
    def __init__(self, scenario: Scenario, *, verbose: bool = False) -> None:
        self.scenario = scenario
        self.kernel = Kernel(verbose=verbose)
        self.dice = Dice(scenario.seed, scenario.rates, scenario.skip)
        self.calls = 0
        self.cut_before, self.cut_after = scenario.cut_before, scenario.cut_after
        self.idle_sweeps = 0
        self.query_page = 1000 if scenario.page_size > 2 else 2
        self.waiting_guests: dict[str, Guest] = {}
        self.ticks: dict[tuple[str, float], Job] = {}
        self.applied: dict[str, Job] = {}
        self.reapplied: set[str] = set()
        self._last_tick = 0.0
        kernel, dice = self.kernel, self.dice
        self.events = EventBridge(
            kernel=kernel, dice=dice, deliver=self._deliver_event, silent=lambda: bool(self.outage("events", "*"))
        )
        self.ec2 = Ec2(kernel=kernel, dice=dice, emit=self._ec2_event, make_guest=self._make_guest)
        self.account = Account(
            self.ec2,
            throttle=Throttle(scenario.neighbours),
            is_dry=self._is_dry,
            zero_keeps_token=scenario.zero_keeps_token,
            dead_token=scenario.dead_token,
            unknown_is_denied=scenario.unknown_is_denied,
            page_size=scenario.page_size,
        )
        self.table = Table(kernel, dice)
        self.bucket = Bucket(created=self._object_event, arrived=self._roster_arrived)
        self.async_calls = AsyncInvocations(kernel=kernel, dice=dice, invoke=self.invoke, configs=ASYNC)
        self.queue = Queue(kernel=kernel, dice=dice, invoke=self.invoke)
        self.scheduler = Scheduler(kernel=kernel, dice=dice, accept=self.async_calls.accept)
        self.sns = SnsClient(self)
        self._clients = {
            "ec2": Ec2Client(self, self.account),
            "dynamodb": DynamoClient(self, self.table),
            "s3": S3Client(self, self.bucket),
            "sns": self.sns,
            "ssm": SsmClient(self),
            "lambda": LambdaClient(self, self.async_calls),
        }
        self.functions = Functions(self)
        self.functions.enter()
        self.invariants = Invariants(self)
        self.people = People(self)
        self._begin()

    # ---- Parts -----------------------------------------------------------------------------------------------

    def client(self, service: str) -> Any:
        return self._clients[service]

    def launch_client(self, service: str, config: Any) -> Ec2Client:
        assert service == "ec2"
        return Ec2Client(self, self.account, config.retries["total_max_attempts"], config.read_timeout)

    def draw_nonce(self) -> str:
        return f"{self.dice.stream('nonce').getrandbits(128):032x}"

    def outage(self, service: str, operation: str) -> str:
        """Return what is wrong with a service now: down, throttled, denied, stopped, silenced; empty when nothing."""
        if self.dice.calm:
            return ""
        now = self.kernel.now
        found = (it.kind for it in self.scenario.outages if it.covers(service, operation, now))
        return next(found, "")

    def _is_dry(self, instance_type: str, zone: str, capacity_type: str) -> bool:
        slot = int(self.kernel.now // DRY_SLOT)
        pool = f"dry/{instance_type}/{zone}/{capacity_type}/{slot}"
        share = self.scenario.dry
        if not share or self.dice.calm:
            return False
        return self.dice.stream(pool).random() < share and self.dice.happens("dry_pool")

    # ---- Events ----------------------------------------------------------------------------------------------

    def _ec2_event(self, kind: str, detail: dict[str, str]) -> None:
        self.events.emit("aws.ec2", kind, detail)

    def _object_event(self, key: str) -> None:
        if key.endswith("/result.json"):
            self.events.emit("aws.s3", "Object Created", {"bucket": {"name": "b"}, "object": {"key": key}})

    def _deliver_event(self, body: str) -> None:
        self.queue.send(body)

    def _roster_arrived(self, key: str) -> None:
        guest = self.waiting_guests.get(key)
        if guest:
            guest.found_roster()

    # ---- Guests ----------------------------------------------------------------------------------------------

    def _make_guest(self, instance: Instance) -> Guest | None:
        if not self.invariants.is_ours(instance) or "nightcrew:deadline" not in instance.tags:
            return None
        weights = self.scenario.behaviours or {Behaviour.SUCCEEDS.value: 1.0}
        stream = self.dice.stream("behaviour")
        name = stream.choices(list(weights), list(weights.values()))[0]
        return Guest(
            self,
            instance,
            Behaviour(name),
            work=self.dice.between(*self.scenario.work, of="work"),
            timer_works=stream.random() >= self.scenario.timers_fail,
            clock_error=stream.uniform(-7200, 7200) if stream.random() < self.scenario.clocks_err else 0.0,
        )

    def worked(self, instance: Instance) -> None:
        self.kernel.note(instance.instance_id, "begins to work:", instance.guest.behaviour)

    def worker_writes(self, instance: Instance, body: bytes) -> None:
        """IAM lets a worker write under its own name only."""
        role, launch = ENVIRONMENT["NIGHTCREW_WORKER_ROLE_ID"], instance.tags["nightcrew:launch"]
        self.invariants.result_written(instance, body)
        self.bucket.put(f"workers/{role}:{instance.instance_id}/{launch}/result.json", body)

    # ---- Invocations -----------------------------------------------------------------------------------------

    def invoke(self, function: str, payload: Any, done: Any) -> None:
        def finished(invocation: Invocation) -> None:
            self.invariants.invocation_ended(invocation)
            done(invocation)

        self.kernel.start(function, payload, self.functions.body(function, payload), TIMEOUTS[function], finished)

    # ---- Beginning -------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        for job in self.scenario.jobs:
            self.apply(job)
        for name in SWEEPS:
            self.kernel.after(self.dice.between(0, SWEEPS[name], "sweeps"), self._sweep, name)
        self.people.begin(self.scenario)

    def apply(self, job: Job) -> None:
        """What `nightcrew apply` does: the record by the real adapter, the schedule as the real payload says."""
        target = ScheduleTarget(launcher="arn:launcher", role="arn:role", dead_letters="arn:queue")
        wanted = desired_schedule(job, target)
        assert wanted
        assert job.schedule
        calm, self.dice.calm = self.dice.calm, True
        DynamoJobs(TableAdapter(self.client("dynamodb"), "nightcrew-table")).put(job, self.kernel.clock())
        self.dice.calm = calm
        if job.name in self.applied:
            self.reapplied.add(job.name)
            return
        self.applied[job.name] = job
        ticks = schedule.parse(*job.schedule.expressions).ticks_between(START, START + timedelta(hours=12), "UTC")
        for tick in ticks:
            moment = seconds_of(tick)
            self.ticks[job.name, moment] = job
            self._last_tick = max(self._last_tick, moment)
            text = wanted.payload.replace("<aws.scheduler.scheduled-time>", f"{tick:%Y-%m-%dT%H:%M:%SZ}")
            self.scheduler.fire(moment, "launcher", json.loads(text))

    def _sweep(self, name: str) -> None:
        """Scheduler's rate(…): once in a period, within its minute."""
        self.kernel.after(SWEEPS[name], self._sweep, name)
        if self.outage("reaper", name) == "stopped":
            self.dice.fired["reaper_stopped"] += 1
            return
        if name == "due" and self._nothing_due():
            self.idle_sweeps += 1
            return
        self.kernel.after(self.dice.between(0, 5, "sweeps"), self.async_calls.accept, "reaper", {"sweep": name})

    def _nothing_due(self) -> bool:
        """An idle sweep is one query and nothing else; only one in ten of them is run."""
        now = self.kernel.clock().isoformat()
        if any(sort <= now for _, sort, _ in self.table.index("due")):
            return False
        return self.dice.between(0, 1, "idle") > 0.1

    # ---- The end ---------------------------------------------------------------------------------------------

    def is_quiet(self) -> bool:
        """Nothing is left to happen but sweeps that find nothing."""
        return (
            self.people.done
            and not self.kernel.is_busy
            and not self.scheduler.pending
            and not self.events.on_the_way
            and not self.async_calls.waiting
            and self.queue.is_empty
            and not self.table.index("due")
            and not any(self.invariants.is_ours(it) and it.state not in _OVER for it in self.ec2.instances.values())
            and not self._left_overs()
        )

    def is_quiet_after_the_night(self) -> bool:
        return not self.kernel.steps % 20 and self.kernel.now > self._last_tick + 2 and self.is_quiet()

    def grow_calm(self) -> None:
        """From here on nothing goes wrong any more."""
        self.kernel.note("calm")
        self.dice.calm = True
        self.people.take_off_protection()
        # One more of each sweep, undisturbed, whatever was quiet before.
        for name in SWEEPS:
            self.async_calls.accept("reaper", {"sweep": name})

    def close(self) -> None:
        """Let go of invocations that are still under way."""
        self.kernel.close()
        self.functions.leave()

    def _left_overs(self) -> bool:
        return any(
            thing.attached_to is None and thing.tags.get("nightcrew:stack") == "nightcrew"
            for thing in self.ec2.things.values()
        )


_OVER = frozenset({"shutting-down", "terminated"})
