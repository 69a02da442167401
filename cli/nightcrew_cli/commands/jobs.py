"""jobs list|show|next|remove: the jobs that are applied."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from nightcrew_cli.commands.apply import confirm
from nightcrew_cli.commands.arguments import JobName
from nightcrew_cli.invocation import Invocation
from nightcrew_cli.options import command, group

if TYPE_CHECKING:
    from nightcrew.domain.job import Job
    from nightcrew_cli.session import Connection

PANEL = "Look closer"


def register(app: typer.Typer) -> None:
    jobs = group("The jobs that are applied.")
    command(jobs, "list", examples=["nightcrew jobs list", "nightcrew jobs list -o json"])(list_jobs)
    command(jobs, "show", examples=["nightcrew jobs show nightly-report"])(show)
    command(jobs, "next", examples=["nightcrew jobs next", "nightcrew jobs next nightly-report --count 10"])(next_ticks)
    command(jobs, "remove", examples=["nightcrew jobs remove nightly-report --yes"])(remove)
    app.add_typer(jobs, name="jobs", rich_help_panel=PANEL)


def list_jobs(invocation: Invocation) -> None:
    """List the applied jobs: schedule, next tick, last run."""
    from rich.text import Text

    from nightcrew.adapters.codec import encode
    from nightcrew_cli.view import data
    from nightcrew_cli.view.jobs import job_table

    connection, now = invocation.connect(), invocation.clock.now()
    jobs = connection.jobs.all_current()
    ticks = {job.name: next(iter(ticks_of(connection, job, now, 1)), None) for job in jobs}
    newest = {job.name: next(iter(connection.runs.recent(job.name, 1)), None) for job in jobs}
    listed = [
        {
            **data.job(job),
            "next_tick": encode(ticks[job.name]),
            "last_run": data.short_run(run) if (run := newest[job.name]) else None,
        }
        for job in jobs
    ]
    invocation.show(job_table(jobs, ticks, newest, now) if jobs else Text("no jobs are applied"), listed)
    if not jobs:
        invocation.next_steps([("nightcrew apply jobs/", "apply some")])


def ticks_of(connection: Connection, job: Job, now: datetime, count: int) -> list[datetime]:
    """Return the coming ticks; a rate is counted from the schedule's own beginning, which only AWS knows."""
    from nightcrew_cli.preview import is_rate, next_ticks

    found = connection.schedules.get(job.name) if is_rate(job) else None
    return next_ticks(job, now, count, anchor=found.created_at if found else None)


def show(invocation: Invocation, job: JobName) -> None:
    """Show one job as it was applied."""
    from nightcrew.usecases.references import find_job
    from nightcrew_cli.view import data
    from nightcrew_cli.view.jobs import job_facts, tick_table

    connection, now = invocation.connect(), invocation.clock.now()
    found = find_job(job, connection.jobs)
    ticks = [(found.name, tick) for tick in ticks_of(connection, found, now, 3)]
    timezones = {found.name: found.schedule.timezone if found.schedule else "UTC"}
    parts = [job_facts(found), *(["", tick_table(ticks, timezones, now)] if ticks else [])]
    invocation.show(parts, data.job(found))
    invocation.next_steps(
        [(f"nightcrew runs list {found.name}", "its runs"), (f"nightcrew run {found.name}", "run it now")]
    )


def next_ticks(
    invocation: Invocation,
    job: Annotated[str | None, typer.Argument(metavar="JOB", help="Default: all.", show_default=False)] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1000, help="How many ticks.")] = 5,
) -> None:
    """Show when jobs run next, on their own clocks and in UTC."""
    from rich.text import Text

    from nightcrew.adapters.codec import encode
    from nightcrew.usecases.references import find_job
    from nightcrew_cli.preview import clock_changes
    from nightcrew_cli.view.jobs import tick_table

    connection, now = invocation.connect(), invocation.clock.now()
    jobs = [find_job(job, connection.jobs)] if job else connection.jobs.all_current()
    ticks = sorted(
        ((one.name, tick) for one in jobs for tick in ticks_of(connection, one, now, count)), key=lambda item: item[1]
    )[:count]
    timezones = {one.name: one.schedule.timezone for one in jobs if one.schedule}
    table = tick_table(ticks, timezones, now) if ticks else Text("no ticks: run by hand, paused, or over")
    invocation.show(table, [{"job": name, "tick": encode(tick)} for name, tick in ticks])
    for one in jobs if job else ():
        for change in clock_changes(one, now):
            invocation.err.print(f"! {change}", style="yellow", markup=False)


def remove(
    invocation: Invocation,
    job: JobName,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Take a job off. Its runs stay readable.

    Its schedule goes first, then its record; runs that are going on go on.
    """
    from nightcrew.usecases.references import find_job
    from nightcrew_cli.view.jobs import difference_data

    connection = invocation.connect()
    found = find_job(job, connection.jobs)
    confirm(invocation, [found.name], yes=yes)
    operate = connection.operate(invocation.clock)
    removal = operate.removal(found)
    operate.perform(removal)
    invocation.show(f"removed: {found.name}", difference_data(removal))
