"""Which event files there are, what each must answer, and whether an answer fits."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam_local.errors import SamLocalError

EXPECTED_FILE = "expected.json"
PATTERN_PREFIX = "re:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One event file. `answer` is a subset of what the function must return."""

    name: str
    event: Path
    needs_stack: bool
    answer: Any

    @property
    def function(self) -> str:
        return self.name.split("/", 1)[0]


def load_cases(events: Path) -> list[Case]:
    """Return the cases in the order of expected.json; a file without an entry, or an entry without a file, is an error.

    The order matters to the cases that share the local stack: a second delivery comes after the first.
    """
    try:
        entries: dict[str, dict[str, Any]] = json.loads((events / EXPECTED_FILE).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise SamLocalError(f"cannot read {events / EXPECTED_FILE}: {error}") from error
    present = {path.relative_to(events).as_posix() for path in events.glob("*/*.json")}
    if unlisted := sorted(present - entries.keys()):
        raise SamLocalError(f"{EXPECTED_FILE} says nothing about {', '.join(unlisted)}")
    if absent := sorted(entries.keys() - present):
        raise SamLocalError(f"{EXPECTED_FILE} names files that do not exist: {', '.join(absent)}")
    return [_case(events, name, entry) for name, entry in entries.items()]


def _case(events: Path, name: str, entry: dict[str, Any]) -> Case:
    if "answer" not in entry or not entry.keys() <= {"answer", "stack"}:
        raise SamLocalError(f"{EXPECTED_FILE}: {name} needs `answer`, may have `stack`, and nothing else")
    return Case(name=name, event=events / name, needs_stack=entry.get("stack", False), answer=entry["answer"])


def find_differences(expected: Any, actual: Any, path: str = "answer") -> Iterator[str]:
    """Yield a line for each place where `actual` lacks what is expected of it.

    An object may hold more keys than expected, a list must have the same length, and a text that starts with
    `re:` is a regular expression that must match the whole text.
    """
    if isinstance(expected, dict) and isinstance(actual, dict):
        for key, value in expected.items():
            if key in actual:
                yield from find_differences(value, actual[key], f"{path}.{key}")
            else:
                yield f"{path}.{key} is missing"
    elif isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        for index, (wanted, got) in enumerate(zip(expected, actual, strict=True)):
            yield from find_differences(wanted, got, f"{path}[{index}]")
    elif not _fits(expected, actual):
        yield f"{path} is {actual!r}, expected {expected!r}"


def _fits(expected: Any, actual: Any) -> bool:
    if isinstance(expected, str) and isinstance(actual, str) and expected.startswith(PATTERN_PREFIX):
        return re.fullmatch(expected.removeprefix(PATTERN_PREFIX), actual, re.DOTALL) is not None
    # In JSON, true is not 1.
    return type(expected) is type(actual) and bool(expected == actual)
