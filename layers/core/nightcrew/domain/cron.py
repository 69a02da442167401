"""The six-field cron of EventBridge: what a field may say, and the wall-clock times that fit all six."""

import calendar
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from itertools import product

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_SATURDAY = 7


class ScheduleError(ValueError):
    """The text is not a schedule; the message names the field, the text and what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of the expression: its range of numbers and the names that stand for them."""

    name: str
    lowest: int
    highest: int
    allowed: str
    names: tuple[str, ...] = ()
    takes_step: bool = True

    def refuse(self, text: str, why: str) -> ScheduleError:
        return ScheduleError(f"{self.name} {text!r}: {why}; allowed: {self.allowed}")


MINUTE = Field(name="minute", lowest=0, highest=59, allowed="0-59 and , - * /")
HOUR = Field(name="hour", lowest=0, highest=23, allowed="0-23 and , - * /")
DAY_OF_MONTH = Field(
    name="day-of-month", lowest=1, highest=31, allowed="1-31 and , - * /, or one of ? L LW nW (such as 15W)"
)
MONTH = Field(name="month", lowest=1, highest=12, allowed="1-12 or JAN-DEC and , - * /", names=_MONTHS)
DAY_OF_WEEK = Field(
    name="day-of-week",
    lowest=1,
    highest=7,
    allowed="1-7 (1 is Sunday) or SUN-SAT and , - *, or one of ? L nL (last such day) n#1..5 (such as 2#1)",
    names=_WEEKDAYS,
    takes_step=False,
)
YEAR = Field(name="year", lowest=1970, highest=2199, allowed="1970-2199 and , - * /")
FIELDS = (MINUTE, HOUR, DAY_OF_MONTH, MONTH, DAY_OF_WEEK, YEAR)


@dataclass(frozen=True, slots=True)
class DaysOfMonth:
    """`1`, `1-15`, `*`: these days, where the month has them."""

    days: tuple[int, ...]

    def in_month(self, year: int, month: int) -> tuple[int, ...]:
        last = _last_day(year, month)
        return tuple(day for day in self.days if day <= last)


@dataclass(frozen=True, slots=True)
class LastDay:
    """`L`: the last day of the month."""

    def in_month(self, year: int, month: int) -> tuple[int, ...]:
        return (_last_day(year, month),)


@dataclass(frozen=True, slots=True)
class LastWorkday:
    """`LW`: the last Monday-to-Friday day of the month."""

    def in_month(self, year: int, month: int) -> tuple[int, ...]:
        return (_nearest_workday(year, month, _last_day(year, month)),)


@dataclass(frozen=True, slots=True)
class NearestWorkday:
    """`15W`: the Monday-to-Friday day nearest to the 15th, never in another month."""

    day: int

    def in_month(self, year: int, month: int) -> tuple[int, ...]:
        if self.day > _last_day(year, month):
            return ()
        return (_nearest_workday(year, month, self.day),)


@dataclass(frozen=True, slots=True)
class DaysOfWeek:
    """`MON-FRI`: every such day, 1 being Sunday."""

    weekdays: tuple[int, ...]

    def in_month(self, year: int, month: int) -> tuple[int, ...]:
        first = _weekday(year, month, 1)
        return tuple(day for day in range(1, _last_day(year, month) + 1) if (first + day - 2) % 7 + 1 in self.weekdays)


@dataclass(frozen=True, slots=True)
class LastDayOfWeek:
    """`6L`: the last Friday of the month."""

    weekday: int

    def in_month(self, year: int, month: int) -> tuple[int, ...]:
        last = _last_day(year, month)
        return (last - (_weekday(year, month, last) - self.weekday) % 7,)


@dataclass(frozen=True, slots=True)
class NthDayOfWeek:
    """`2#1`: the first Monday; a month without a fifth one is left out."""

    weekday: int
    nth: int

    def in_month(self, year: int, month: int) -> tuple[int, ...]:
        day = 1 + (self.weekday - _weekday(year, month, 1)) % 7 + 7 * (self.nth - 1)
        return (day,) if day <= _last_day(year, month) else ()


DayRule = DaysOfMonth | LastDay | LastWorkday | NearestWorkday | DaysOfWeek | LastDayOfWeek | NthDayOfWeek


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """A parsed expression. Its times are wall-clock times: the time zone comes later."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: DayRule
    months: tuple[int, ...]
    years: tuple[int, ...]

    def walls_from(self, start: datetime) -> Iterator[datetime]:
        """Yield the times at or after a naive start, in order."""
        for year, month in product(self.years, self.months):
            if (year, month) < (start.year, start.month):
                continue
            for day in self.days.in_month(year, month):
                if date(year, month, day) < start.date():
                    continue
                for hour, minute in product(self.hours, self.minutes):
                    wall = datetime(year, month, day, hour, minute)  # noqa: DTZ001 - a wall clock has no zone
                    if wall >= start:
                        yield wall

    def walls_down_from(self, start: datetime) -> Iterator[datetime]:
        """Yield the times at or before a naive start, latest first."""
        for year, month in product(self.years[::-1], self.months[::-1]):
            if (year, month) > (start.year, start.month):
                continue
            for day in self.days.in_month(year, month)[::-1]:
                if date(year, month, day) > start.date():
                    continue
                for hour, minute in product(self.hours[::-1], self.minutes[::-1]):
                    wall = datetime(year, month, day, hour, minute)  # noqa: DTZ001 - a wall clock has no zone
                    if wall <= start:
                        yield wall


def parse_cron(text: str) -> Cron:
    """Read the six fields between the brackets of `cron(…)`."""
    texts = text.upper().split()
    if len(texts) != len(FIELDS):
        raise ScheduleError(
            f"cron({text}) has {len(texts)} fields, not six: minute hour day-of-month month day-of-week year"
        )
    minute, hour, day_of_month, month, day_of_week, year = texts
    return Cron(
        minutes=parse_values(MINUTE, minute),
        hours=parse_values(HOUR, hour),
        days=_parse_days(day_of_month, day_of_week),
        months=parse_values(MONTH, month),
        years=parse_values(YEAR, year),
    )


def parse_values(field: Field, text: str) -> tuple[int, ...]:
    """Return the numbers that a list, range, step or `*` stands for, in order."""
    if text == "*":
        return tuple(range(field.lowest, field.highest + 1))
    return tuple(sorted({value for part in text.split(",") for value in _parse_part(field, part, text)}))


def _parse_part(field: Field, part: str, text: str) -> range:
    span, slash, step_text = part.partition("/")
    if span == "*" and not slash:
        raise field.refuse(text, "'*' means everything, so it cannot be one of a list")
    start_text, dash, end_text = span.partition("-")
    start = field.lowest if span == "*" else _parse_number(field, start_text, text)
    end = _parse_number(field, end_text, text) if dash else field.highest if slash else start
    if start > end:
        raise field.refuse(text, f"{span!r} runs backwards, write it as two ranges")
    return range(start, end + 1, _parse_step(field, step_text, text) if slash else 1)


def _parse_step(field: Field, step: str, text: str) -> int:
    if not field.takes_step:
        raise field.refuse(text, "steps with '/' do not exist here, list the days instead")
    size = field.highest - field.lowest + 1
    if not re.fullmatch("[0-9]{1,3}", step) or not 1 <= int(step) <= size:
        raise field.refuse(text, f"the step {step!r} is not a number from 1 to {size}")
    return int(step)


def _parse_number(field: Field, number: str, text: str) -> int:
    if number in field.names:
        return field.names.index(number) + field.lowest
    if not re.fullmatch("[0-9]{1,4}", number):
        raise field.refuse(text, f"{number!r} is not understood" if number else "a value is missing")
    if not field.lowest <= int(number) <= field.highest:
        raise field.refuse(text, f"{number} is out of range")
    return int(number)


def _parse_days(day_of_month: str, day_of_week: str) -> DayRule:
    if (day_of_month == "?") == (day_of_week == "?"):
        raise ScheduleError(
            f"day-of-month {day_of_month!r} and day-of-week {day_of_week!r}: exactly one of the two must be '?'"
        )
    if day_of_week == "?":
        return _parse_day_of_month(day_of_month)
    return _parse_day_of_week(day_of_week)


def _parse_day_of_month(text: str) -> DayRule:
    if text == "L":
        return LastDay()
    if text == "LW":
        return LastWorkday()
    if re.search("[LW]", text):
        if not re.fullmatch("[0-9]{1,2}W", text):
            raise DAY_OF_MONTH.refuse(text, "L, LW and nW stand alone, without lists, ranges or offsets")
        return NearestWorkday(_parse_number(DAY_OF_MONTH, text[:-1], text))
    return DaysOfMonth(parse_values(DAY_OF_MONTH, text))


def _parse_day_of_week(text: str) -> DayRule:
    if text == "L":
        return DaysOfWeek((_SATURDAY,))
    if "#" in text:
        weekday, _, nth = text.partition("#")
        if not re.fullmatch("[1-5]", nth):
            raise DAY_OF_WEEK.refuse(text, "after '#' comes one number from 1 to 5, and nothing else")
        return NthDayOfWeek(_parse_number(DAY_OF_WEEK, weekday, text), int(nth))
    if text.endswith("L"):
        return LastDayOfWeek(_parse_number(DAY_OF_WEEK, text[:-1], text))
    return DaysOfWeek(parse_values(DAY_OF_WEEK, text))


def _last_day(year: int, month: int) -> int:
    return calendar.monthrange(year, month)[1]


def _weekday(year: int, month: int, day: int) -> int:
    """Sunday is 1, as in the expression."""
    return date(year, month, day).isoweekday() % 7 + 1


def _nearest_workday(year: int, month: int, day: int) -> int:
    match _weekday(year, month, day):
        case 7:
            return day - 1 if day > 1 else day + 2
        case 1:
            return day + 1 if day < _last_day(year, month) else day - 2
        case _:
            return day
