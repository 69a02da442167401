"""The live line of somebody who waits: phase and elapsed time, above it the log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from rich.text import Text

from nightcrew.domain.run import Attempt, Run
from nightcrew_cli.clock import Clock
from nightcrew_cli.view import text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live


@dataclass(slots=True)
class Progress:
    """Where the screen allows, one line that moves; elsewhere, one line for each change of status."""

    out: Console
    err: Console
    clock: Clock
    usual: timedelta | None = None
    quiet: bool = False
    _live: Live | None = None
    _said: str = ""
    _run: Run | None = None
    _since: datetime | None = None

    @contextmanager
    def showing(self) -> Iterator[Progress]:
        """Keep the live line for as long as the block lasts."""
        from rich.live import Live

        if self.quiet or not self.err.is_terminal or self.err.is_dumb_terminal:
            yield self
            return
        live = Live(console=self._screen, get_renderable=self._line, transient=True, refresh_per_second=4)
        with live:
            self._live = live
            try:
                yield self
            finally:
                self._live = None

    @property
    def _screen(self) -> Console:
        """Log lines and the live line must go through one console, or they overwrite each other."""
        return self.out if self.out.is_terminal else self.err

    def look(self, run: Run) -> None:
        phase = f"{run.status} {len(run.attempts)}"
        if phase != self._said:
            self._said, self._since = phase, self.clock.now()
            if self._live is None and not self.quiet and not run.status.is_terminal:
                self.err.print(Text(_phase(run), style="dim"), soft_wrap=True)
        self._run = run

    def attempt(self, attempt: Attempt) -> None:
        """A worker of its own has a log of its own; the first one needs no announcement."""
        if attempt.number > 1 and attempt.worker and not self.quiet:
            console = self.err if self._live is None else self._screen
            console.print(Text(f"── attempt {attempt.number}, worker {attempt.worker.instance_id}", style="dim"))

    def line(self, line: str) -> None:
        """Print a line of the log, as text and nothing else."""
        if self._live is not None and self.out.is_terminal:
            self.out.print(Text(line), soft_wrap=True)
        else:
            self._write(self.out, line)

    def line_aside(self, line: str) -> None:
        """Print a line of the log beside an answer that is JSON."""
        self._write(self.err, line)

    @staticmethod
    def _write(console: Console, line: str) -> None:
        console.file.write(f"{line}\n")
        console.file.flush()

    def _line(self) -> Text:
        if self._run is None or self._since is None:
            return Text("")
        line = text.status(self._run.status)
        line.append(f" {text.clock(self.clock.now() - self._since)}")
        total = f" · {text.clock(self.clock.now() - self._run.created_at)} since the start"
        usual = f" · usually {text.span(self.usual)}" if self.usual else ""
        waits = f" · {text.short(text.why(self._run), 60)}" if self._run.retry_at else ""
        return line.append(total + usual + waits, style="dim")


def _phase(run: Run) -> str:
    """The status, with the worker that is there or the next attempt that is waited for."""
    if run.retry_at is not None:
        return f"{run.status}: {text.why(run)}; next attempt at {text.moment(run.retry_at)}"
    worker = run.attempt.worker if run.attempt else None
    about = f", attempt {len(run.attempts)}" if len(run.attempts) > 1 else ""
    where = f" on {worker.instance_id} ({worker.instance_type})" if worker else ""
    return f"{run.status}{about}{where}"
