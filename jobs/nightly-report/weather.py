"""The measurements: reads the daily file and refuses what cannot be true."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

COLUMNS = ("date", "precipitation", "temp_max", "temp_min", "wind")
# Wider than any weather seen in Washington State, narrow enough to catch a shifted column or a wrong unit.
PLAUSIBLE = {"precipitation": (0.0, 400.0), "temp_max": (-40.0, 55.0), "temp_min": (-45.0, 45.0), "wind": (0.0, 60.0)}


class BadDataError(Exception):
    """The file cannot be trusted; the message names the line."""


@dataclass(frozen=True)
class Day:
    """One day: millimetres, degrees Celsius, metres a second."""

    date: date
    rain: float
    high: float
    low: float
    wind: float

    @property
    def mean(self) -> float:
        return (self.high + self.low) / 2


def read_days(path: Path) -> list[Day]:
    """Return the days in order, one for each date from the first to the last."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or [])]
            if missing:
                raise BadDataError(f"{path.name} has no column {', '.join(missing)}")
            days = [_read_day(row, f"{path.name} line {reader.line_num}") for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadDataError(f"{path.name} cannot be read: {error}") from error
    if not days:
        raise BadDataError(f"{path.name} holds no measurements")
    for before, after in ((days[index - 1], days[index]) for index in range(1, len(days))):
        if after.date != before.date + timedelta(days=1):
            raise BadDataError(f"{path.name}: {before.date} is followed by {after.date}; every day must be there once")
    return days


def _read_day(row: dict[str, str], place: str) -> Day:
    try:
        # The file writes 2012/01/31; accept 2012-01-31 too.
        day = date.fromisoformat(row["date"].replace("/", "-"))
    except (AttributeError, ValueError) as error:
        raise BadDataError(f"{place}: {row['date']!r} is not a date") from error
    rain, high, low, wind = (_read_number(row, name, place) for name in COLUMNS[1:])
    if low > high:
        raise BadDataError(f"{place}: the low of {low} is above the high of {high}")
    return Day(day, rain, high, low, wind)


def _read_number(row: dict[str, str], name: str, place: str) -> float:
    try:
        number = float(row[name])
    except (TypeError, ValueError) as error:
        raise BadDataError(f"{place}: {name} is {row[name]!r}, not a number") from error
    least, most = PLAUSIBLE[name]
    if not least <= number <= most:
        raise BadDataError(f"{place}: {name} is {number}, outside {least} to {most}")
    return number
