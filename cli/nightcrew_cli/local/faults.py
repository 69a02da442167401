"""What can go wrong on request: lost, late and repeated events, dry capacity pools, lost and refused calls."""

from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

EventAction = Literal["drop", "delay", "duplicate"]
CallMode = Literal["refuse", "lose", "delay"]


@dataclass(slots=True, kw_only=True)
class EventFault:
    """Applies to matching events; `times` None means until cleared."""

    action: EventAction
    source: str = "*"
    contains: str = ""
    seconds: float = 1.0
    copies: int = 2
    times: int | None = None

    def takes(self, source: str, text: str) -> bool:
        return self.times != 0 and self.source in ("*", source) and self.contains in text


@dataclass(slots=True, kw_only=True)
class DryPool:
    """A capacity pool that gives `available` more instances and then an error of AWS's own."""

    instance_type: str = "*"
    zone: str = "*"
    capacity_type: str = "*"
    available: int = 0
    code: str = "InsufficientInstanceCapacity"
    message: str = "There is no capacity available that matches your request."

    def covers(self, instance_type: str, zone: str, capacity_type: str) -> bool:
        return (
            self.instance_type in ("*", instance_type)
            and self.zone in ("*", zone)
            and self.capacity_type in ("*", capacity_type)
        )


@dataclass(slots=True, kw_only=True)
class CallFault:
    """Applies to API calls named as IAM names them (`ec2:CreateFleet`).

    refuse: nothing is done and the error is answered. lose: it is done, and the answer is lost; with status 0 the
    connection breaks, else that error is answered. delay: it is done, and the answer comes `seconds` later,
    or when the faults are cleared.
    """

    call: str
    mode: CallMode = "refuse"
    code: str = "InternalError"
    message: str = "An internal error has occurred"
    status: int = 500
    seconds: float = 1.0
    times: int | None = 1

    def takes(self, call: str) -> bool:
        return self.times != 0 and self.call in ("*", call)


@dataclass(slots=True)
class Faults:
    """The faults that are switched on now."""

    events: list[EventFault] = field(default_factory=list)
    pools: list[DryPool] = field(default_factory=list)
    calls: list[CallFault] = field(default_factory=list)

    def add(self, order: dict[str, Any]) -> None:
        """Switch faults on: {"events": [...], "pools": [...], "calls": [...]}; "clear": true switches off first."""
        if order.get("clear"):
            self.clear()
        self.events += [EventFault(**fault) for fault in order.get("events", ())]
        self.pools += [DryPool(**fault) for fault in order.get("pools", ())]
        self.calls += [CallFault(**fault) for fault in order.get("calls", ())]

    def clear(self) -> None:
        self.events.clear()
        self.pools.clear()
        self.calls.clear()

    def for_event(self, source: str, text: str) -> EventFault | None:
        return _use(next((fault for fault in self.events if fault.takes(source, text)), None))

    def for_call(self, call: str) -> CallFault | None:
        return _use(next((fault for fault in self.calls if fault.takes(call)), None))

    def dry_pool(self, instance_type: str, zone: str, capacity_type: str) -> DryPool | None:
        """Return the pool's shortage, or None when there is capacity; what is available is used up by the call."""
        for pool in self.pools:
            if pool.covers(instance_type, zone, capacity_type):
                if pool.available <= 0:
                    return pool
                pool.available -= 1
        return None


Fault = TypeVar("Fault", EventFault, CallFault)


def _use(fault: Fault | None) -> Fault | None:
    if fault and fault.times is not None:
        fault.times -= 1
    return fault
