"""The drawings: inline SVG that takes its colours from the page, each in a wide and a narrow cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from html import escape

from compare import Comparison, Normal, Period
from weather import Day

LEFT, RIGHT, TOP, BOTTOM = 34, 12, 12, 26
LABEL_GAP = 15


@dataclass(frozen=True)
class Frame:
    """Where values go: `days` columns across, `low` to `high` from bottom to top."""

    width: int
    height: int
    days: int
    low: float
    high: float
    right: int = RIGHT

    @property
    def step(self) -> float:
        return (self.width - LEFT - self.right) / self.days

    def x(self, day: float) -> float:
        return LEFT + self.step * day

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.height - BOTTOM - share * (self.height - TOP - BOTTOM)

    def svg(self, label: str, parts: Sequence[str]) -> str:
        return (
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(label)}">'
            + "".join(parts)
            + "</svg>"
        )


def temperature_chart(days: Sequence[Day], normals: Sequence[Normal], *, width: int, height: int) -> str:
    """Draw each day from its low to its high, before what is normal and what was ever seen at this time of year."""
    low = min(min(day.low for day in days), min(normal.lowest for normal in normals))
    high = max(max(day.high for day in days), max(normal.highest for normal in normals))
    tick = 5 if width > height * 2 else 10
    frame = Frame(width, height, len(days), tick * (low // tick), tick * (high // tick + 1))
    parts = [
        _band(frame, [normal.lowest for normal in normals], [normal.highest for normal in normals], "seen"),
        _band(frame, [normal.low for normal in normals], [normal.high for normal in normals], "normal"),
        *_grid(frame, tick, "°"),
        *_month_marks(frame, [day.date for day in days]),
    ]
    for index, day in enumerate(days):
        parts += _day_bar(frame, index, day, normals[index])
    label = f"Daily low to high, {days[0].date} to {days[-1].date}, against the normal range of earlier years"
    return frame.svg(label, parts)


def _day_bar(frame: Frame, index: int, day: Day, normal: Normal) -> list[str]:
    middle = frame.x(index + 0.5)
    wide = max(1.6, frame.step * 0.52)
    tone = "warm" if day.mean > normal.high else "cool" if day.mean < normal.low else "plain"
    told = f"{day_name(day.date)}: {day.low:.1f} to {day.high:.1f} °C; normal {normal.low:.1f} to {normal.high:.1f} °C"
    height = max(1.5, frame.y(day.low) - frame.y(day.high))
    parts = [
        f'<rect class="bar {tone}" x="{middle - wide / 2:.1f}" y="{frame.y(day.high):.1f}" width="{wide:.1f}" '
        f'height="{height:.1f}" rx="{wide / 2:.1f}"><title>{told}</title></rect>'
    ]
    if day.high > normal.highest:
        parts.append(f'<circle class="mark warm" cx="{middle:.1f}" cy="{frame.y(day.high) - 6:.1f}" r="2.6"/>')
    if day.low < normal.lowest:
        parts.append(f'<circle class="mark cool" cx="{middle:.1f}" cy="{frame.y(day.low) + 6:.1f}" r="2.6"/>')
    return parts


def rain_chart(period: Period, *, width: int, height: int) -> str:
    """Draw the rain so far as a rising line, with the same days of each earlier year behind it."""
    now = _running_total(period.days)
    years = {year: _running_total(days)[: len(now)] for year, days in period.earlier.items()}
    most = max(now[-1], *(total[-1] for total in years.values()))
    tick = next(size for size in (20, 50, 100, 200, 500) if most / size <= 6)
    frame = Frame(width, height, len(now), 0, tick * (most // tick + 1), right=46)
    parts = [*_grid(frame, tick, ""), *_month_marks(frame, [day.date for day in period.days])]
    parts += [f'<path class="line year" d="{_path(frame, total)}"/>' for total in years.values()]
    parts.append(f'<path class="line now" d="{_path(frame, now)}"/>')
    ends = [(total[-1], str(year), "year") for year, total in years.items()]
    ends.append((now[-1], str(period.days[-1].date.year), "now"))
    parts += _end_labels(frame, ends)
    return frame.svg(f"Rain added up over {len(now)} days, this year and {len(years)} earlier ones, millimetres", parts)


def _end_labels(frame: Frame, ends: list[tuple[float, str, str]]) -> list[str]:
    """Write each year where its line ends, moved up where it would cover the one below."""
    parts, below = [], float(frame.height)
    for value, name, kind in sorted(ends):
        y = min(frame.y(value) + 4, below - LABEL_GAP)
        below = y
        parts.append(f'<text class="end {kind}" x="{frame.x(frame.days) + 6:.1f}" y="{y:.1f}">{name}</text>')
    return parts


def interval_mark(comparison: Comparison, reach: float, tone: str) -> str:
    """Draw the difference as a dot with its 95 % interval, left or right of an upright that means normal."""
    middle, half = 60.0, 54.0
    low, dot, high = (
        middle + half * max(-1.0, min(1.0, value / reach))
        for value in (comparison.low, comparison.difference, comparison.high)
    )
    told = f"difference {comparison.difference:+.1f}, interval {comparison.low:+.1f} to {comparison.high:+.1f}"
    return (
        f'<svg class="interval" viewBox="0 0 120 14" role="img" aria-label="{told}"><title>{told}</title>'
        f'<line class="axis" x1="{middle}" y1="0" x2="{middle}" y2="14"/>'
        f'<line class="reach {tone}" x1="{low:.1f}" y1="7" x2="{high:.1f}" y2="7"/>'
        f'<circle class="mark {tone}" cx="{dot:.1f}" cy="7" r="4"/></svg>'
    )


def _grid(frame: Frame, tick: int, unit: str) -> list[str]:
    parts = []
    for value in range(int(frame.low), int(frame.high) + 1, tick):
        y = frame.y(value)
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{frame.width - frame.right}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{minus(value)}{unit}</text>')
    return parts


def _month_marks(frame: Frame, dates: Sequence[date]) -> list[str]:
    parts = []
    for index, day in enumerate(dates):
        if day.day != 1:
            continue
        x = frame.x(index)
        bottom = frame.height - BOTTOM
        parts.append(f'<line class="month" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom + 6}"/>')
        if x < frame.width - frame.right - 24:
            parts.append(f'<text class="tick" x="{x + 4:.1f}" y="{bottom + 17}">{day:%b}</text>')
    return parts


def _band(frame: Frame, lows: Sequence[float], highs: Sequence[float], kind: str) -> str:
    upper = [f"{frame.x(index + 0.5):.1f},{frame.y(value):.1f}" for index, value in enumerate(highs)]
    lower = [f"{frame.x(index + 0.5):.1f},{frame.y(value):.1f}" for index, value in enumerate(lows)]
    return f'<polygon class="{kind}" points="{" ".join(upper + lower[::-1])}"/>'


def _running_total(days: Sequence[Day]) -> list[float]:
    total, totals = 0.0, []
    for day in days:
        total += day.rain
        totals.append(total)
    return totals


def _path(frame: Frame, totals: Sequence[float]) -> str:
    points = [f"{frame.x(0):.1f} {frame.y(0):.1f}"]
    points += [f"{frame.x(index + 1):.1f} {frame.y(value):.1f}" for index, value in enumerate(totals)]
    return "M" + "L".join(points)


def minus(number: object) -> str:
    """Write a number with a true minus sign, which is as wide as the digits beside it."""
    return str(number).replace("-", "−")


def day_name(day: date) -> str:
    return f"{day.day} {day:%B}"


def days_name(first: date, last: date) -> str:
    if first == last:
        return day_name(first)
    return f"{first.day if first.month == last.month else day_name(first)} to {day_name(last)}"
