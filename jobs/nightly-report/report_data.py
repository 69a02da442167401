"""What the report says, worked out from the measurements, before anybody decides how it looks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from charts import day_name, days_name
from compare import (
    SEASON_DAYS,
    Comparison,
    Measure,
    Normal,
    Period,
    Record,
    compare,
    longest_spell,
    months_before,
    place,
)
from weather import Day

SEASON_DRAWS = 40000
MONTH_DRAWS = 10000
MOST_RECORDS = 5

Say = Callable[[str], None]


@dataclass(frozen=True)
class Tile:
    """One number of the season. `reach` is the difference that fills half of its small drawing.

    `tones` are the colours of a clear surplus and a clear lack.
    """

    name: str
    unit: str
    digits: int
    reach: float
    tones: tuple[str, str]
    comparison: Comparison


@dataclass(frozen=True)
class Month:
    name: str
    start: date
    end: date
    temperature: Comparison
    rain: Comparison


@dataclass(frozen=True)
class Report:
    scheduled: date
    as_of: date
    record_end: date
    run: str
    draws: int
    headline: str
    period: Period
    normals: list[Normal]
    tiles: list[Tile]
    notable: list[tuple[str, str]]
    months: list[Month]


def make_report(record: Record, scheduled: date, run: str, say: Say) -> Report:
    as_of = place(scheduled, record.last)
    period = record.period(as_of - timedelta(days=SEASON_DAYS - 1), as_of)
    say(f"comparing {SEASON_DAYS} days up to {as_of} with {', '.join(str(year) for year in period.earlier)}")
    tiles = _tiles(period, say)
    normals = [record.normal(day.date) for day in period.days]
    say("comparing month by month")
    months = [_month(record, start, end, say) for start, end in months_before(as_of)]
    return Report(
        scheduled=scheduled,
        as_of=as_of,
        record_end=record.last,
        run=run,
        draws=SEASON_DRAWS,
        headline=_headline(tiles[0].comparison, tiles[1].comparison),
        period=period,
        normals=normals,
        tiles=tiles,
        notable=_notable(period.days, normals),
        months=months,
    )


def _tiles(period: Period, say: Say) -> list[Tile]:
    wet_or_dry, whole = ("wet", "dry"), len(period.days)
    kinds: list[tuple[str, str, int, float, tuple[str, str], Measure, float]] = [
        ("Temperature", "°C", 1, 4, ("warm", "cool"), lambda day: day.mean, 1),
        ("Rain", "mm", 0, 300, wet_or_dry, lambda day: day.rain, whole),
        ("Days with rain", f"of {whole}", 0, 30, wet_or_dry, lambda day: float(day.rain > 0), whole),
        ("Wind", "m/s", 1, 1.2, ("strong", "strong"), lambda day: day.wind, 1),
    ]
    tiles = []
    for name, unit, digits, reach, tones, measure, factor in kinds:
        found = compare(period, measure, draws=SEASON_DRAWS, seed=f"season {name}").times(factor)
        tiles.append(Tile(name, unit, digits, reach, tones, found))
        say(f"  {name.lower():<15}{_describe(found, digits)}")
    return tiles


def _month(record: Record, start: date, end: date, say: Say) -> Month:
    period = record.period(start, end)
    is_whole = (end + timedelta(days=1)).day == 1
    month = Month(
        name=f"{start:%b %Y}" + ("" if is_whole else f", to {end.day}"),
        start=start,
        end=end,
        temperature=compare(period, lambda day: day.mean, draws=MONTH_DRAWS, seed=f"{start} temperature"),
        rain=compare(period, lambda day: day.rain, draws=MONTH_DRAWS, seed=f"{start} rain").times(len(period.days)),
    )
    say(f"  {month.name:<17}{month.temperature.difference:+5.1f} °C{month.rain.difference:+7.0f} mm")
    return month


def _describe(found: Comparison, digits: int) -> str:
    judgement = "clear" if found.is_clear else "could be chance"
    return (
        f"{found.now:7.{digits}f}  normal {found.normal:.{digits}f}, difference {found.difference:+.{digits}f} "
        f"({found.low:+.{digits}f} to {found.high:+.{digits}f}): {judgement}"
    )


def _headline(temperature: Comparison, rain: Comparison) -> str:
    warmth = f"{abs(temperature.difference):.1f} °C {'warmer' if temperature.difference > 0 else 'cooler'} than normal"
    share = round(100 * abs(rain.difference) / rain.normal) if rain.normal else 0
    wetness = f"{share}% {'wetter' if rain.difference > 0 else 'drier'}"
    if temperature.is_clear and rain.is_clear:
        return f"The last {SEASON_DAYS} days were {warmth}, and {wetness}."
    if temperature.is_clear:
        return f"The last {SEASON_DAYS} days were {warmth}. Rain was within the usual."
    if rain.is_clear:
        return f"The last {SEASON_DAYS} days were {wetness} than normal. Temperature was within the usual."
    return f"{SEASON_DAYS} ordinary days: temperature and rain were both within the usual."


def _notable(days: Sequence[Day], normals: Sequence[Normal]) -> list[tuple[str, str]]:
    warmest = max(days, key=lambda day: day.high)
    coldest = min(days, key=lambda day: day.low)
    wettest = max(days, key=lambda day: day.rain)
    windiest = max(days, key=lambda day: day.wind)
    return [
        (day_name(warmest.date), f"Warmest day: {warmest.high:.1f} °C."),
        (day_name(coldest.date), f"Coldest night: {coldest.low:.1f} °C."),
        (day_name(wettest.date), f"Most rain in a day: {wettest.rain:.1f} mm."),
        (day_name(windiest.date), f"Windiest day: {windiest.wind:.1f} m/s on average."),
        *_spell(days, wet=True),
        *_spell(days, wet=False),
        *_records(days, normals)[:MOST_RECORDS],
    ]


def _spell(days: Sequence[Day], *, wet: bool) -> list[tuple[str, str]]:
    spell = longest_spell(days, wet=wet)
    if len(spell) < 2:
        return []
    total = f", {sum(day.rain for day in spell):.0f} mm in all" if wet else ""
    when = days_name(spell[0].date, spell[-1].date)
    return [(when, f"Longest {'wet' if wet else 'dry'} spell: {len(spell)} days{total}.")]


def _records(days: Sequence[Day], normals: Sequence[Normal]) -> list[tuple[str, str]]:
    """Return the days that went beyond all that earlier years had within a week of their date, the latest first."""
    kinds: list[tuple[str, str, Callable[[Day], float], Callable[[Normal], float], int]] = [
        ("Warmer", "°C", lambda day: day.high, lambda normal: normal.highest, 1),
        ("Colder", "°C", lambda day: day.low, lambda normal: normal.lowest, -1),
        ("Wetter", "mm", lambda day: day.rain, lambda normal: normal.wettest, 1),
    ]
    found: list[tuple[date, str, str]] = []
    for name, unit, measure, limit, sign in kinds:
        beyond = [i for i, day in enumerate(days) if sign * (measure(day) - limit(normals[i])) > 0]
        for group in _neighbours(beyond):
            peak = max(group, key=lambda i: sign * measure(days[i]))
            what = f"{name} than the earlier years: {measure(days[peak]):.1f} {unit}"
            before = f"until then {limit(normals[peak]):.1f} {unit}"
            last = days[group[-1]].date
            found.append((last, days_name(days[group[0]].date, last), f"{what}, {before}."))
    return [(when, what) for _, when, what in sorted(found, reverse=True)]


def _neighbours(numbers: Sequence[int]) -> list[list[int]]:
    groups: list[list[int]] = []
    for number in numbers:
        if groups and groups[-1][-1] == number - 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    return groups
