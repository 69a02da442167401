"""EC2 as it is behind its API: instances and their lives, what they own, capacity, and who may see what when."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.simulation.kernel import at

if TYPE_CHECKING:
    from tests.simulation.dice import Dice
    from tests.simulation.kernel import Kernel

LIVE = frozenset({"pending", "running"})
GONE = frozenset({"shutting-down", "terminated"})
CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
FORGOTTEN_AFTER = 3600.0

BY_ITSELF = ("Client.InstanceInitiatedShutdown", "Client.InstanceInitiatedShutdown: Instance initiated shutdown")
BY_USER = ("Client.UserInitiatedShutdown", "Client.UserInitiatedShutdown: User initiated shutdown")
BY_SPOT = ("Server.SpotInstanceTermination", "Server.SpotInstanceTermination: Spot instance termination")
KILLED_AT_START = (
    ("Server.InsufficientInstanceCapacity", "Server.InsufficientInstanceCapacity: no capacity after all"),
    ("Client.VolumeLimitExceeded", "Client.VolumeLimitExceeded: Volume limit exceeded"),
    ("Client.InternalError", "Client.InternalError: Client error on launch"),
)


@dataclass(eq=False, slots=True, kw_only=True)
class Instance:
    """`history` holds (since, state); `tags_until` is when a terminated instance loses its tags."""

    instance_id: str
    instance_type: str
    zone: str
    subnet: str
    capacity_type: str
    tags: dict[str, str]
    launched: float
    token: str = ""
    image: str = ""
    protected: bool = False
    behaviour: str = "terminate"
    history: list[tuple[float, str]] = field(default_factory=list)
    reason: tuple[str, str] = ("", "")
    tags_until: float | None = None
    owned: list[str] = field(default_factory=list)
    warned: float | None = None
    restarted: bool = False
    guest: Any = None

    @property
    def state(self) -> str:
        return self.history[-1][1]

    @property
    def is_live(self) -> bool:
        return self.history[-1][1] in LIVE

    def state_at(self, moment: float) -> str | None:
        """Return the state of that moment; None when the instance was not there yet."""
        return next((state for since, state in reversed(self.history) if since <= moment), None)

    def tags_at(self, moment: float) -> dict[str, str]:
        return {} if self.tags_until is not None and moment >= self.tags_until else self.tags


@dataclass(eq=False, slots=True, kw_only=True)
class Thing:
    """A volume or a network interface. `created` is not known for an interface."""

    thing_id: str
    tags: dict[str, str]
    created: float
    attached_to: str | None


@dataclass(eq=False, kw_only=True)
class Ec2:
    kernel: Kernel
    dice: Dice
    emit: Callable[[str, dict[str, str]], None]
    instances: dict[str, Instance] = field(default_factory=dict)
    things: dict[str, Thing] = field(default_factory=dict)
    launched: Callable[[Instance], None] = lambda instance: None
    ended: Callable[[Instance], None] = lambda instance: None
    make_guest: Callable[[Instance], Any] = lambda instance: None
    _numbers: int = 0

    # ---- Looking ---------------------------------------------------------------------------------------------

    def live(self) -> Iterator[Instance]:
        return (instance for instance in self.instances.values() if instance.is_live)

    def seen(self, moment: float) -> list[tuple[Instance, str]]:
        """Return the instances with their states as they were at a moment: what a stale read shows."""
        return [(it, state) for it in self.instances.values() if (state := it.state_at(moment)) is not None]

    # ---- Launching and ending --------------------------------------------------------------------------------

    def new_id(self, prefix: str) -> str:
        self._numbers += 1
        return f"{prefix}-{self._numbers:08x}"

    def launch(self, **what: Any) -> Instance:
        instance = Instance(instance_id=self.new_id("i"), launched=self.kernel.now, **what)
        self.instances[instance.instance_id] = instance
        for prefix in ("vol", "eni"):
            thing_id = self.new_id(prefix)
            self.things[thing_id] = Thing(
                thing_id=thing_id,
                tags=dict(instance.tags),
                created=self.kernel.now,
                attached_to=instance.instance_id,
            )
            instance.owned.append(thing_id)
        self._to_pending(instance)
        self.launched(instance)
        return instance

    def terminate(self, instance: Instance, reason: tuple[str, str] = BY_USER) -> None:
        if instance.state in GONE:
            return
        instance.reason = reason
        self._enter(instance, "shutting-down")
        self._pull_plug(instance)
        delay = self.dice.between(5, 60, "shutdown")
        if self.dice.fault("stuck_shutdown"):
            delay += self.dice.between(60, 1800, "shutdown")
        self._later(instance, delay, self._to_terminated)

    def stop(self, instance: Instance, reason: tuple[str, str] = BY_USER) -> None:
        if instance.state in LIVE:
            instance.reason = reason
            self._enter(instance, "stopping")
            self._pull_plug(instance)
            self._later(instance, self.dice.between(5, 60, "shutdown"), lambda it: self._enter(it, "stopped"))

    def start(self, instance: Instance) -> None:
        if instance.state == "stopped":
            instance.reason, instance.restarted = ("", ""), True
            self._to_pending(instance)

    def power_off(self, instance: Instance) -> None:
        """The guest switched its machine off; a one-time Spot instance cannot be stopped."""
        if instance.is_live:
            ends = instance.behaviour == "terminate" or instance.capacity_type == "spot"
            (self.terminate if ends else self.stop)(instance, BY_ITSELF)

    def interrupt(self, instance: Instance) -> None:
        """Take a Spot instance back: two minutes' notice, by event and in the guest's metadata."""
        if instance.state != "running" or instance.warned is not None:
            return
        instance.warned = self.kernel.now
        self.emit(
            "EC2 Spot Instance Interruption Warning",
            {"instance-id": instance.instance_id, "instance-action": "terminate"},
        )
        if instance.guest:
            instance.guest.warned()
        self.kernel.after(120, self.terminate, instance, BY_SPOT)

    def release(self, instance: Instance) -> None:
        """Delete what belongs to a terminated instance, or leave it behind."""
        for thing_id in instance.owned:
            thing = self.things.get(thing_id)
            if thing is None or thing.attached_to != instance.instance_id:
                continue
            thing.attached_to = None
            if not self.dice.fault("left_behind"):
                del self.things[thing_id]

    # ---- Changes of state ------------------------------------------------------------------------------------

    def _to_pending(self, instance: Instance) -> None:
        self._enter(instance, "pending")
        if not instance.owned or not self.dice.fault("killed_at_start"):
            self._later(instance, self.dice.between(3, 40, "boot"), self._to_running)
            return
        reason = self.dice.choice(KILLED_AT_START, "killed_at_start_by")
        self._later(instance, self.dice.between(1, 8, "boot"), lambda it: self._kill(it, reason))

    def _kill(self, instance: Instance, reason: tuple[str, str]) -> None:
        instance.reason = reason
        self._enter(instance, "shutting-down")
        self._to_terminated(instance)

    def _to_running(self, instance: Instance) -> None:
        self._enter(instance, "running")
        if instance.guest is None:
            instance.guest = self.make_guest(instance)

    def _to_terminated(self, instance: Instance) -> None:
        self.release(instance)
        self._enter(instance, "terminated")
        instance.tags_until = self.kernel.now + self.dice.between(30, FORGOTTEN_AFTER, "fade")
        self._later(instance, FORGOTTEN_AFTER, lambda it: self.instances.pop(it.instance_id, None))

    def _enter(self, instance: Instance, state: str) -> None:
        instance.history.append((self.kernel.now, state))
        self.kernel.note(instance.instance_id, state, instance.reason[0])
        self.emit("EC2 Instance State-change Notification", {"instance-id": instance.instance_id, "state": state})
        if state in {"stopping", "shutting-down"}:
            self.ended(instance)

    def _pull_plug(self, instance: Instance) -> None:
        if instance.guest is not None:
            instance.guest.die()

    def _later(self, instance: Instance, seconds: float, then: Callable[[Instance], object]) -> None:
        changes = len(instance.history)
        self.kernel.after(seconds, self._unless_changed, instance, changes, then)

    @staticmethod
    def _unless_changed(instance: Instance, changes: int, then: Callable[[Instance], object]) -> None:
        if len(instance.history) == changes:
            then(instance)


class Bucket:
    """A token bucket of EC2's API throttling."""

    def __init__(self, size: float, refill: float) -> None:
        self.size, self.refill, self._level, self._at = size, refill, size, 0.0

    def take(self, now: float, tokens: float = 1.0) -> bool:
        self._level = min(self.size, self._level + (now - self._at) * self.refill)
        self._at = now
        if self._level < tokens:
            return False
        self._level -= tokens
        return True


# Burst and refill per second, per account and Region (EC2 API reference, "Request throttling").
REQUESTS = {
    "CreateFleet": (50, 5),
    "TerminateInstances": (100, 5),
    "StopInstances": (50, 5),
    "RunInstances": (5, 2),
    "DeleteVolume": (100, 5),
    "DeleteNetworkInterface": (100, 5),
}
READS = (100, 20)
RESOURCES = {"CreateFleet": (1000, 2), "TerminateInstances": (1000, 20), "StopInstances": (1000, 20)}


@dataclass(eq=False)
class Throttle:
    """The account's buckets. `neighbours` is the share of them that other users of the account take away."""

    neighbours: float = 0.0
    _requests: dict[str, Bucket] = field(default_factory=dict)
    _resources: dict[str, Bucket] = field(default_factory=dict)

    def admits(self, operation: str, now: float, resources: int) -> bool:
        if operation not in self._requests:
            self._requests[operation] = self._bucket(REQUESTS.get(operation, READS))
            self._resources[operation] = self._bucket(RESOURCES.get(operation, (1e9, 1e9)))
        return self._requests[operation].take(now) and self._resources[operation].take(now, resources)

    def _bucket(self, figures: tuple[float, float]) -> Bucket:
        left = 1.0 - self.neighbours
        return Bucket(max(1.0, figures[0] * left), max(0.02, figures[1] * left))


def describe_instance(instance: Instance, state: str, moment: float) -> dict[str, Any]:
    """Return the instance as DescribeInstances shows it."""
    described: dict[str, Any] = {
        "InstanceId": instance.instance_id,
        "State": {"Code": CODES[state], "Name": state},
        "LaunchTime": at(float(int(instance.launched))),
        "InstanceType": instance.instance_type,
        "ImageId": instance.image,
        "Placement": {"AvailabilityZone": instance.zone},
        "Tags": [{"Key": key, "Value": value} for key, value in instance.tags_at(moment).items()],
    }
    if instance.capacity_type == "spot":
        described["InstanceLifecycle"] = "spot"
    if state not in GONE:
        described["PrivateIpAddress"] = "10.0.0." + str(int(instance.instance_id[2:], 16) % 250)
    if instance.reason[0] and state not in LIVE:
        described["StateReason"] = {"Code": instance.reason[0], "Message": instance.reason[1]}
    return described


def matches(instance: Instance, state: str, moment: float, filters: Iterable[dict[str, Any]]) -> bool:
    tags = instance.tags_at(moment)
    for one in filters:
        name, values = one["Name"], one["Values"]
        if name == "instance-id":
            value: str | None = instance.instance_id
        elif name == "instance-state-name":
            value = state
        elif name.startswith("tag:"):
            value = tags.get(name[4:])
        else:
            raise NotImplementedError(name)
        if value not in values:
            return False
    return True
