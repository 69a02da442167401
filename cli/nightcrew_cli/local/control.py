"""The control API of the local host: what a test or the command line may ask of it, as JSON over HTTP."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from nightcrew_cli.local import clock
from nightcrew_cli.local.events import EventRelay
from nightcrew_cli.local.faults import Faults
from nightcrew_cli.local.guests import GuestHouse
from nightcrew_cli.local.instances import INTERNAL_ERROR, Instance, Instances
from nightcrew_cli.local.records import new_id, tags_of
from nightcrew_cli.local.schedules import Schedules, UnknownScheduleError
from nightcrew_cli.local.scope import scope
from nightcrew_cli.local.settings import ACCOUNT, HostSettings

Payload = Mapping[str, Any]


class RefusedError(Exception):
    """The order cannot be carried out; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    settings: HostSettings
    instances: Instances
    guests: GuestHouse
    relay: EventRelay
    faults: Faults
    schedules: Schedules

    def answer(self, name: str, order: Payload) -> Any:
        """Carry out one order. Raise RefusedError when it makes no sense."""
        orders: dict[str, Callable[[Payload], Any]] = {
            "status": self._status,
            "instances": lambda _: [self._view(it) for it in self.instances.known.values()],
            "events": lambda it: self.relay.recent(int(it.get("after", 0))),
            "console": lambda it: {"text": self.guests.console(str(it["instance_id"]))},
            "faults": self._faults,
            "emit": self._emit,
            "tick": self._tick,
            "interrupt": lambda it: self._on(it, self._interrupt),
            "rebalance": lambda it: self._on(it, lambda one, _: self.instances.recommend_rebalance(one)),
            "kill_guest": lambda it: self._on(it, lambda one, _: self.guests.pull_plug(one.instance_id)),
            "hang": lambda it: self._on(it, lambda one, _: self.guests.freeze(one.instance_id)),
            "crash": lambda it: self._on(it, self._crash),
        }
        if name not in orders:
            raise RefusedError(f"unknown order {name!r}; there are: {', '.join(sorted(orders))}")
        try:
            return orders[name](order)
        except (KeyError, TypeError, ValueError) as error:
            raise RefusedError(f"{name}: {error!r}") from error

    def _status(self, _: Payload) -> dict[str, Any]:
        states = [instance.state for instance in self.instances.known.values()]
        return {
            "pid": os.getpid(),
            "home": self.settings.home,
            "endpoint": self.settings.endpoint,
            "region": self.settings.region,
            "instances": {state: states.count(state) for state in sorted(set(states))},
            "faults": len(self.faults.events) + len(self.faults.pools) + len(self.faults.calls),
        }

    def _view(self, instance: Instance) -> dict[str, Any]:
        worker = self.guests.workers.get(instance.instance_id)
        with scope(instance.account, instance.region):
            tags = tags_of(instance.instance_id)
        return {
            "instance_id": instance.instance_id,
            "state": instance.state,
            "instance_type": instance.record["InstanceType"],
            "zone": instance.zone,
            "capacity_type": instance.capacity_type,
            "reason": instance.reason.code if instance.reason else "",
            "tags": tags,
            "pid": worker.pid if worker else None,
            "supervisor_pid": worker.supervisor_pid if worker else None,
            "exit_code": worker.exit_code if worker else None,
            "guest_alive": self.guests.is_alive(instance.instance_id),
            "power_off_in": worker.power_off_in if worker else None,
            "folder": str(worker.folder) if worker else "",
        }

    def _faults(self, order: Payload) -> dict[str, Any]:
        self.faults.add(dict(order))
        return self._status({})

    def _emit(self, order: Payload) -> dict[str, str]:
        """Emit an event that the host itself never does, such as one of AWS Health."""
        event = {
            "EventId": new_id("e"),
            "Source": str(order["source"]),
            "DetailType": str(order["detail_type"]),
            "Detail": json.dumps(order.get("detail", {})),
            "EventBusName": "default",
            "Time": int(clock.now().timestamp()),
            "Resources": list(order.get("resources", ())),
            "Account": ACCOUNT,
            "Region": self.settings.region,
        }
        with scope(ACCOUNT, self.settings.region):
            self.relay.relay(event)
        return {"event_id": str(event["EventId"])}

    def _tick(self, order: Payload) -> dict[str, str]:
        time = order.get("scheduled_time")
        moment = datetime.fromisoformat(str(time).replace("Z", "+00:00")) if time else clock.now()
        try:
            return self.schedules.tick(str(order["name"]), moment.astimezone(UTC))
        except UnknownScheduleError as error:
            raise RefusedError(str(error)) from error

    def _on(self, order: Payload, act: Callable[[Instance, Payload], None]) -> dict[str, Any]:
        instance = self.instances.find(str(order["instance_id"]))
        if instance is None:
            raise RefusedError(f"there is no instance {order['instance_id']}")
        with scope(instance.account, instance.region):
            act(instance, order)
        return self._view(instance)

    def _interrupt(self, instance: Instance, order: Payload) -> None:
        if not instance.is_spot:
            raise RefusedError(f"{instance.instance_id} is on-demand; only Spot instances are interrupted")
        self.instances.interrupt(instance, float(order.get("notice", self.settings.interruption_notice)))

    def _crash(self, instance: Instance, _: Payload) -> None:
        self.instances.terminate(instance, INTERNAL_ERROR, at_once=True)
