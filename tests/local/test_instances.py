"""The life of an instance, with a clock of our own and no emulator."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from nightcrew_cli.local.instances import INTERNAL_ERROR, Instance, Instances
from nightcrew_cli.local.settings import HostSettings

START = datetime(2026, 11, 23, 2, 30, tzinfo=UTC)


@dataclass
class World:
    """Time, guests, resources and the bus of one small region."""

    now: datetime = START
    booted: list[str] = field(default_factory=list)
    alive: set[str] = field(default_factory=set)
    stubborn: set[str] = field(default_factory=set)
    released: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    timers: list[tuple[datetime, int, Callable[[], None]]] = field(default_factory=list)
    numbers: Any = field(default_factory=count)

    def boot(self, instance: Instance) -> None:
        self.booted.append(instance.instance_id)
        self.alive.add(instance.instance_id)

    def shut_down(self, instance_id: str, _grace: float) -> None:
        if instance_id not in self.stubborn:
            self.alive.discard(instance_id)

    def pull_plug(self, instance_id: str) -> None:
        self.alive.discard(instance_id)

    def is_alive(self, instance_id: str) -> bool:
        return instance_id in self.alive

    def release(self, instance: Instance) -> None:
        self.released.append(instance.instance_id)

    def forget(self, instance: Instance) -> None:
        self.forgotten.append(instance.instance_id)

    def later(self, delay: float, then: Callable[[], None]) -> None:
        heapq.heappush(self.timers, (self.now + timedelta(seconds=delay), next(self.numbers), then))

    def emit(self, _instance: Instance, kind: str, detail: dict[str, str]) -> None:
        self.told.append(detail.get("state") or kind)

    def pass_time(self, seconds: float) -> None:
        end = self.now + timedelta(seconds=seconds)
        while self.timers and self.timers[0][0] <= end:
            self.now, _, then = heapq.heappop(self.timers)
            then()
        self.now = end


def make_instance(**more: Any) -> Instance:
    record = {
        "InstanceId": "i-1",
        "State": {"Code": 0, "Name": "pending"},
        "Placement": {"AvailabilityZone": "us-east-1a"},
    }
    return Instance(record=record, account="000000000000", region="us-east-1", **more)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def instances(world: World) -> Instances:
    settings = HostSettings(home="/nowhere", pending=1, stopping=1, shutting_down=1, terminated_retention=100)
    return Instances(
        settings=settings,
        guests=world,
        resources=world,
        later=world.later,
        emit=world.emit,
        now=lambda: world.now,
    )


def test_a_launched_instance_boots_once_and_vanishes_long_after_its_end(world: World, instances: Instances) -> None:
    instance = make_instance()
    instances.launch(instance)
    assert (instance.state, world.booted) == ("pending", [])
    world.pass_time(1)
    assert (instance.state, world.booted) == ("running", ["i-1"])

    instances.terminate(instance)

    assert instance.state == "shutting-down"
    world.pass_time(1)
    assert (instance.state, world.released) == ("terminated", ["i-1"])
    assert instances.find("i-1") is instance
    world.pass_time(100)
    assert instances.find("i-1") is None
    assert world.forgotten == ["i-1"]
    assert world.told == ["pending", "running", "shutting-down", "terminated"]


def test_an_instance_terminated_while_pending_never_boots(world: World, instances: Instances) -> None:
    instance = make_instance()
    instances.launch(instance)

    instances.terminate(instance)

    world.pass_time(10)
    assert (instance.state, world.booted) == ("terminated", [])
    assert instance.transition_reason == "User initiated (2026-11-23 02:30:00 GMT)"


def test_an_instance_does_not_end_before_its_guest(world: World, instances: Instances) -> None:
    instance = make_instance()
    instances.launch(instance)
    world.pass_time(1)
    world.stubborn.add("i-1")

    instances.terminate(instance)

    world.pass_time(50)
    assert instance.state == "shutting-down"
    world.alive.clear()
    world.pass_time(1)
    assert instance.state == "terminated"


@pytest.mark.parametrize(
    ("behavior", "capacity_type", "state", "code"),
    [
        pytest.param("terminate", "on-demand", "terminated", "Client.InstanceInitiatedShutdown", id="as asked"),
        pytest.param("stop", "on-demand", "stopped", "Client.InstanceInitiatedShutdown", id="stopped when asked"),
        pytest.param("stop", "spot", "terminated", "Client.InstanceInitiatedShutdown", id="Spot cannot stop"),
    ],
)
def test_a_guest_that_switches_itself_off(
    world: World, instances: Instances, behavior: str, capacity_type: str, state: str, code: str
) -> None:
    instance = make_instance(shutdown_behavior=behavior, capacity_type=capacity_type)
    instances.launch(instance)
    world.pass_time(1)

    instances.guest_powered_off("i-1")

    world.pass_time(5)
    assert instance.state == state
    assert instance.reason is not None
    assert instance.reason.code == code


def test_a_stopped_instance_starts_without_running_its_user_data_again(world: World, instances: Instances) -> None:
    instance = make_instance()
    instances.launch(instance)
    world.pass_time(1)
    instances.stop(instance)
    world.pass_time(1)
    assert instance.state == "stopped"

    instances.start(instance)

    world.pass_time(1)
    assert (instance.state, world.booted) == ("running", ["i-1"])
    assert instance.reason is None


def test_an_interruption_warns_first_and_terminates_after_the_notice(world: World, instances: Instances) -> None:
    instance = make_instance(capacity_type="spot")
    instances.launch(instance)
    world.pass_time(1)

    instances.interrupt(instance, 120)

    assert instance.interruption_at == world.now + timedelta(seconds=120)
    world.pass_time(119)
    assert instance.state == "running"
    world.pass_time(5)
    assert instance.state == "terminated"
    assert instance.reason is not None
    assert instance.reason.code == "Server.SpotInstanceTermination"
    assert world.told[2] == "EC2 Spot Instance Interruption Warning"


def test_a_crash_needs_no_guest_to_agree(world: World, instances: Instances) -> None:
    instance = make_instance()
    instances.launch(instance)
    world.pass_time(1)
    world.stubborn.add("i-1")

    instances.terminate(instance, INTERNAL_ERROR, at_once=True)

    world.pass_time(2)
    assert instance.state == "terminated"


def test_ending_twice_changes_nothing(world: World, instances: Instances) -> None:
    instance = make_instance()
    instances.launch(instance)
    instances.terminate(instance)

    instances.terminate(instance, INTERNAL_ERROR)

    world.pass_time(5)
    assert world.told.count("terminated") == 1
    assert instance.reason is not None
    assert instance.reason.code == "Client.UserInitiatedShutdown"
