"""apply: job files onto the stack, only what differs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from nightcrew_cli.commands.jobfiles import PANEL, Paths, load, show_warnings
from nightcrew_cli.exits import ExitCode
from nightcrew_cli.failures import CommandError
from nightcrew_cli.invocation import Invocation
from nightcrew_cli.options import command

if TYPE_CHECKING:
    from nightcrew.usecases.operate import Difference, Operate
    from nightcrew_cli.jobfile.loader import JobFile


def register(app: typer.Typer) -> None:
    command(
        app,
        "apply",
        panel=PANEL,
        examples=["nightcrew apply", "nightcrew apply jobs/nightly-report.yaml", "nightcrew apply --prune --yes"],
    )(apply)


def apply(
    invocation: Invocation,
    paths: Paths = None,
    prune: Annotated[bool, typer.Option("--prune", help="Take off every job that these files do not hold.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before jobs are taken off.")] = False,
) -> None:
    """Put jobs and their schedules on the stack, only what differs.

    A second apply of the same files changes nothing.
    """
    files = load(invocation, paths)
    show_warnings(invocation, files)
    operate = invocation.connect().operate(invocation.clock)
    differences = [operate.difference(file.job) for file in files]
    removals = operate.removals(file.job.name for file in files) if prune else []
    if invocation.is_for_people:
        show_differences(invocation, [*differences, *removals])
    if removals:
        confirm(invocation, [removal.name for removal in removals], yes=yes)
    _perform(invocation, operate, files, differences, removals)


def show_differences(invocation: Invocation, differences: Sequence[Difference]) -> None:
    from nightcrew_cli.view.jobs import difference_lines

    for difference in differences:
        for line in difference_lines(difference):
            invocation.out.print(line, soft_wrap=True)


def confirm(invocation: Invocation, names: Sequence[str], *, yes: bool) -> None:
    """Ask before something is taken off; where nobody can answer, --yes must have been said."""
    if yes:
        return
    what = f"{len(names)} job{'s' if len(names) > 1 else ''} will be taken off: {', '.join(names)}"
    if not sys.stdin.isatty():
        raise CommandError(what, "nobody is there to confirm it: add --yes; nothing was changed", code=ExitCode.USAGE)
    invocation.err.print(what, markup=False)
    if not typer.confirm("Proceed?", default=False, err=True):
        raise CommandError("nothing was changed")


def _perform(
    invocation: Invocation,
    operate: Operate,
    files: Sequence[JobFile],
    differences: Sequence[Difference],
    removals: Sequence[Difference],
) -> None:
    from nightcrew.usecases.operate import Change
    from nightcrew_cli.view.jobs import difference_data
    from nightcrew_cli.view.plan import changes_line

    for file, difference in zip(files, differences, strict=True):
        operate.perform(difference, file.files_archive)
    for removal in removals:
        operate.perform(removal)
    everything = [*differences, *removals]
    if not invocation.is_for_people:
        invocation.show("", [difference_data(difference) for difference in everything])
        return
    changed = any(difference.change is not Change.NONE for difference in everything)
    invocation.out.print(f"{'applied' if changed else 'nothing to do'}: {changes_line(everything)}", markup=False)
    if changed and files:
        name = files[0].job.name
        invocation.next_steps(
            [(f"nightcrew run {name} --follow", "run it now"), (f"nightcrew jobs next {name}", "its next ticks")]
        )
