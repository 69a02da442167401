"""redrive: give what lies in the dead-letter queues another try."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from nightcrew_cli.commands.jobs import PANEL
from nightcrew_cli.exits import ExitCode
from nightcrew_cli.failures import CommandError
from nightcrew_cli.invocation import Invocation
from nightcrew_cli.options import command

if TYPE_CHECKING:
    from nightcrew.usecases.redrive import DeadLetterQueue, Handled


class Choice(StrEnum):
    LIFECYCLE = "lifecycle"
    UNDELIVERED = "undelivered"
    ALL = "all"


def register(app: typer.Typer) -> None:
    command(
        app,
        "redrive",
        panel=PANEL,
        examples=["nightcrew redrive --dry-run", "nightcrew redrive", "nightcrew redrive --queue undelivered --yes"],
    )(redrive)


def redrive(
    invocation: Invocation,
    queue: Annotated[Choice, typer.Option("--queue", help="Which of the two.")] = Choice.ALL,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what is there.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Send what lies in the dead-letter queues again, and delete each copy once that was accepted.

    Find the cause first: what fails again comes back. A tick that is too late by now becomes a MISSED run; a message
    whose effect is there already has none.
    """
    from nightcrew_cli import recovery

    queues = _queues(queue)
    work = recovery.redrive(invocation.connect())
    if not yes or dry_run:
        found = work.look(queues)
        _show(invocation, found, is_answer=dry_run or not found)
        if dry_run or not found:
            return
        _confirm(invocation, [handled for handled in found if handled.letter.target])
    handled = list(work.redrive(queues))
    _show(invocation, handled, is_answer=True)
    _conclude(invocation, handled)


def _queues(choice: Choice) -> list[DeadLetterQueue]:
    from nightcrew.usecases.redrive import DeadLetterQueue

    return [queue for queue in DeadLetterQueue if choice is Choice.ALL or queue.value == choice.value]


def _show(invocation: Invocation, letters: Sequence[Handled], *, is_answer: bool) -> None:
    """Show the letters; what is only shown before the question is for people alone."""
    from nightcrew_cli.view.recovery import letter_data, letter_table

    if not is_answer and not invocation.is_for_people:
        return
    table = letter_table(letters, invocation.clock.now()) if letters else "the dead-letter queues are empty"
    invocation.show(table, [letter_data(letter) for letter in letters])


def _confirm(invocation: Invocation, letters: Sequence[Handled]) -> None:
    """Ask before anything is sent; where nobody can answer, --yes must have been said."""
    if not letters:
        raise CommandError("nothing here can be sent again", "docs/recovery.md says how to read and delete it")
    what = f"{len(letters)} message{'s' if len(letters) > 1 else ''} will be sent again"
    if not sys.stdin.isatty():
        raise CommandError(what, "nobody is there to confirm it: add --yes; nothing was changed", code=ExitCode.USAGE)
    invocation.err.print(what, markup=False)
    if not typer.confirm("Proceed?", default=False, err=True):
        raise CommandError("nothing was changed")


def _conclude(invocation: Invocation, letters: Iterable[Handled]) -> None:
    from nightcrew.usecases.redrive import LIMIT, Fate

    letters = list(letters)
    if len(letters) >= LIMIT:
        invocation.note("there may be more: run it again")
    if any(letter.fate is Fate.FAILED for letter in letters):
        raise CommandError("some could not be sent again and are still there", "nightcrew redrive --dry-run")
    if any(letter.fate is Fate.REDRIVEN for letter in letters):
        invocation.next_steps(
            [("nightcrew ps", "what became of it"), ("nightcrew doctor", "in some minutes: did any come back?")]
        )
