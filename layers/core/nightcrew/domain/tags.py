"""The tags by which a worker and all that belongs to it can be recognised without any record."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

PREFIX = "nightcrew:"
STACK = "nightcrew:stack"
JOB = "nightcrew:job"
RUN = "nightcrew:run"
ATTEMPT = "nightcrew:attempt"
LAUNCH = "nightcrew:launch"
DEADLINE = "nightcrew:deadline"
ON_FINISH = "nightcrew:on-finish"


def format_time(moment: datetime) -> str:
    """Return the moment as it stands in tags, records and exchange objects: 2026-11-23T02:30:00Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> datetime | None:
    """Return the moment that was written by `format_time`, or None when the text is not one."""
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def deadline_of(tags: Mapping[str, str]) -> datetime | None:
    """Return the deadline tag's instant, or None when it is missing or garbled."""
    return parse_time(tags.get(DEADLINE, ""))
