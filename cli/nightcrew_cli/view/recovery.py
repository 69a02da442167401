"""The doctor's findings, what it would rebuild, and dead letters: each line with what it means and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from nightcrew.adapters.codec import encode
from nightcrew.usecases.diagnosis import Finding, Health
from nightcrew.usecases.rebuild import Survey, Written
from nightcrew.usecases.redrive import Fate, Handled
from nightcrew_cli.view import text
from nightcrew_cli.view.tables import table

_LOOKS = {
    Health.OK: ("✔", "green"),
    Health.WARN: ("!", "yellow"),
    Health.FAIL: ("✘", "red"),
    Health.UNKNOWN: ("?", "magenta"),
}
_FATES = {Fate.WAITING: "", Fate.REDRIVEN: "green", Fate.LEFT: "yellow", Fate.FAILED: "red"}


def finding_lines(finding: Finding) -> Iterator[Text]:
    """Yield the finding, what it means, and the next command; the word alone says how it stands."""
    sign, style = _LOOKS[finding.health]
    line = Text().append(f"{sign} {finding.health:<7}", style=style)
    yield line.append(f"  {finding.check:<12}  {text.printable(finding.text)}")
    if finding.meaning:
        yield Text(f"{'':<25}{finding.meaning}", style="dim")
    if finding.command:
        yield Text(f"{'':<25}→ {finding.command}", style="bold")


def verdict(findings: Sequence[Finding]) -> Text:
    counts = {health: sum(1 for finding in findings if finding.health is health) for health in Health}
    told = ", ".join(f"{count} {health}" for health, count in counts.items() if count)
    is_bad = counts[Health.FAIL] or counts[Health.UNKNOWN]
    return Text(told, style="bold red" if is_bad else "bold green")


def finding_data(finding: Finding) -> dict[str, Any]:
    data: dict[str, Any] = encode(finding)
    return data


def survey_lines(survey: Survey) -> Iterator[Text]:
    """Yield what a rebuild would write, and what it cannot."""
    for job in survey.jobs:
        yield Text(f"+ job {job.name}: revision {job.revision}, as its schedule names it", style="green")
    for lost in survey.runs:
        line = f"+ run {lost.run.run_id}: {lost.run.status}, worker {lost.instance_id}"
        yield Text(line, style="green")
    for name in survey.orphans:
        yield Text(f"! schedule {name}: no roster tells its job; nightcrew apply jobs/", style="yellow")
    for item in survey.unrecoverable:
        yield Text(f"! {item.subject}: {text.printable(item.why)}", style="yellow")
    if survey == Survey(unread=survey.unread):
        yield Text("no record is missing")


def written_lines(written: Iterable[Written]) -> Iterator[Text]:
    for item in written:
        sign, style = ("✔", "green") if item.done else ("!", "yellow")
        yield Text(f"{sign} {item.subject}: {text.printable(item.text)}", style=style)


def letter_table(letters: Iterable[Handled], now: datetime) -> RenderableType:
    return table(("QUEUE", "KIND", "ABOUT", "AGE", "ERROR", "FATE"), [_letter(handled, now) for handled in letters])


def _letter(handled: Handled, now: datetime) -> Sequence[str | Text]:
    letter = handled.letter
    fate = Text(handled.fate.value, style=_FATES[handled.fate])
    return (
        letter.queue.value,
        letter.kind.value,
        text.short(letter.about, 80),
        text.ago(letter.sent_at, now) if letter.sent_at else "-",
        text.short(letter.why, 60),
        fate.append(f": {text.printable(handled.note)}") if handled.note else fate,
    )


def letter_data(handled: Handled) -> dict[str, Any]:
    letter = handled.letter
    return {
        "queue": letter.queue.value,
        "kind": letter.kind.value,
        "about": letter.about,
        "sent_at": encode(letter.sent_at) if letter.sent_at else None,
        "error": letter.why,
        "target": letter.target.value if letter.target else None,
        "fate": handled.fate.value,
        "note": handled.note,
    }
