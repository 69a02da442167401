"""What a worker says of its attempt: the content of result.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nightcrew.domain.run import Outcome

# A worker is the user's machine: what it writes is data about its own attempt and nothing else.
REPORTABLE = frozenset(
    {
        Outcome.SUCCEEDED,
        Outcome.FAILED,
        Outcome.START_FAILED,
        Outcome.TIMED_OUT,
        Outcome.DEADLINE_EXCEEDED,
        Outcome.INTERRUPTED,
    }
)
_REPORTABLE_WORDS = frozenset(outcome.value for outcome in REPORTABLE)
MESSAGE_LIMIT = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    launch: str
    outcome: Outcome
    exit_code: int | None
    message: str


def parse_result(document: Mapping[str, Any]) -> Result | None:
    """Return the result, or None when the document is not one that a worker of ours can have written."""
    launch, outcome, exit_code = document.get("launch"), document.get("outcome"), document.get("exit_code")
    if not isinstance(launch, str) or not isinstance(outcome, str) or outcome not in _REPORTABLE_WORDS:
        return None
    if exit_code is not None and (not isinstance(exit_code, int) or isinstance(exit_code, bool)):
        return None
    message = one_line(str(document.get("message", "")))
    return Result(launch=launch, outcome=Outcome(outcome), exit_code=exit_code, message=message)


def one_line(text: str) -> str:
    """Return the text without control characters and bounded: it goes to terminals, mails and pages."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(printable.split())[:MESSAGE_LIMIT]
