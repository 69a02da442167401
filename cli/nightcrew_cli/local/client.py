"""The control API of the local host, as other processes use it."""

import contextlib
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nightcrew_cli.local import clock


class LocalError(Exception):
    """The local stack cannot do what was asked; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One instance of the host with what only the host can know: its processes."""

    instance_id: str
    state: str
    instance_type: str
    zone: str
    capacity_type: str
    reason: str
    tags: dict[str, str]
    pid: int | None
    supervisor_pid: int | None
    exit_code: int | None
    guest_alive: bool
    power_off_in: float | None
    folder: str


@dataclass(frozen=True, slots=True)
class LocalHost:
    """The control API of a host that is up."""

    endpoint: str
    timeout: float = 30.0

    def status(self) -> dict[str, Any]:
        return dict(self._order("status"))

    def instances(self) -> list[Instance]:
        return [Instance(**view) for view in self._order("instances")]

    def instance(self, instance_id: str) -> Instance | None:
        """Return the instance, or None when the host has none of that id (any more)."""
        return next((it for it in self.instances() if it.instance_id == instance_id), None)

    def tick(self, name: str, scheduled_time: datetime | None = None) -> dict[str, str]:
        """Deliver what Scheduler would deliver for this schedule at that time (now when None)."""
        order: dict[str, Any] = {"name": name}
        if scheduled_time:
            order["scheduled_time"] = clock.stamp(scheduled_time)
        return dict(self._order("tick", order))

    def interrupt(self, instance_id: str, *, notice: float | None = None) -> Instance:
        """Interrupt a Spot instance: the warning is out when this returns, termination follows after the notice."""
        order: dict[str, Any] = {"instance_id": instance_id}
        if notice is not None:
            order["notice"] = notice
        return Instance(**self._order("interrupt", order))

    def rebalance(self, instance_id: str) -> Instance:
        return Instance(**self._order("rebalance", {"instance_id": instance_id}))

    def kill_guest(self, instance_id: str) -> Instance:
        """Kill every process of the guest; the instance keeps running, and costing."""
        return Instance(**self._order("kill_guest", {"instance_id": instance_id}))

    def hang(self, instance_id: str) -> Instance:
        """Freeze every process of the guest, its shutdown timer included."""
        return Instance(**self._order("hang", {"instance_id": instance_id}))

    def crash(self, instance_id: str) -> Instance:
        """Let AWS lose the instance: shutting-down, terminated, Server.InternalError."""
        return Instance(**self._order("crash", {"instance_id": instance_id}))

    def faults(
        self,
        *,
        events: list[Mapping[str, Any]] | None = None,
        pools: list[Mapping[str, Any]] | None = None,
        calls: list[Mapping[str, Any]] | None = None,
        clear: bool = False,
    ) -> None:
        """Switch faults on (fields: see faults.py: EventFault, DryPool, CallFault), or all off with clear."""
        order = {"events": events or [], "pools": pools or [], "calls": calls or [], "clear": clear}
        self._order("faults", order)

    def events(self, after: int = 0) -> list[dict[str, Any]]:
        """Return the emitted events numbered above `after`: number, time, source, detail_type, detail, fate."""
        return list(self._order("events", {"after": after}))

    def emit(self, source: str, detail_type: str, detail: Mapping[str, Any], *, resources: Sequence[str] = ()) -> None:
        """Emit an AWS event that the host never emits by itself, such as one of aws.health."""
        order = {"source": source, "detail_type": detail_type, "detail": dict(detail), "resources": list(resources)}
        self._order("emit", order)

    def console(self, instance_id: str) -> str:
        return str(self._order("console", {"instance_id": instance_id})["text"])

    def _order(self, name: str, order: Mapping[str, Any] | None = None) -> Any:
        request = urllib.request.Request(  # noqa: S310 - always our own http endpoint
            f"{self.endpoint}/_nightcrew/control/{name}",
            data=json.dumps(order or {}).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with _direct().open(request, timeout=self.timeout) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            with contextlib.suppress(ValueError, KeyError, TypeError):
                text = json.loads(text)["error"]
            raise LocalError(f"the local host refused {name}: {text or error.reason}") from error
        except (OSError, http.client.HTTPException) as error:
            raise LocalError(
                f"the local host at {self.endpoint} does not answer; start it with `nightcrew local up`"
            ) from error


def _direct() -> urllib.request.OpenerDirector:
    """An opener without proxies: the host is on this machine."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))
