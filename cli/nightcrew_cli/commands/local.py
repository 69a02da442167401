"""local up|down|status|tick|interrupt: the stack on this machine, without an AWS account."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nightcrew_cli.exits import ExitCode
from nightcrew_cli.failures import CommandError
from nightcrew_cli.invocation import Invocation
from nightcrew_cli.options import command, group

if TYPE_CHECKING:
    from nightcrew_cli.local import Deployment, Host

PANEL = "On this machine"


def register(app: typer.Typer) -> None:
    local = group("The stack on this machine, without an AWS account.")
    command(local, "up", examples=["nightcrew local up", "nightcrew local up && nightcrew apply --local"])(up)
    command(local, "down", examples=["nightcrew local down"])(down)
    command(local, "status", examples=["nightcrew local status"])(status)
    command(
        local,
        "tick",
        examples=[
            "nightcrew local tick nightly-report",
            "nightcrew local tick nightly-report --at 2026-11-23T02:30:00Z",
        ],
    )(tick)
    command(local, "interrupt", examples=["nightcrew local interrupt i-0123456789abcdef0 --notice 5"])(interrupt)
    app.add_typer(local, name="local", rich_help_panel=PANEL)


def up(
    invocation: Invocation,
    project: Annotated[
        Path | None,
        typer.Option("--project", help="Folder with template.yaml. Default: this one or above.", show_default=False),
    ] = None,
    deploy: Annotated[bool, typer.Option("--deploy/--no-deploy", help="Deploy the template, too.")] = True,
) -> None:
    """Start the local stack and deploy the template to it.

    The template and the commands (sam build, sam deploy) are those that deploy to AWS.
    """
    start(invocation, project, deploys=deploy)
    invocation.out.print("the local stack is up")
    invocation.next_steps(
        [
            ("nightcrew apply --local", "apply the jobs in jobs/"),
            ("nightcrew local tick JOB", "fire a job's schedule now"),
            ("nightcrew local down", "end it and remove its data"),
        ]
    )


def start(invocation: Invocation, project: Path | None, *, deploys: bool = True) -> tuple[Host, Deployment | None]:
    """Start and deploy, telling each phase on stderr."""
    from nightcrew_cli import local

    folder = find_project(project) if deploys else None
    host = local.up(region=invocation.options.region or "", progress=_telling(invocation))
    if folder is None:
        return host, None
    stack = invocation.options.stack or invocation.environment.get("NIGHTCREW_STACK") or "nightcrew"
    with invocation.err.status("deploying the template …"):
        deployment = local.deploy(host, project=folder, stack=stack, progress=_telling(invocation, details=False))
    invocation.note(f"deployed {stack} in {sum(deployment.seconds.values()):.0f} s")
    return host, deployment


def find_project(given: Path | None) -> Path:
    """Return the folder that holds template.yaml: the given one, this one or one above, or where we come from."""
    if given is not None:
        if not (given / "template.yaml").is_file():
            raise CommandError(f"there is no template.yaml in {given}", code=ExitCode.USAGE)
        return given.resolve()
    here = Path.cwd()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[3]):
        if (folder / "template.yaml").is_file():
            return folder
    raise CommandError("template.yaml was not found here or above", "--project says where it is", code=ExitCode.USAGE)


def down(invocation: Invocation) -> None:
    """End the local stack, every process of it, and remove its data."""
    from nightcrew_cli import local

    was_up = local.down(progress=_telling(invocation))
    invocation.out.print("the local stack is down" if was_up else "the local stack was not up")


def status(invocation: Invocation) -> None:
    """Show whether the local stack is up, and its instances. Exits with 1 when it is not up."""
    from rich.text import Text

    from nightcrew_cli.view.tables import facts, table

    host = running(invocation)
    instances = host.control.instances()
    told = facts(
        [
            ("endpoint", host.running.endpoint),
            ("stack", host.running.stack or "not deployed yet"),
            ("region", host.running.region),
            ("process", str(host.running.pid)),
            ("home", host.running.home),
        ]
    )
    rows = [
        (it.instance_id, it.state, it.instance_type, it.zone, it.capacity_type, str(it.pid or "-")) for it in instances
    ]
    listed = table(("INSTANCE", "STATE", "TYPE", "ZONE", "CAPACITY", "PID>"), rows) if rows else Text("no instances")
    shown = [
        {"instance_id": it.instance_id, "state": it.state, "type": it.instance_type, "pid": it.pid} for it in instances
    ]
    data = {"endpoint": host.running.endpoint, "stack": host.running.stack, "pid": host.running.pid, "instances": shown}
    invocation.show([told, "", listed], data)


def running(invocation: Invocation) -> Host:
    """Return the host that is up. Raises CommandError when there is none."""
    from nightcrew_cli import local, local_state

    local_state.running_host(invocation.environment)
    host = local.status()
    if host is None:
        raise CommandError("the local stack is not up", "nightcrew local up starts it")
    return host


def tick(
    invocation: Invocation,
    job: Annotated[
        str, typer.Argument(metavar="JOB", help="Name of an applied job with a schedule.", show_default=False)
    ],
    at: Annotated[
        str | None,
        typer.Option("--at", help="The tick's time. Default: now.", show_default=False),
    ] = None,
) -> None:
    """Fire a job's schedule now, as EventBridge Scheduler would.

    Prints the id that the run of this tick will have.
    """
    from nightcrew.domain.run import Trigger, run_id_of

    answer = running(invocation).control.tick(job, _time(at))
    if answer.get("delivered") != "true":
        raise CommandError(f"the tick was not delivered: {answer.get('reason', 'no reason given')}")
    run_id = run_id_of(job, datetime.fromisoformat(answer["scheduled_time"]), Trigger.SCHEDULE)
    invocation.show(run_id, {**answer, "run_id": run_id})
    invocation.next_steps([(f"nightcrew logs -f {run_id} --local", "follow it, as soon as the launcher has begun it")])


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise CommandError(f"--at {text!r} is not a time such as 2026-11-23T02:30:00Z", code=ExitCode.USAGE) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def interrupt(
    invocation: Invocation,
    worker: Annotated[str, typer.Argument(metavar="WORKER", help="Id of a Spot instance.", show_default=False)],
    notice: Annotated[
        float | None, typer.Option("--notice", min=0, help="Seconds of notice.", show_default=False)
    ] = None,
) -> None:
    """Interrupt a Spot worker, as EC2 does when it needs the capacity back."""
    found = running(invocation).control.interrupt(worker, notice=notice)
    invocation.show(
        f"{found.instance_id} has its notice of interruption", {"instance_id": found.instance_id, "state": found.state}
    )


def _telling(invocation: Invocation, *, details: bool = True) -> Callable[[str, str], None]:
    """Return what tells each phase on stderr; without details only its first line."""
    seen: set[str] = set()

    def tell(phase: str, detail: str) -> None:
        if details or phase not in seen:
            invocation.note(f"{phase}: {detail}")
        seen.add(phase)

    return tell
