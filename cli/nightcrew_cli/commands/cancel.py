"""cancel: call off a run."""

from __future__ import annotations

from typing import Annotated

import typer

from nightcrew_cli.commands.run import PANEL, finish, watch
from nightcrew_cli.failures import CommandError
from nightcrew_cli.invocation import Invocation
from nightcrew_cli.options import command


def register(app: typer.Typer) -> None:
    command(
        app, "cancel", panel=PANEL, examples=["nightcrew cancel @last", "nightcrew cancel nightly-report@last --wait"]
    )(cancel)


def cancel(
    invocation: Invocation,
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="Run id, its beginning, JOB, JOB@last or @last.", show_default=False)
    ],
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Wait until no worker is left.")] = False,
) -> None:
    """Call off a run and end its worker.

    The run ends as CANCELLED; with --wait the command ends when no worker is left.
    """
    from nightcrew.domain.run import RunStatus
    from nightcrew.usecases.references import find_run

    connection = invocation.connect()
    found = find_run(run, connection.jobs, connection.runs)
    if found.status.is_terminal:
        raise CommandError(f"{found.run_id} has already ended ({found.status})", f"nightcrew runs show {found.run_id}")
    connection.cancellations.cancel(found.run_id, connection.caller())
    invocation.note(f"cancellation of {found.run_id} asked for")
    if not wait:
        if not invocation.is_for_people:
            invocation.show("", {"run_id": found.run_id, "asked": True})
        invocation.next_steps([(f"nightcrew runs show {found.run_id}", "how it stands")])
        return
    ended = watch(invocation, connection, found, with_log=False)
    if ended.status is RunStatus.CANCELLED:
        invocation.err.print(f"{found.run_id} is cancelled, no worker is left", markup=False, soft_wrap=True)
        return
    finish(invocation, ended)
