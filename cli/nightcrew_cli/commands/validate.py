"""validate: job files, checked without AWS and without a network."""

from __future__ import annotations

import typer

from nightcrew_cli.commands.jobfiles import PANEL, Paths, load, problem_data, show_warnings
from nightcrew_cli.invocation import Invocation
from nightcrew_cli.options import command


def register(app: typer.Typer) -> None:
    command(
        app, "validate", panel=PANEL, examples=["nightcrew validate", "nightcrew validate jobs/nightly-report.yaml"]
    )(validate)


def validate(invocation: Invocation, paths: Paths = None) -> None:
    """Check job files, without AWS and without a network.

    Prints every problem as file:line:column and exits with 2 when there is one.
    """
    from rich.text import Text

    files = load(invocation, paths)
    if not invocation.is_for_people:
        invocation.show("", [problem_data(warning, "warning") for file in files for warning in file.warnings])
        return
    show_warnings(invocation, files)
    for file in files:
        invocation.out.print(Text.assemble(("✔ ", "green"), (file.job.name, "bold"), f"  {file.path}"), soft_wrap=True)
    if not invocation.options.quiet:
        invocation.next_steps([("nightcrew plan", "what would run when, where, and for how much")])
