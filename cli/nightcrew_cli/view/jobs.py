"""Jobs as a list and one by one, their differences, and their next ticks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from rich.console import RenderableType
from rich.text import Text

from nightcrew.domain.job import Job
from nightcrew.domain.run import Run
from nightcrew.usecases.operate import Change, Difference, FieldChange
from nightcrew_cli.view import text
from nightcrew_cli.view.tables import facts, table

_SIGNS = {
    Change.CREATE: ("+", "green"),
    Change.UPDATE: ("~", "yellow"),
    Change.REMOVE: ("-", "red"),
    Change.NONE: ("=", "dim"),
}
_LONGEST_VALUE = 70


def job_table(
    jobs: Iterable[Job], ticks: Mapping[str, datetime | None], newest: Mapping[str, Run | None], now: datetime
) -> RenderableType:
    rows = []
    for job in jobs:
        run, tick = newest.get(job.name), ticks.get(job.name)
        last = text.status(run.status).append(f" {text.ago(run.created_at, now)}") if run else Text("-")
        following = text.ago(tick, now) if tick else "-"
        rows.append((job.name, schedule_words(job), following, last, machine(job), job.revision))
    return table(("JOB", "SCHEDULE", "NEXT", "LAST RUN", "MACHINE", "REVISION"), rows)


def schedule_words(job: Job) -> str:
    schedule = job.schedule
    if schedule is None:
        return "by hand"
    words = ", ".join(schedule.expressions) + f" {schedule.timezone}"
    return words if schedule.enabled else f"{words} (paused)"


def machine(job: Job) -> str:
    types = job.compute.instance_types
    more = f" +{len(types) - 1}" if len(types) > 1 else ""
    return f"{types[0]}{more}, {job.compute.capacity_type}"


def job_facts(job: Job) -> RenderableType:
    retry = job.retry
    return facts(
        [
            ("job", Text(job.name, style="bold")),
            ("revision", job.revision),
            ("about", text.printable(job.description)),
            ("owner", text.printable(job.owner)),
            ("schedule", schedule_words(job)),
            ("machine", f"{', '.join(job.compute.instance_types)}, {job.compute.capacity_type}"),
            ("image", job.compute.image),
            ("disk", f"{job.compute.disk_gib} GiB" if job.compute.disk_gib else ""),
            ("limits", f"timeout {text.span(job.timeout)} an attempt, deadline {text.span(job.deadline)} a run"),
            ("retry", f"{retry.attempts} attempts in all, {retry.interruptions} interruptions forgiven"),
            ("on finish", job.on_finish.value),
            ("files", job.files.key if job.files else ""),
            ("env", ", ".join(sorted(job.env))),
            ("tags", ", ".join(f"{key}={value}" for key, value in job.tags.items())),
            ("command", Text(_block(job.command))),
        ]
    )


def _block(command: str) -> str:
    return "\n".join(text.printable(line) for line in command.rstrip("\n").split("\n"))


def difference_lines(difference: Difference) -> list[Text]:
    """Return the heading of one job's change and a line for each value that differs."""
    sign, style = _SIGNS[difference.change]
    about = f": {difference.change}" if difference.change is not Change.NONE else ": unchanged"
    lines = [Text(f"{sign} {difference.name}{about}", style=style)]
    if difference.record is Change.UPDATE:
        lines += [_field_line(change) for change in difference.fields]
    if difference.record is Change.NONE and difference.schedule is not Change.NONE:
        lines.append(Text(f"    schedule: {difference.schedule} (it differs from what was applied)"))
    return lines


def _field_line(change: FieldChange) -> Text:
    line = Text(f"    {change.path}: ")
    line.append(_value(change.before), style="red")
    line.append(" → ")
    line.append(_value(change.after), style="green")
    return line


def _value(value: str | None) -> str:
    if value is None:
        return "(none)"
    return text.short(json.dumps(value, ensure_ascii=False) if "\n" in value else value, _LONGEST_VALUE)


def difference_data(difference: Difference) -> dict[str, object]:
    return {
        "job": difference.name,
        "change": difference.change.value,
        "record": difference.record.value,
        "schedule": difference.schedule.value,
        "revision": difference.job.revision if difference.job else None,
        "fields": [
            {"path": change.path, "before": change.before, "after": change.after} for change in difference.fields
        ],
    }


def tick_table(ticks: Sequence[tuple[str, datetime]], timezones: Mapping[str, str], now: datetime) -> RenderableType:
    rows = [
        (text.local_moment(tick, timezones[name]), text.moment(tick), text.ago(tick, now), name) for name, tick in ticks
    ]
    return table(("LOCAL", "UTC", "WHEN", "JOB"), rows)
