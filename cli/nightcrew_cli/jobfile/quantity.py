"""Durations and sizes as people write them: `1h30m`, `15 min`, `30GiB`. A number without a unit is refused."""

import re
from datetime import timedelta
from typing import Any

DURATION_PATTERN = (
    r"(?:([0-9]{1,6}) ?(?:d|days?))?"
    r"(?: ?([0-9]{1,6}) ?(?:h|hours?))?"
    r"(?: ?([0-9]{1,6}) ?(?:m|min|minutes?))?"
    r"(?: ?([0-9]{1,6}) ?(?:s|sec|seconds?))?"
)
SIZE_PATTERN = r"([0-9]{1,6}) ?(GiB|TiB)"


def parse_duration(value: Any) -> timedelta:
    """Read `2h`, `90m`, `1h30m`, `15 min`, or raise ValueError."""
    text = str(value).strip()
    if re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text):
        raise ValueError(f"{text} has no unit: write {text}s, {text}m or {text}h")
    match = re.fullmatch(DURATION_PATTERN, text)
    if match is None or not text:
        raise ValueError(f"{text!r} is not a duration: write whole numbers and units, such as 2h, 90m, 1h30m or 15 min")
    days, hours, minutes, seconds = (int(number or 0) for number in match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def format_duration(duration: timedelta) -> str:
    """Spell a duration the way parse_duration reads it."""
    minutes, seconds = divmod(int(duration.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{count}{unit}" for count, unit in ((hours, "h"), (minutes, "m"), (seconds, "s")) if count]
    return "".join(parts) or "0s"


def parse_gibibytes(value: Any) -> int:
    """Read `30GiB` or `1TiB` as a number of GiB, or raise ValueError."""
    text = str(value).strip()
    match = re.fullmatch(SIZE_PATTERN, text)
    if match is not None:
        return int(match[1]) * (1024 if match[2] == "TiB" else 1)
    if re.fullmatch("[0-9]+", text):
        raise ValueError(f"{text} has no unit: write {text}GiB")
    number = re.match("[0-9]+", text)
    example = f"{number[0]}GiB" if number else "30GiB"
    raise ValueError(f"{text!r} is not a size: write a whole number of GiB or TiB, such as {example}")
