"""Watch a run until it has ended: its status as it changes, its log as it grows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from nightcrew.domain.run import Attempt, Run
from nightcrew_cli.clock import Clock
from nightcrew_cli.view.clean import Lines

# Statuses change by the second at first and by the hour later; reads cost little, and a person is looking.
_EVERY = 1.0
_PATIENT_AFTER, _PATIENT_EVERY = 300, 5.0


class LogSource(Protocol):
    def log_parts(self, attempt: Attempt, after: str = "") -> list[tuple[str, int, datetime]]:
        """Return key, size and time of each part, in order, from the part `after` on, which may have grown."""
        ...

    def read(self, key: str, start: int = 0) -> bytes: ...


class RunSource(Protocol):
    def get(self, run_id: str) -> Run | None: ...


@dataclass(slots=True)
class LogReader:
    """The log of one attempt, each byte once. Its last part grows until the next one is begun."""

    source: LogSource
    attempt: Attempt
    _key: str = ""
    _read: int = 0

    def news(self) -> Iterator[bytes]:
        """Yield what has been written since the last call."""
        for key, size, _ in self.source.log_parts(self.attempt, self._key):
            if key != self._key:
                self._key, self._read = key, 0
            if size > self._read:
                data = self.source.read(key, self._read)
                self._read += len(data)
                yield data


@dataclass(slots=True)
class LogFollower:
    """The logs of a run's attempts, one after the other, as clean lines."""

    source: LogSource
    on_attempt: Callable[[Attempt], None]
    on_line: Callable[[str], None]
    only: int | None = None
    _readers: dict[int, tuple[LogReader, Lines]] = field(default_factory=dict)
    _closed: set[int] = field(default_factory=set)

    def look(self, run: Run) -> None:
        """Print what is new, in the order of the attempts."""
        for attempt in run.attempts:
            if attempt.worker is None or attempt.number in self._closed or self.only not in {None, attempt.number}:
                continue
            if attempt.number not in self._readers:
                self._readers[attempt.number] = (LogReader(self.source, attempt), Lines())
                self.on_attempt(attempt)
            reader, lines = self._readers[attempt.number]
            for data in reader.news():
                self._print(lines.feed(data))
            is_over = attempt.outcome is not None and (attempt.number < len(run.attempts) or run.status.is_terminal)
            if is_over:
                self._print(lines.feed(b"", final=True))
                self._closed.add(attempt.number)

    def _print(self, lines: list[str]) -> None:
        for line in lines:
            self.on_line(line)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watcher:
    runs: RunSource
    clock: Clock
    on_look: Sequence[Callable[[Run], None]]
    log: LogFollower | None = None

    def until_ended(self, run: Run, *, until: datetime | None = None) -> Run:
        """Look again and again until the run has ended, or the time is up; return it as it was seen last."""
        began = self.clock.now()
        while True:
            for on_look in self.on_look:
                on_look(run)
            if self.log is not None:
                self.log.look(run)
            if run.status.is_terminal or (until is not None and self.clock.now() >= until):
                return run
            patient = (self.clock.now() - began).total_seconds() > _PATIENT_AFTER
            self.clock.sleep(_PATIENT_EVERY if patient else _EVERY)
            run = self.runs.get(run.run_id) or run
