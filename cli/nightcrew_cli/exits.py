"""The exit codes: the one place that says which there are and which one a run gives."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nightcrew.domain.run import Run


class ExitCode(IntEnum):
    OK = 0
    ERROR = 1
    USAGE = 2
    DIFFERENCES = 3
    RUN_FAILED = 100
    STILL_RUNNING = 101
    NOT_FOUND = 102
    CANCELLED = 103
    TIMED_OUT = 104
    NOT_STARTED = 105
    NO_CAPACITY = 106
    WORKER_LEFT = 107

    @property
    def meaning(self) -> str:
        return _MEANINGS[self]


_MEANINGS = {
    ExitCode.OK: "done; the run succeeded",
    ExitCode.ERROR: "Nightcrew or AWS failed",
    ExitCode.USAGE: "wrong usage, or a job file that is not valid",
    ExitCode.DIFFERENCES: "plan --detailed-exitcode: something would change",
    ExitCode.RUN_FAILED: "the run failed",
    ExitCode.STILL_RUNNING: "the run goes on, nobody waits for it any more",
    ExitCode.NOT_FOUND: "no such job or run",
    ExitCode.CANCELLED: "the run was cancelled",
    ExitCode.TIMED_OUT: "the run passed its timeout or deadline",
    ExitCode.NOT_STARTED: "the tick was missed or skipped",
    ExitCode.NO_CAPACITY: "no capacity, or a quota is used up",
    ExitCode.WORKER_LEFT: "a worker is left that should not be there",
}


def of_run(run: Run) -> ExitCode:
    """Return the exit code that tells how a run ended, or that it has not."""
    # Imported here: --help needs the meanings, not the domain.
    from nightcrew.domain.run import Outcome, RunStatus

    if not run.status.is_terminal:
        return ExitCode.STILL_RUNNING
    if run.status is RunStatus.SUCCEEDED:
        return ExitCode.OK
    if run.status in {RunStatus.MISSED, RunStatus.SKIPPED}:
        return ExitCode.NOT_STARTED
    match run.outcome:
        case Outcome.CANCELLED:
            return ExitCode.CANCELLED
        case Outcome.TIMED_OUT | Outcome.DEADLINE_EXCEEDED:
            return ExitCode.TIMED_OUT
        case Outcome.NO_CAPACITY | Outcome.QUOTA_EXCEEDED:
            return ExitCode.NO_CAPACITY
        case _:
            return ExitCode.RUN_FAILED


def of_command(run: Run) -> int:
    """Return the job's own exit code where there is one (--exit-status), else the run's."""
    code = run.attempt.exit_code if run.attempt else None
    return code if code and 0 < code < 256 and run.status.is_terminal else of_run(run)
