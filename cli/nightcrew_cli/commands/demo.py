"""demo: one night on this machine, from the template to the proof that no worker is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nightcrew_cli.commands.local import PANEL, find_project, start
from nightcrew_cli.commands.run import watch
from nightcrew_cli.commands.runs import newest_worked, places_of
from nightcrew_cli.exits import ExitCode, of_run
from nightcrew_cli.failures import CommandError
from nightcrew_cli.invocation import Invocation
from nightcrew_cli.options import command

if TYPE_CHECKING:
    from nightcrew.domain.run import Run
    from nightcrew_cli.local import Host
    from nightcrew_cli.session import Connection

JOB_FILE = "jobs/nightly-report.yaml"
_RECORD_SECONDS = 60
_ENDED_SECONDS = 90


def register(app: typer.Typer) -> None:
    command(app, "demo", panel=PANEL, examples=["nightcrew demo", "nightcrew demo --keep"])(demo)


def demo(
    invocation: Invocation,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the local stack up.")] = False,
    project: Annotated[
        Path | None,
        typer.Option("--project", help="Folder with template.yaml and jobs/.", show_default=False),
    ] = None,
) -> None:
    """Run a whole night on this machine, without an AWS account.

    Deploys the stack, applies the nightly report, fires its schedule, follows the run, fetches its outputs, and proves
    that no worker is left. Exits with 0 only if all of that is true.
    """
    from nightcrew_cli import local

    if not invocation.is_for_people:
        raise CommandError("the demo is for people: it has no --output", code=ExitCode.USAGE)
    folder = find_project(project)
    was_up = local.status() is not None
    try:
        host, _ = start(invocation, folder)
        code = _one_night(_on_local_stack(invocation), host, folder)
    finally:
        if not keep and not was_up:
            local.down()
            invocation.note("the local stack is down")
    if keep or was_up:
        invocation.next_steps([("nightcrew ps --local", "look around"), ("nightcrew local down", "end it")])
    else:
        invocation.next_steps([("nightcrew demo --keep", "the same, and the stack stays up to look around")])
    if code:
        raise typer.Exit(code)


def _on_local_stack(invocation: Invocation) -> Invocation:
    return replace(invocation, options=replace(invocation.options, local=True))


def _one_night(invocation: Invocation, host: Host, folder: Path) -> ExitCode:
    connection = invocation.connect()
    job = _apply(invocation, connection, folder / JOB_FILE)
    _say(invocation, f"The schedule of {job} fires")
    answer = host.control.tick(job)
    if answer.get("delivered") != "true":
        raise CommandError(f"the tick was not delivered: {answer.get('reason', 'no reason given')}")
    run = _await_record(invocation, connection, job, answer["scheduled_time"])
    _say(invocation, f"Run {run.run_id}")
    witness = _Witness(host)
    ended = watch(invocation, connection, run, with_log=True, on_look=witness.look)
    _tell(invocation, connection, ended)
    _fetch(invocation, connection, ended)
    _say(invocation, "No worker is left")
    proven = _prove(invocation, connection, ended, witness)
    return of_run(ended) or (ExitCode.OK if proven else ExitCode.WORKER_LEFT)


def _say(invocation: Invocation, text: str) -> None:
    invocation.out.print(f"\n{text}", style="bold", markup=False)


def _apply(invocation: Invocation, connection: Connection, file: Path) -> str:
    from nightcrew_cli.commands.apply import show_differences
    from nightcrew_cli.commands.jobfiles import load

    _say(invocation, f"nightcrew apply {JOB_FILE}")
    [job_file] = load(invocation, [file])
    operate = connection.operate(invocation.clock)
    difference = operate.difference(job_file.job)
    show_differences(invocation, [difference])
    operate.perform(difference, job_file.files_archive)
    return job_file.job.name


def _await_record(invocation: Invocation, connection: Connection, job: str, scheduled_time: str) -> Run:
    """Wait for the launcher to write the run of this tick: Scheduler has only handed it over."""
    from datetime import datetime

    from nightcrew.domain.run import Trigger, run_id_of

    run_id = run_id_of(job, datetime.fromisoformat(scheduled_time), Trigger.SCHEDULE)
    for _ in range(_RECORD_SECONDS * 2):
        run = connection.runs.get(run_id)
        if run is not None:
            return run
        invocation.clock.sleep(0.5)
    raise CommandError(f"the launcher wrote no record of {run_id} within {_RECORD_SECONDS} s")


@dataclass(slots=True)
class _Witness:
    """Notes the worker's process while it lives: that it was there is half of the proof that it is gone."""

    host: Host
    pid: int | None = None
    instance_id: str = ""

    def look(self, run: Run) -> None:
        worker = run.attempt.worker if run.attempt else None
        if worker is None or worker.instance_id == self.instance_id:
            return
        instance = self.host.control.instance(worker.instance_id)
        if instance is not None and instance.pid:
            self.pid, self.instance_id = instance.pid, worker.instance_id


def _tell(invocation: Invocation, connection: Connection, run: Run) -> None:
    from nightcrew_cli.prices import price_book
    from nightcrew_cli.view import data
    from nightcrew_cli.view.runs import story

    invocation.out.print()
    places = places_of(connection, run)
    parts = story(run, invocation.clock.now(), prices=price_book(), region=connection.region, places=places)
    invocation.show(parts, data.run(run))


def _fetch(invocation: Invocation, connection: Connection, run: Run) -> None:
    from nightcrew_cli.downloads import download_outputs

    _say(invocation, "Its outputs")
    attempt = newest_worked(run)
    folder = Path(".nightcrew") / "demo" / run.run_id
    files = download_outputs(connection.exchange, attempt, folder) if attempt else []
    for file in sorted(files, key=lambda path: path.name != "report.html"):
        invocation.out.print(f"  {file}", markup=False, soft_wrap=True)
    if not files:
        invocation.out.print("  none", style="red")


def _prove(invocation: Invocation, connection: Connection, run: Run, witness: _Witness) -> bool:
    """Ask EC2 for every instance with our tag, and the machine for the worker's process."""
    from nightcrew_cli.local.settings import is_alive

    def all_ended() -> bool:
        return all(state == "terminated" for _, state, _ in connection.workers_of_stack())

    ended = _wait_until(invocation, all_ended)
    for instance_id, state, _ in connection.workers_of_stack():
        style = "green" if state == "terminated" else "red"
        invocation.out.print(f"  EC2: {instance_id} is {state}", style=style, markup=False)
    if witness.pid is None:
        invocation.out.print("  the worker's process was never seen", style="red")
        return False
    pid = witness.pid
    gone = _wait_until(invocation, lambda: not is_alive(pid))
    fate = f"existed and is {'gone' if gone else 'STILL THERE'}"
    invocation.out.print(f"  process {pid} of {witness.instance_id} {fate}", style="green" if gone else "red")
    has_worker = any(instance_id == witness.instance_id for instance_id, _, _ in connection.workers_of_stack())
    return ended and gone and has_worker and run.status.is_terminal


def _wait_until(invocation: Invocation, met: Callable[[], bool]) -> bool:
    for _ in range(_ENDED_SECONDS):
        if met():
            return True
        invocation.clock.sleep(1)
    return met()
