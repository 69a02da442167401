"""One call of the program: its options, its two consoles, its clock, and the way out when something fails."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from nightcrew_cli.clock import Clock, SystemClock
from nightcrew_cli.environment import ENVIRONMENT, is_set

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from nightcrew_cli.failures import Failure
    from nightcrew_cli.options import GlobalOptions
    from nightcrew_cli.session import Connection

# Piped tables are read by programs and pagers: nothing is cut off or wrapped.
_PIPED_WIDTH = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """Answers go to `out`, everything said about them to `err`, so that pipes stay clean."""

    options: GlobalOptions
    environment: Mapping[str, str]
    out: Console
    err: Console
    clock: Clock

    def connect(self) -> Connection:
        """Return the connection to the stack; the first place where boto3 is loaded."""
        from nightcrew_cli import session

        connection = session.connect(self.options, self.environment)
        if connection.is_local:
            self.note(f"local stack {connection.stack} at {connection.endpoint}")
        return connection

    def note(self, text: str) -> None:
        """Say something about the answer; left out with --quiet."""
        if not self.options.quiet:
            self.err.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)

    def next_steps(self, steps: Iterable[tuple[str, str]]) -> None:
        """Show the commands that follow, each with what it is for."""
        steps = [(self._as_reached(command), purpose) for command, purpose in steps]
        width = max((len(command) for command, _ in steps), default=0)
        for command, purpose in steps:
            self.note(f"  {command:<{width}}  {purpose}".rstrip())

    def _as_reached(self, command: str) -> str:
        """The command with the options by which this call reached its stack: as printed, it must reach the same."""
        if not command.startswith("nightcrew ") or command.startswith("nightcrew local"):
            return command
        given = [
            f"--{name} {value}"
            for name in ("profile", "region", "stack")
            if (value := getattr(self.options, name)) and f"--{name}" not in command
        ]
        if self.options.local and "--local" not in command:
            given.append("--local")
        return " ".join([command, *given])

    def show(self, table: RenderableType | list[RenderableType], data: Any) -> None:
        """Print the answer: for people, or as JSON; jsonl gives one line for each item of a list."""
        from rich.text import Text

        match self.options.output:
            case "json":
                self._raw(json.dumps(data, indent=2, ensure_ascii=False))
            case "jsonl":
                for item in data if isinstance(data, list) else [data]:
                    self._raw(json.dumps(item, ensure_ascii=False, separators=(",", ":")))
            case _:
                # Plain strings are text, too: nothing that a job is called may be taken for markup.
                parts = [Text(part) if isinstance(part, str) else part for part in _listed(table)]
                if self.out.is_terminal:
                    self.out.print(*parts, sep="\n")
                else:
                    self._piped(parts)

    @property
    def is_for_people(self) -> bool:
        return self.options.output in {None, "table"}

    def call(self, function: Callable[..., None], **values: Any) -> None:
        """Do the command; what fails is told in a few lines, and as a traceback only on request."""
        try:
            function(self, **values)
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise
            if is_set("NIGHTCREW_DEBUG", self.environment):
                raise
            from nightcrew_cli import failures

            self.fail(failures.explain(error))

    def fail(self, failure: Failure) -> NoReturn:
        """Say what failed and what to do about it, and leave."""
        from rich.text import Text

        self.err.print(Text.assemble(("error: ", "bold red"), failure.what), soft_wrap=True)
        for line in failure.hints:
            self.err.print(Text(f"  {line}", style="dim"), soft_wrap=True)
        raise typer.Exit(failure.code)

    def _piped(self, parts: Sequence[RenderableType]) -> None:
        """Print without the spaces that fill up columns: in files and diffs they are noise."""
        with self.out.capture() as capture:
            self.out.print(*parts, sep="\n")
        self._raw("\n".join(line.rstrip() for line in capture.get().rstrip("\n").split("\n")))

    def _raw(self, text: str) -> None:
        self.out.file.write(text + "\n")


def _listed(table: RenderableType | list[RenderableType]) -> list[RenderableType]:
    return table if isinstance(table, list) else [table]


def begin(options: GlobalOptions) -> Invocation:
    """Return the invocation of this process."""
    return Invocation(
        options=options,
        environment=ENVIRONMENT,
        out=_console(stderr=False),
        err=_console(stderr=True),
        clock=SystemClock(),
    )


def _console(*, stderr: bool) -> Console:
    # Imported here: completion and --version need no console.
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in ENVIRONMENT else _PIPED_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, emoji=False)
