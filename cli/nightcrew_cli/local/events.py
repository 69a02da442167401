"""The events AWS would emit, on their way to EventBridge: recorded, and lost, late or repeated when asked for."""

import contextvars
import json
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from nightcrew_cli.local import clock
from nightcrew_cli.local.faults import Faults

Envelope = dict[str, Any]
OURS_TO_SPOIL = frozenset({"aws.ec2", "aws.s3", "aws.health"})
KEPT = 2000


class EventRelay:
    """Stands between the services that emit and the bus that delivers."""

    def __init__(self, faults: Faults, deliver: Callable[[Envelope], None]) -> None:
        self._faults = faults
        self._deliver = deliver
        self._lock = threading.Lock()
        self._log: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._count = 0

    def relay(self, event: Envelope) -> None:
        """Deliver the event, or do with it what a fault says. Called in the emitting request's own context."""
        source = str(event.get("Source", ""))
        fault = self._faults.for_event(source, _text(event)) if source in OURS_TO_SPOIL else None
        self._note(event, fault.action if fault else "delivered")
        if fault is None:
            self._deliver(event)
        elif fault.action == "duplicate":
            for _ in range(fault.copies):
                self._deliver(event)
        elif fault.action == "delay":
            context = contextvars.copy_context()  # account and Region of the emitter
            timer = threading.Timer(fault.seconds, lambda: context.run(self._deliver, event))
            timer.daemon = True
            timer.start()

    def recent(self, after: int = 0) -> list[dict[str, Any]]:
        """Return the recorded events with a number above `after`, oldest first."""
        with self._lock:
            return [entry for entry in self._log if entry["number"] > after]

    def _note(self, event: Envelope, fate: str) -> None:
        with self._lock:
            self._count += 1
            self._log.append(
                {
                    "number": self._count,
                    "time": clock.stamp(clock.now()),
                    "source": event.get("Source", ""),
                    "detail_type": event.get("DetailType", ""),
                    "detail": _detail(event),
                    "fate": fate,
                }
            )


def _detail(event: Envelope) -> Any:
    try:
        return json.loads(event.get("Detail") or "{}")
    except ValueError:
        return {}


def _text(event: Envelope) -> str:
    return f"{event.get('DetailType', '')} {event.get('Detail', '')}"
