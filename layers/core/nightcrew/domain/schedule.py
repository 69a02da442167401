"""The ticks of a schedule: EventBridge Scheduler's cron(…), rate(…) and at(…), evaluated as it does.

Scheduler works on the wall clock of the schedule's time zone: a time that the spring change leaves out
is skipped, one that the autumn change repeats fires at its first occurrence only.
"""

import heapq
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import partial
from itertools import groupby, takewhile
from zoneinfo import ZoneInfo

from nightcrew.domain.cron import Cron, ScheduleError, parse_cron

__all__ = ["DstEffect", "DstNote", "Once", "Rate", "Schedule", "ScheduleError", "dst_notes", "parse"]

_UNITS = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1)}
_AT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}")
# Beyond these no cron has a tick, and converting between zones cannot overflow within them.
_BEGIN = datetime(1969, 12, 1, tzinfo=UTC)
_END = datetime(2200, 2, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Rate:
    """Every so often from its anchor on, whatever clocks do; a day is 24 hours."""

    every: timedelta

    def next_tick(self, after: datetime, anchor: datetime) -> datetime | None:
        """Return the first tick later than `after`."""
        if after < anchor:
            return anchor
        try:
            return anchor + ((after - anchor) // self.every + 1) * self.every
        except OverflowError:
            return None

    def previous_tick(self, before: datetime, anchor: datetime) -> datetime | None:
        """Return the last tick earlier than `before`."""
        if before <= anchor:
            return None
        return anchor + ((before - anchor - timedelta.resolution) // self.every) * self.every


@dataclass(frozen=True, slots=True)
class Once:
    """One wall-clock time."""

    wall: datetime

    def walls_from(self, start: datetime) -> Iterator[datetime]:
        """Yield the time when it is at or after a naive start."""
        if self.wall >= start:
            yield self.wall

    def walls_down_from(self, start: datetime) -> Iterator[datetime]:
        """Yield the time when it is at or before a naive start."""
        if self.wall <= start:
            yield self.wall


@dataclass(frozen=True, slots=True)
class Schedule:
    """One or more expressions; their ticks together, each instant once.

    `anchor` is when the schedule was created or its start date: only a rate needs it, as its first tick.
    """

    timings: tuple[Cron | Rate | Once, ...]

    def next_tick(self, after: datetime, timezone: str, *, anchor: datetime | None = None) -> datetime | None:
        """Return the first tick later than `after`, in UTC, or None when there is none."""
        return next(self._ticks_from(_utc(after) + timedelta.resolution, timezone, anchor), None)

    def previous_tick(self, before: datetime, timezone: str, *, anchor: datetime | None = None) -> datetime | None:
        """Return the last tick earlier than `before`, in UTC, or None when there is none."""
        before, zone = _utc(before), _zone(timezone)
        ticks = (
            timing.previous_tick(before, _anchored(anchor))
            if isinstance(timing, Rate)
            else _previous_on_the_clock(timing, before, zone)
            for timing in self.timings
        )
        return max((tick for tick in ticks if tick is not None), default=None)

    def ticks_between(
        self, start: datetime, end: datetime, timezone: str, *, anchor: datetime | None = None
    ) -> Iterator[datetime]:
        """Yield the ticks from `start` on, before `end`, in UTC and in order."""
        end = _utc(end)
        return takewhile(lambda tick: tick < end, self._ticks_from(_utc(start), timezone, anchor))

    def _ticks_from(self, start: datetime, timezone: str, anchor: datetime | None) -> Iterator[datetime]:
        zone = _zone(timezone)
        streams = [
            _rate_ticks(timing, start, _anchored(anchor))
            if isinstance(timing, Rate)
            else _ticks_on_the_clock(timing, start, zone)
            for timing in self.timings
        ]
        return (tick for tick, _ in groupby(heapq.merge(*streams)))


class DstEffect(StrEnum):
    """What a change of the clocks does to a tick."""

    SKIPPED = "skipped"
    REPEATED = "repeated"


@dataclass(frozen=True, slots=True, kw_only=True)
class DstNote:
    """The ticks of one day that a change of the clocks skips or would repeat."""

    day: date
    effect: DstEffect
    times: tuple[time, ...]
    timezone: str

    def __str__(self) -> str:
        count = len(self.times)
        when = f"{self.day} {self.times[0]:%H:%M}" + (f" (and {count - 1} more)" if count > 1 else "")
        if self.effect is DstEffect.SKIPPED:
            return f"{when} does not exist in {self.timezone}: no run"
        return f"{when} comes twice in {self.timezone}: one run, at the first"


def parse(*expressions: str) -> Schedule:
    """Read Scheduler expressions, or raise ScheduleError."""
    if not expressions:
        raise ScheduleError("a schedule needs at least one expression")
    return Schedule(tuple(_parse_one(expression) for expression in expressions))


def dst_notes(expression: str, timezone: str, start: datetime, end: datetime) -> Iterator[DstNote]:
    """Yield what changes of the clocks between two instants do to the ticks, in order."""
    zone = _zone(timezone)
    clock_timings = [timing for timing in parse(expression).timings if not isinstance(timing, Rate)]
    for instant in _transitions(zone, _utc(start), _utc(end)):
        old, new = _offset(zone, instant - _SECOND), _offset(zone, instant)
        effect = DstEffect.SKIPPED if new > old else DstEffect.REPEATED
        low, high = sorted((_naive(instant + old), _naive(instant + new)))
        for timing in clock_timings:
            walls = takewhile(partial(_is_before, high), timing.walls_from(low))
            for day, on_day in groupby(walls, datetime.date):
                yield DstNote(day=day, effect=effect, times=tuple(map(datetime.time, on_day)), timezone=timezone)


def _parse_one(expression: str) -> Cron | Rate | Once:
    match = re.fullmatch(r"(cron|rate|at)\((.*)\)", expression)
    if match is None:
        raise ScheduleError(
            f"{expression!r} is not a schedule; allowed: cron(six fields), rate(6 hours), at(date-time)"
        )
    kind, text = match.groups()
    if kind == "cron":
        return parse_cron(text)
    return _parse_rate(text) if kind == "rate" else _parse_at(text)


def _parse_rate(text: str) -> Rate:
    match = re.fullmatch(r"([1-9][0-9]{0,6}) (minute|hour|day)s?", text)
    if match is None:
        raise ScheduleError(
            f"rate({text}): allowed is a positive number and minutes, hours or days, as in rate(6 hours)"
        )
    return Rate(int(match[1]) * _UNITS[match[2]])


def _parse_at(text: str) -> Once:
    allowed = "allowed is a date and time such as at(2026-12-24T02:00:00)"
    if not _AT.fullmatch(text):
        raise ScheduleError(f"at({text}): {allowed}")
    try:
        wall = datetime.fromisoformat(text)
    except ValueError as error:
        raise ScheduleError(f"at({text}): {error}; {allowed}") from error
    if not _BEGIN.year < wall.year < _END.year:
        raise ScheduleError(f"at({text}): the year must be 1970 to 2199")
    return Once(wall)


def _rate_ticks(rate: Rate, start: datetime, anchor: datetime) -> Iterator[datetime]:
    tick = rate.next_tick(start - timedelta.resolution, anchor)
    while tick is not None:
        yield tick
        tick = rate.next_tick(tick, anchor)


def _ticks_on_the_clock(timing: Cron | Once, start: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    # First occurrences keep the order of the wall clock, so nothing before this wall can be at or after start.
    for wall in timing.walls_from(_naive(start.astimezone(zone))):
        tick = _instant(wall, zone)
        if tick is not None and tick >= start:
            yield tick


def _previous_on_the_clock(timing: Cron | Once, before: datetime, zone: ZoneInfo) -> datetime | None:
    local = before.astimezone(zone)
    # In the second pass of a repeated hour the whole first pass lies behind us, later wall times included.
    first_pass = local.replace(fold=0).utcoffset() or timedelta()
    latest = max(_naive(local), _naive(before + first_pass))
    for wall in timing.walls_down_from(latest):
        tick = _instant(wall, zone)
        if tick is not None and tick < before:
            return tick
    return None


def _instant(wall: datetime, zone: ZoneInfo) -> datetime | None:
    """Return the first instant at which the clocks of the zone show this, or None when they never do."""
    instant = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    return instant if _naive(instant.astimezone(zone)) == wall else None


def _transitions(zone: ZoneInfo, start: datetime, end: datetime) -> Iterator[datetime]:
    """Yield the instants from which on the zone has another offset; daily steps, as no zone changes twice a day."""
    low, end = start.replace(microsecond=0), end.replace(microsecond=0)
    while low < end:
        high = min(low + timedelta(days=1), end)
        if _offset(zone, low) != _offset(zone, high):
            yield _change_within(zone, low, high)
        low = high


def _change_within(zone: ZoneInfo, low: datetime, high: datetime) -> datetime:
    old = _offset(zone, low)
    while high - low > _SECOND:
        middle = (low + (high - low) / 2).replace(microsecond=0)
        if _offset(zone, middle) == old:
            low = middle
        else:
            high = middle
    return high


def _offset(zone: ZoneInfo, instant: datetime) -> timedelta:
    return instant.astimezone(zone).utcoffset() or timedelta()


def _naive(instant: datetime) -> datetime:
    return instant.replace(tzinfo=None, fold=0)


def _is_before(limit: datetime, wall: datetime) -> bool:
    return wall < limit


def _utc(instant: datetime) -> datetime:
    if instant.tzinfo is None:
        raise ValueError(f"{instant} has no time zone")
    return min(max(instant, _BEGIN), _END).astimezone(UTC)


def _anchored(anchor: datetime | None) -> datetime:
    if anchor is None:
        raise ScheduleError("a rate counts from when its schedule was created or starts: give that as the anchor")
    return _utc(anchor)


def _zone(timezone: str) -> ZoneInfo:
    try:
        return ZoneInfo(timezone)
    except (KeyError, OSError, ValueError) as error:
        raise ScheduleError(f"timezone {timezone!r} is not in the IANA list") from error
