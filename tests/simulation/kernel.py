"""Virtual time, and invocations that pause at every outside call so that others can go on in between."""

from __future__ import annotations

import heapq
import itertools
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from greenlet import getcurrent, greenlet

START = datetime(2026, 1, 16, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=round(seconds, 3))


def seconds_of(moment: datetime) -> float:
    return (moment - START).total_seconds()


class Killed(BaseException):
    """The Lambda died, or ran into its timeout. No Exception: the code under test must not catch it."""


@dataclass(eq=False, slots=True)
class Invocation:
    """One Lambda invocation. `faults` counts what was done to it on purpose; `unheard` names errors that must show."""

    number: int
    function: str
    payload: Any
    started: float
    done: Callable[[Invocation], None]
    task: Any = None
    calls: int = 0
    faults: int = 0
    unheard: list[str] = field(default_factory=list)
    wake: int = 0
    ending: str = ""
    result: Any = None
    error: BaseException | None = None

    @property
    def succeeded(self) -> bool:
        return self.ending == "ok"


class _Task(greenlet):
    invocation: Invocation


@dataclass(eq=False)
class Kernel:
    """`verbose` keeps the trace as text; otherwise only its checksum is kept."""

    verbose: bool = False
    now: float = 0.0
    steps: int = 0
    invocations: int = 0
    timeouts: int = 0
    trace: list[str] = field(default_factory=list)
    checksum: int = 0
    after_step: Callable[[], None] = lambda: None
    _heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = field(default_factory=list)
    _running: dict[Invocation, None] = field(default_factory=dict)
    _order: Any = field(default_factory=itertools.count)

    # ---- Time ------------------------------------------------------------------------------------------------

    def clock(self) -> datetime:
        return at(self.now)

    def at(self, moment: float, then: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self._heap, (max(moment, self.now), next(self._order), then, arguments))

    def after(self, seconds: float, then: Callable[..., None], *arguments: Any) -> None:
        self.at(self.now + seconds, then, *arguments)

    def run(self, until: float, finished: Callable[[], bool] = lambda: False) -> None:
        """Let things happen, in order, until the moment has come, nothing is left, or all is finished."""
        while self._heap and self._heap[0][0] <= until and not finished():
            moment, _, then, arguments = heapq.heappop(self._heap)
            self.now = moment
            self.steps += 1
            then(*arguments)
            self.after_step()
        if not finished():
            self.now = max(self.now, until)

    def note(self, *parts: Any) -> None:
        """Add a line to the trace."""
        self.checksum = zlib.crc32(repr((self.now, parts)).encode(), self.checksum)
        if self.verbose:
            self.trace.append(f"{at(self.now):%H:%M:%S.%f}"[:-3] + " " + " ".join(str(part) for part in parts))

    @property
    def is_busy(self) -> bool:
        return bool(self._running)

    # ---- Invocations -----------------------------------------------------------------------------------------

    def current(self) -> Invocation | None:
        """Return the invocation whose code is running, or None outside of any."""
        return getattr(getcurrent(), "invocation", None)

    def start(
        self, function: str, payload: Any, body: Callable[[], Any], timeout: float, done: Callable[[Invocation], None]
    ) -> Invocation:
        self.invocations += 1
        invocation = Invocation(self.invocations, function, payload, self.now, done)
        task = _Task(lambda: self._live(invocation, body))
        task.invocation = invocation
        invocation.task = task
        self._running[invocation] = None
        self.note(f"#{invocation.number}", function, "begins", payload)
        self.after(timeout, self._time_out, invocation)
        self._continue(invocation, invocation.wake)
        return invocation

    def pause(self, seconds: float) -> None:
        """Let virtual time pass inside an invocation."""
        task = getcurrent()
        invocation = task.invocation  # type: ignore[attr-defined]
        self.after(seconds, self._continue, invocation, invocation.wake)
        task.parent.switch()

    def _live(self, invocation: Invocation, body: Callable[[], Any]) -> None:
        try:
            invocation.result = body()
            invocation.ending = "ok"
        except Killed as killed:
            invocation.ending = str(killed)
        except Exception as error:
            invocation.ending, invocation.error = "error", error

    def _continue(self, invocation: Invocation, wake: int) -> None:
        if invocation.wake == wake and not invocation.task.dead:
            invocation.task.switch()
            self._see(invocation)

    def _time_out(self, invocation: Invocation) -> None:
        if not invocation.ending:
            invocation.wake += 1
            invocation.faults += 1
            self.timeouts += 1
            invocation.task.throw(Killed("timeout"))
            self._see(invocation)

    def _see(self, invocation: Invocation) -> None:
        if invocation.ending:
            self.note(f"#{invocation.number}", invocation.function, "ends:", invocation.ending, invocation.error or "")
            invocation.wake += 1
            del self._running[invocation]
            invocation.done(invocation)

    def close(self) -> None:
        """End what is still running, without a word."""
        for invocation in list(self._running):
            if not invocation.task.dead:
                invocation.task.throw(Killed("closed"))
        self._running.clear()
        self._heap.clear()
