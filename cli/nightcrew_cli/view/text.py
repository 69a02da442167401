"""Times, durations, money and statuses as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from rich.text import Text

from nightcrew.domain.run import Outcome, Run, RunStatus

_LOOKS = {
    RunStatus.LAUNCHING: ("◌", "cyan"),
    RunStatus.STARTING: ("◔", "cyan"),
    RunStatus.RUNNING: ("●", "cyan"),
    RunStatus.RETRYING: ("↻", "yellow"),
    RunStatus.STOPPING: ("◑", "cyan"),
    RunStatus.SUCCEEDED: ("✔", "green"),
    RunStatus.FAILED: ("✘", "red"),
    RunStatus.CANCELLED: ("⊘", "yellow"),
    RunStatus.SKIPPED: ("○", "yellow"),
    RunStatus.MISSED: ("○", "red"),
}
_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def status(run_status: RunStatus) -> Text:
    """One word with a sign and a colour; the word alone says everything."""
    sign, style = _LOOKS[run_status]
    return Text().append(f"{sign} {run_status}", style=style)


def outcome(value: Outcome | None) -> str:
    return value.value.replace("_", " ") if value else ""


def clock(duration: timedelta) -> str:
    """Spell an elapsed time as a stopwatch does: 00:48, 1:02:03."""
    minutes, seconds = divmod(max(0, int(duration.total_seconds())), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"


def span(duration: timedelta) -> str:
    """Spell a duration in its two largest units: 2h 5m, 48s."""
    left, parts = max(0, round(duration.total_seconds())), []
    for unit, length in _UNITS:
        count, left = divmod(left, length)
        if count:
            parts.append(f"{count}{unit}")
        elif parts:
            break
    return " ".join(parts[:2]) or "0s"


def ago(moment: datetime, now: datetime) -> str:
    """Spell a moment as people tell it: one unit, and in which direction."""
    seconds = (now - moment).total_seconds()
    for unit, length in _UNITS:
        if abs(seconds) >= length:
            count = int(abs(seconds) // length)
            return f"{count}{unit} ago" if seconds > 0 else f"in {count}{unit}"
    return "now"


def moment(value: datetime) -> str:
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def local_moment(value: datetime, timezone: str) -> str:
    return f"{value.astimezone(ZoneInfo(timezone)):%a %Y-%m-%d %H:%M %Z}"


def dollars(amount: float | None) -> str:
    """Spell an estimated amount with as many digits as it deserves."""
    if amount is None:
        return "unknown"
    return f"${amount:.2f}" if amount >= 1 else f"${amount:.4f}"


def size(count: int) -> str:
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def run_time(run: Run, now: datetime) -> timedelta:
    """How long the run took, or has been going on."""
    return (run.ended_at or now) - run.created_at


def verdict(run: Run, now: datetime) -> Text:
    """One line that says how a run stands or ended."""
    line = status(run.status)
    line.append(f"  {run.run_id}", style="bold")
    line.append(f"  {span(run_time(run, now))}")
    if why(run):
        line.append(f"  {why(run)}")
    elif len(run.attempts) > 1:
        line.append(f"  {len(run.attempts)} attempts")
    return line


def why(run: Run) -> str:
    """Why the run ended, or why it waits for another attempt; empty when it just goes on, or went well."""
    ended, message = run.outcome, run.message
    if run.status is RunStatus.RETRYING and run.attempt is not None:
        ended, message = run.attempt.outcome, run.attempt.message
    if ended is None or ended is Outcome.SUCCEEDED:
        return ""
    words = outcome(ended)
    return printable(message if message.startswith(words) else f"{words}: {message}")


def printable(text: str) -> str:
    """The text without anything that a terminal would obey."""
    return "".join(character if character.isprintable() else " " for character in text)


def short(text: str, longest: int) -> str:
    """The text as one printable line, cut where a table would become hard to read."""
    line = printable(text)
    return line if len(line) <= longest else f"{line[: longest - 1]}…"
