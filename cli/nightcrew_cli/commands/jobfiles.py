"""What validate, plan and apply share: job files are read, and all that is wrong with them is shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nightcrew_cli.exits import ExitCode
from nightcrew_cli.failures import CommandError
from nightcrew_cli.invocation import Invocation

if TYPE_CHECKING:
    from nightcrew_cli.jobfile.loader import JobFile
    from nightcrew_cli.jobfile.problem import Problem

PANEL = "Job files"
Paths = Annotated[
    list[Path] | None,
    typer.Argument(metavar="FILE", help="Job files or folders of them. Default: jobs/", show_default=False),
]


def load(invocation: Invocation, paths: Sequence[Path] | None) -> list[JobFile]:
    """Return the jobs of these files; print every problem and leave when there is one."""
    from nightcrew_cli.jobfile.loader import load as load_files
    from nightcrew_cli.jobfile.problem import JobFileError

    if not paths and not Path("jobs").is_dir():
        raise CommandError(
            "no job files were named, and there is no folder jobs/ here", "nightcrew validate FILE", code=ExitCode.USAGE
        )
    try:
        return load_files(paths or [Path("jobs")], now=invocation.clock.now())
    except JobFileError as error:
        problems = error.problems
        if invocation.is_for_people:
            for problem in problems:
                print_problem(invocation, problem, "error", "bold red")
            count = len(problems)
            invocation.err.print(f"{count} problem{'s' if count > 1 else ''}; nothing was changed", style="red")
        else:
            invocation.show("", [problem_data(problem, "error") for problem in problems])
        raise typer.Exit(ExitCode.USAGE) from error


def show_warnings(invocation: Invocation, files: Sequence[JobFile]) -> None:
    if not invocation.options.quiet:
        for file in files:
            for warning in file.warnings:
                print_problem(invocation, warning, "warning", "yellow")


def print_problem(invocation: Invocation, problem: Problem, kind: str, style: str) -> None:
    from rich.text import Text

    invocation.err.print(Text.assemble((f"{kind}: ", style), str(problem)), soft_wrap=True)


def problem_data(problem: Problem, severity: str) -> dict[str, Any]:
    return {
        "severity": severity,
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "message": problem.message,
        "hint": problem.hint,
    }
