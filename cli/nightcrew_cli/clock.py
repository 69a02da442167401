"""The command line's clock: what time it is, and waiting between two looks."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    def now(self) -> datetime: ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251 - the person's clock; the functions have their own

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: TID251 - a person who waits for a run has nothing else to do
