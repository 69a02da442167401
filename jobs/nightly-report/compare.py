"""The statistics: what is normal for these days, how far from it we are, and whether that could be chance."""

# ruff: noqa: TID251 - drawing at random, from a fixed seed, is what this module is for

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from statistics import mean

from weather import BadDataError, Day

SEASON_DAYS = 90
MONTHS = 12
LEAST_PARTIAL_MONTH = 10
NEIGHBOUR_DAYS = 7
BLOCK_DAYS = 7
LEAST_EARLIER_YEARS = 2

Measure = Callable[[Day], float]


@dataclass(frozen=True)
class Comparison:
    """A mean of now against the same days of earlier years, with the 95 % interval of the difference."""

    now: float
    normal: float
    low: float
    high: float

    @property
    def difference(self) -> float:
        return self.now - self.normal

    @property
    def is_clear(self) -> bool:
        return self.low > 0 or self.high < 0

    def times(self, factor: float) -> Comparison:
        """Return the same as a total: a mean of rain a day becomes the rain of all days."""
        return Comparison(self.now * factor, self.normal * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True)
class Normal:
    """What the earlier years had within a week of one date."""

    high: float
    low: float
    highest: float
    lowest: float
    wettest: float


@dataclass(frozen=True)
class Period:
    """Some days in a row, and the same days of each earlier year, by year."""

    days: list[Day]
    earlier: dict[int, list[Day]]


class Record:
    """All measurements, found by date."""

    def __init__(self, days: Sequence[Day]) -> None:
        self.first = days[0].date
        self.last = days[-1].date
        self._by_date = {day.date: day for day in days}

    def between(self, start: date, end: date) -> list[Day]:
        """Return the days from start to end, both included, or none at all when one of them is missing."""
        dates = [start + timedelta(days=number) for number in range((end - start).days + 1)]
        found = [self._by_date[day] for day in dates if day in self._by_date]
        return found if len(found) == len(dates) else []

    def period(self, start: date, end: date) -> Period:
        years = range(1, end.year - self.first.year + 1)
        earlier = {end.year - back: self.between(shift(start, back), shift(end, back)) for back in years}
        period = Period(self.between(start, end), {year: days for year, days in sorted(earlier.items()) if days})
        if not period.days or len(period.earlier) < LEAST_EARLIER_YEARS:
            raise BadDataError(
                f"{start} to {end} needs its own days and those of {LEAST_EARLIER_YEARS} earlier years; "
                f"the file goes from {self.first} to {self.last}"
            )
        return period

    def normal(self, day: date) -> Normal:
        near = [
            self._by_date[neighbour]
            for back in range(1, day.year - self.first.year + 1)
            for offset in range(-NEIGHBOUR_DAYS, NEIGHBOUR_DAYS + 1)
            if (neighbour := shift(day, back) + timedelta(days=offset)) in self._by_date
        ]
        return Normal(
            high=mean(other.high for other in near),
            low=mean(other.low for other in near),
            highest=max(other.high for other in near),
            lowest=min(other.low for other in near),
            wettest=max(other.rain for other in near),
        )


def shift(day: date, years_back: int) -> date:
    """Return the same date some years earlier; 29 February becomes the 28th where there is none."""
    try:
        return day.replace(year=day.year - years_back)
    except ValueError:
        return day.replace(year=day.year - years_back, day=28)


def place(scheduled: date, last: date) -> date:
    """Return the day before the scheduled one, in the last year of the record that reaches it.

    The measurements end in 2015. A real job would read last night's; this one replays the last year of the file.
    """
    yesterday = scheduled - timedelta(days=1)
    placed = shift(yesterday, yesterday.year - last.year)
    return placed if placed <= last else shift(placed, 1)


def months_before(as_of: date) -> list[tuple[date, date]]:
    """Return first and last day of the latest months; the current one counts once it has ten days."""
    months: list[tuple[date, date]] = []
    end = as_of
    while len(months) < MONTHS:
        start = end.replace(day=1)
        is_whole = (end + timedelta(days=1)).day == 1
        if is_whole or end.day >= LEAST_PARTIAL_MONTH:
            months.append((start, end))
        end = start - timedelta(days=1)
    return months[::-1]


def compare(period: Period, measure: Measure, *, draws: int, seed: str) -> Comparison:
    """Compare a mean with that of the same days in earlier years, with a bootstrap interval.

    Weather comes in spells, so whole weeks are drawn, not days; a week is held against the same week of the earlier
    years, so that the season itself is no news; and because a normal made of a few years is uncertain, the years are
    drawn too.
    """
    now = [measure(day) for day in period.days]
    years = [[measure(day) for day in days] for days in period.earlier.values()]
    weeks = [_week_differences(now, year) for year in years]
    dice = random.Random(seed)  # noqa: S311 - for sampling; seeded, so that a repeated run says the same
    starts = range(len(weeks[0]))
    count = max(1, round(len(now) / BLOCK_DAYS))
    drawn = []
    for _ in range(draws):
        chosen = dice.choices(starts, k=count)
        total = sum(year[start] for year in dice.choices(weeks, k=len(weeks)) for start in chosen)
        drawn.append(total / (count * len(weeks)))
    drawn.sort()
    normal = mean(mean(year) for year in years)
    # Weeks count the edges of a period less; moving the interval by that bias keeps it around what was measured.
    bias = mean(drawn) - (mean(now) - normal)
    return Comparison(mean(now), normal, drawn[int(draws * 0.025)] - bias, drawn[int(draws * 0.975)] - bias)


def _week_differences(now: Sequence[float], year: Sequence[float]) -> list[float]:
    """Return, for each week of the period, how far it was from the same week of the other year."""
    # A period over 29 February is a day longer in a leap year; the day at the end is left out.
    days = min(len(now), len(year))
    length = min(BLOCK_DAYS, days)
    differences = [now[index] - year[index] for index in range(days)]
    return [mean(differences[start : start + length]) for start in range(days - length + 1)]


def longest_spell(days: Sequence[Day], *, wet: bool) -> list[Day]:
    """Return the longest stretch of days with rain, or without; the later one when two are as long."""
    longest: list[Day] = []
    current: list[Day] = []
    for day in days:
        current = [*current, day] if (day.rain > 0) == wet else []
        if len(current) >= len(longest):
            longest = current
    return longest
