"""One night, drawn from a seed: its jobs, its workers' behaviour, its faults, its people."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from nightcrew.domain.job import Backoff, CapacityType, Compute, Job, JobSchedule, OnFinish, Retry
from tests.simulation.guests import Behaviour

MINUTE, HOUR = 60.0, 3600.0

# The rate at which a kind of fault happens when a night has it at all: from - to, drawn on a logarithmic scale.
RATES = {
    # to every outside call
    "crash": (0.002, 0.05),
    "throttle": (0.01, 0.3),
    "server_error": (0.01, 0.2),
    "refused_connection": (0.01, 0.2),
    "lost_answer": (0.01, 0.3),
    "slow_call": (0.005, 0.1),
    # EC2
    "stale_read": (0.05, 0.5),
    "unseen": (0.05, 0.5),
    "killed_at_start": (0.05, 0.5),
    "stuck_shutdown": (0.05, 0.5),
    "left_behind": (0.05, 0.5),
    "call_without_capacity": (0.05, 0.5),
    "quota": (0.02, 0.4),
    "throttled_pool": (0.05, 0.7),
    "silent_zero": (0.1, 0.9),
    # DynamoDB and S3
    "index_lag": (0.05, 0.7),
    "unprocessed_keys": (0.05, 0.5),
    "conflict": (0.02, 0.3),
    "worker_put_fails": (0.05, 0.5),
    # delivery
    "event_lost": (0.05, 1.0),
    "event_twice": (0.05, 0.5),
    "event_late": (0.05, 0.5),
    "redelivered": (0.02, 0.3),
    "async_lost": (0.02, 0.3),
    "async_twice": (0.05, 0.7),
    "async_late": (0.02, 0.4),
    "tick_lost": (0.05, 0.5),
    "tick_twice": (0.05, 0.9),
    "tick_late": (0.05, 0.5),
}
SHARE_OF_NIGHTS = 0.22
NET_FAULTS = frozenset(RATES) - {
    *("killed_at_start", "stuck_shutdown", "left_behind", "call_without_capacity", "quota", "throttled_pool"),
    *("silent_zero", "worker_put_fails", "event_lost", "event_twice", "event_late", "redelivered"),
    *("tick_lost", "tick_twice", "tick_late"),
}

SHARE_OF_SPARED_NETS = 0.15

# What is out for a while: service, operation ("*": all of them), kind. "reaper", "events": not a client.
OUTAGES = (
    ("ec2", "*", "down"),
    ("ec2", "*", "throttled"),
    ("ec2", "TerminateInstances", "denied"),
    ("ec2", "CreateFleet", "denied"),
    ("ec2", "describe_instances", "denied"),
    ("ec2", "describe_volumes", "denied"),
    ("ec2", "*", "silent"),
    ("dynamodb", "*", "silent"),
    ("s3", "*", "silent"),
    ("dynamodb", "*", "down"),
    ("dynamodb", "*", "throttled"),
    ("dynamodb", "PutItem", "denied"),
    ("s3", "*", "down"),
    ("s3", "GetObject", "denied"),
    ("sns", "*", "down"),
    ("lambda", "*", "down"),
    ("reaper", "*", "stopped"),
    ("reaper", "*", "stopped"),
    ("reaper", "due", "stopped"),
    ("events", "*", "silenced"),
    ("events", "*", "silenced"),
)

PEOPLE = (
    "cancel",
    "cancel",
    "manual",
    "terminate_by_hand",
    "stop_by_hand",
    "protect",
    "start_by_hand",
    "poison",
    "interrupt_all",
    "interrupt_all",
    "empty_table",
    "apply_again",
)


@dataclass(frozen=True, slots=True)
class Outage:
    service: str
    operation: str
    kind: str
    begins: float
    ends: float

    def covers(self, service: str, operation: str, now: float) -> bool:
        return self.service == service and self.operation in {"*", operation} and self.begins <= now < self.ends


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that a person, or the world, does at a moment."""

    at: float
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    seed: int | str
    jobs: tuple[Job, ...]
    behaviours: Mapping[str, float] = field(default_factory=dict)
    work: tuple[float, float] = (60.0, 1200.0)
    rates: Mapping[str, float] = field(default_factory=dict)
    outages: tuple[Outage, ...] = ()
    deeds: tuple[Deed, ...] = ()
    dry: float = 0.0
    neighbours: float = 0.0
    foreigners: int = 0
    timers_fail: float = 0.0
    clocks_err: float = 0.0
    zero_keeps_token: bool = True
    dead_token: str = "IdempotentInstanceTerminated"
    unknown_is_denied: bool = True
    page_size: int = 1000
    skip: frozenset[str] = frozenset()
    cut_before: int = 0
    cut_after: int = 0

    @property
    def spares_the_net(self) -> bool:
        """Whether nothing of this night keeps a sweep from being called, from seeing, or from ending workers."""
        meddling = {"protect", "start_by_hand"}
        return (
            not self.outages
            and not self.neighbours
            and not NET_FAULTS & set(self.rates)
            and not any(deed.what in meddling for deed in self.deeds)
            and not (self.cut_before or self.cut_after)
        )

    def without_rate(self, kind: str) -> Scenario:
        return replace(self, rates={name: rate for name, rate in self.rates.items() if name != kind})


def draw(seed: int) -> Scenario:
    """Return the night of a seed. A night has some kinds of faults, not all: too many hide each other."""
    chance = random.Random(f"scenario/{seed}")
    rates = {
        kind: low * (high / low) ** chance.random()
        for kind, (low, high) in RATES.items()
        if chance.random() < SHARE_OF_NIGHTS
    }
    jobs = tuple(_job(number, chance) for number in range(chance.choice((1, 1, 2, 2, 3))))
    if chance.random() < SHARE_OF_SPARED_NETS:
        # Promise 2 has a figure, and it can be checked to the second only while the sweeps themselves are well.
        rates = {kind: rate for kind, rate in rates.items() if kind not in NET_FAULTS}
        return _night(seed, chance, jobs, rates, spared=True)
    return _night(seed, chance, jobs, rates, spared=False)


def _night(
    seed: int, chance: random.Random, jobs: tuple[Job, ...], rates: dict[str, float], *, spared: bool
) -> Scenario:
    outages = tuple(_outage(chance) for _ in range(chance.choice((0, 0, 0, 1, 1, 2))))
    neighbours = chance.choice((0.0, 0.0, 0.0, 0.9, 0.99))
    return Scenario(
        seed=seed,
        jobs=jobs,
        behaviours=_behaviours(chance),
        work=chance.choice(((20.0, 120.0), (60.0, 900.0), (600.0, 5400.0))),
        rates=rates,
        outages=() if spared else outages,
        deeds=tuple(
            Deed(chance.uniform(0, 2 * HOUR), chance.choice(PEOPLE)) for _ in range(chance.choice((0, 0, 1, 1, 2, 4)))
        ),
        dry=chance.choice((0.0, 0.0, 0.2, 0.6, 0.95)),
        neighbours=0.0 if spared else neighbours,
        foreigners=chance.choice((0, 1, 3)),
        timers_fail=chance.choice((0.0, 0.5, 1.0)),
        clocks_err=chance.choice((0.0, 0.0, 0.5)),
        zero_keeps_token=chance.random() < 0.5,
        dead_token=chance.choice(("IdempotentInstanceTerminated", "")),
        unknown_is_denied=chance.random() < 0.7,
        page_size=chance.choice((1, 2, 1000)),
    )


def _job(number: int, chance: random.Random) -> Job:
    timeout = chance.choice((5, 15, 40)) * MINUTE
    deadline = timeout + chance.choice((5, 20, 60)) * MINUTE
    on_finish = OnFinish.STOP if chance.random() < 0.2 else OnFinish.TERMINATE
    bought = CapacityType.ON_DEMAND if on_finish is OnFinish.STOP else chance.choice(list(CapacityType))
    minutes = chance.randint(2, 25)
    when = f"{minutes}" if chance.random() < 0.7 else f"{minutes},{minutes + 30}"
    return Job(
        name=f"job-{number}",
        command="./work",
        compute=Compute(
            image=chance.choice(("ami-12345678", "ssm:/aws/service/image")),
            instance_types=("m7g.large", "m6g.large")[: chance.randint(1, 2)],
            capacity_type=bought,
            disk_gib=chance.choice((None, 30)),
        ),
        timeout=timedelta(seconds=timeout),
        deadline=timedelta(seconds=deadline),
        schedule=JobSchedule(
            expressions=(f"cron({when} 0 16 1 ? 2026)",),
            start_within=timedelta(minutes=chance.choice((2, 5, 15))),
        ),
        retry=Retry(
            attempts=chance.choice((1, 2, 3)),
            interruptions=chance.choice((0, 1, 3)),
            backoff=Backoff(initial=timedelta(seconds=chance.choice((5, 60))), max=timedelta(minutes=5)),
        ),
        on_finish=on_finish,
        tags={"team": "data"},
    )


def _behaviours(chance: random.Random) -> dict[str, float]:
    """Mostly honest workers, or a few kinds of trouble."""
    weights = {Behaviour.SUCCEEDS.value: 3.0, Behaviour.FAILS.value: 1.0}
    for behaviour in Behaviour:
        if chance.random() < 0.25:
            weights[behaviour.value] = chance.choice((1.0, 3.0))
    return weights


def _outage(chance: random.Random) -> Outage:
    service, operation, kind = chance.choice(OUTAGES)
    begins = chance.uniform(0, 1.5 * HOUR)
    longest = 3 * HOUR if service in {"reaper", "events"} else HOUR
    return Outage(service, operation, kind, begins, begins + chance.uniform(2 * MINUTE, longest))
