"""The life of an instance: every change of state is made here, with its reason and its event.

pending → running → (stopping → stopped → pending …) → shutting-down → terminated → gone. Each change takes a little
while, as on AWS, and each tells EventBridge. Nothing here knows HTTP, ministack or processes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from nightcrew_cli.local import clock
from nightcrew_cli.local.settings import HostSettings

STATE_CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
ENDED = frozenset({"shutting-down", "terminated"})

STATE_CHANGE = "EC2 Instance State-change Notification"
INTERRUPTION = "EC2 Spot Instance Interruption Warning"
REBALANCE = "EC2 Instance Rebalance Recommendation"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a state changed, in AWS's own codes."""

    code: str
    message: str
    transition: str = ""


USER_SHUTDOWN = Reason("Client.UserInitiatedShutdown", "Client.UserInitiatedShutdown: User initiated shutdown", "User")
GUEST_SHUTDOWN = Reason(
    "Client.InstanceInitiatedShutdown", "Client.InstanceInitiatedShutdown: Instance initiated shutdown"
)
SPOT_TERMINATION = Reason(
    "Server.SpotInstanceTermination", "Server.SpotInstanceTermination: Spot instance termination", "Service"
)
INTERNAL_ERROR = Reason("Server.InternalError", "Server.InternalError: Internal error on launch", "Service")


@dataclass(slots=True, kw_only=True)
class Instance:
    """One instance. `record` is what the emulator describes; the rest is what only a host knows."""

    record: dict[str, Any]
    account: str
    region: str
    user_data: bytes = b""
    capacity_type: str = "on-demand"
    shutdown_behavior: str = "stop"
    metadata_tags: bool = False
    termination_protected: bool = False
    profile: str = ""
    reason: Reason | None = None
    reason_at: datetime | None = None
    booted: bool = False
    rebalance_at: datetime | None = None
    interruption_at: datetime | None = None
    changes: int = 0

    @property
    def instance_id(self) -> str:
        return str(self.record["InstanceId"])

    @property
    def state(self) -> str:
        return str(self.record["State"]["Name"])

    @property
    def is_spot(self) -> bool:
        return self.capacity_type == "spot"

    @property
    def zone(self) -> str:
        return str(self.record["Placement"]["AvailabilityZone"])

    @property
    def transition_reason(self) -> str:
        if not self.reason or not self.reason.transition or not self.reason_at:
            return ""
        return f"{self.reason.transition} initiated ({self.reason_at:%Y-%m-%d %H:%M:%S} GMT)"


class Guests(Protocol):
    """The machines behind the instances."""

    def boot(self, instance: Instance) -> None: ...

    def shut_down(self, instance_id: str, grace: float) -> None: ...

    def pull_plug(self, instance_id: str) -> None: ...

    def is_alive(self, instance_id: str) -> bool:
        """Say whether any process of the guest is left; an instance ends only when none is."""


class Resources(Protocol):
    """What an instance owns besides itself: volumes, network interfaces, addresses."""

    def release(self, instance: Instance) -> None:
        """Detach and delete what goes with a terminated instance."""

    def forget(self, instance: Instance) -> None:
        """Remove the last trace of an instance, tags included."""


Later = Callable[[float, Callable[[], None]], object]
Emit = Callable[[Instance, str, dict[str, str]], None]


@dataclass(slots=True, kw_only=True)
class Instances:
    """All instances of the host and the only place where their states change."""

    settings: HostSettings
    guests: Guests
    resources: Resources
    later: Later
    emit: Emit
    now: Callable[[], datetime] = clock.now
    known: dict[str, Instance] = field(default_factory=dict)

    def find(self, instance_id: str) -> Instance | None:
        return self.known.get(instance_id)

    def launch(self, instance: Instance) -> None:
        self.known[instance.instance_id] = instance
        self._to_pending(instance)

    def start(self, instance: Instance) -> None:
        if instance.state == "stopped":
            instance.reason = None
            self._to_pending(instance)

    def stop(self, instance: Instance, reason: Reason = USER_SHUTDOWN) -> None:
        if instance.state in ("pending", "running"):
            self._because(instance, reason)
            self._enter(instance, "stopping")
            self._end_guest(instance, self.settings.stopping, self._to_stopped)

    def terminate(self, instance: Instance, reason: Reason = USER_SHUTDOWN, *, at_once: bool = False) -> None:
        if instance.state in ENDED:
            return
        had_guest = instance.state != "stopped"
        self._because(instance, reason)
        self._enter(instance, "shutting-down")
        if at_once:
            self.guests.pull_plug(instance.instance_id)
        if had_guest:
            self._end_guest(instance, self.settings.shutting_down, self._to_terminated)
        else:
            self._after(instance, self.settings.shutting_down, self._to_terminated)

    def guest_powered_off(self, instance_id: str) -> None:
        """The guest switched itself off: terminate or stop, as the launch request said."""
        instance = self.known.get(instance_id)
        if instance is None or instance.state not in ("pending", "running"):
            return
        # A one-time Spot request cannot be stopped, so its instance is terminated whatever the request said.
        if instance.shutdown_behavior == "terminate" or instance.is_spot:
            self.terminate(instance, GUEST_SHUTDOWN)
        else:
            self.stop(instance, GUEST_SHUTDOWN)

    def recommend_rebalance(self, instance: Instance) -> None:
        instance.rebalance_at = self.now()
        self.emit(instance, REBALANCE, {"instance-id": instance.instance_id})

    def interrupt(self, instance: Instance, notice: float) -> None:
        """Take a Spot instance back: warn now, in metadata and by event, and terminate after the notice."""
        if instance.state != "running" or instance.interruption_at:
            return
        instance.interruption_at = self.now() + timedelta(seconds=notice)
        instance.rebalance_at = instance.rebalance_at or self.now()
        self.emit(instance, INTERRUPTION, {"instance-id": instance.instance_id, "instance-action": "terminate"})
        self.later(notice, lambda: self.terminate(instance, SPOT_TERMINATION))

    def _to_pending(self, instance: Instance) -> None:
        self._enter(instance, "pending")
        self._after(instance, self.settings.pending, self._to_running)

    def _to_running(self, instance: Instance) -> None:
        self._enter(instance, "running")
        if not instance.booted:  # user data runs at the first boot only
            instance.booted = True
            self.guests.boot(instance)

    def _to_stopped(self, instance: Instance) -> None:
        self._enter(instance, "stopped")

    def _to_terminated(self, instance: Instance) -> None:
        self.resources.release(instance)
        self._enter(instance, "terminated")
        self._after(instance, self.settings.terminated_retention, self._forget)

    def _forget(self, instance: Instance) -> None:
        self.resources.forget(instance)
        self.known.pop(instance.instance_id, None)

    def _end_guest(self, instance: Instance, delay: float, then: Callable[[Instance], None]) -> None:
        """Change state when the delay is over and the guest is gone for good."""
        self.guests.shut_down(instance.instance_id, self.settings.shutdown_grace)
        self._after(instance, delay, lambda it: self._when_gone(it, then))

    def _when_gone(self, instance: Instance, then: Callable[[Instance], None]) -> None:
        if self.guests.is_alive(instance.instance_id):
            self._after(instance, 0.05, lambda it: self._when_gone(it, then))
        else:
            then(instance)

    def _after(self, instance: Instance, delay: float, then: Callable[[Instance], None]) -> None:
        """Call `then` unless the state has changed by then: a timer of a former state is void."""
        changes = instance.changes
        self.later(delay, lambda: then(instance) if instance.changes == changes else None)

    def _because(self, instance: Instance, reason: Reason) -> None:
        instance.reason, instance.reason_at = reason, self.now()

    def _enter(self, instance: Instance, state: str) -> None:
        instance.changes += 1
        instance.record["State"] = {"Code": STATE_CODES[state], "Name": state}
        self.emit(instance, STATE_CHANGE, {"instance-id": instance.instance_id, "state": state})
