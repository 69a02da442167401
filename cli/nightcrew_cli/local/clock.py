"""The clock of the local stack; nothing else in this package reads one."""

import time
from collections.abc import Callable
from datetime import UTC, datetime


def now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - the host stands in for AWS, so it owns the time


def stamp(moment: datetime) -> str:
    """Return the moment as AWS writes it: UTC, whole seconds, Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def wait_until(met: Callable[[], bool], seconds: float, *, every: float = 0.05) -> bool:
    """Poll until the condition is met; False when the time is up first."""
    end = time.monotonic() + seconds
    while not met():
        if time.monotonic() >= end:
            return False
        time.sleep(every)  # noqa: TID251 - a command line waiting for another process has nothing else to do
    return True
