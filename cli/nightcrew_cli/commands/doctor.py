"""doctor: is the stack well, and what to do if it is not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nightcrew_cli.commands.jobs import PANEL
from nightcrew_cli.exits import ExitCode
from nightcrew_cli.invocation import Invocation
from nightcrew_cli.options import command

if TYPE_CHECKING:
    from rich.text import Text

    from nightcrew.usecases.diagnosis import Finding
    from nightcrew.usecases.doctor import Explanation
    from nightcrew.usecases.rebuild import Written
    from nightcrew_cli.session import Connection


def register(app: typer.Typer) -> None:
    command(
        app, "doctor", panel=PANEL, examples=["nightcrew doctor", "nightcrew doctor --fix", "nightcrew doctor -o json"]
    )(doctor)


def doctor(
    invocation: Invocation,
    fix: Annotated[bool, typer.Option("--fix", help="Rebuild records that the table has lost; nothing else.")] = False,
    hours: Annotated[
        int, typer.Option("--hours", min=1, max=336, help="How far back launches are looked at for lost records.")
    ] = 48,
) -> None:
    """Examine the stack: what is wrong, what that means, and the next command.

    A check that cannot be made is unknown, never ok. --fix writes again the records that tags, rosters and results
    still tell; a record that exists is never touched. Exit codes: 0 all is well (warnings allowed), 1 something is
    not or cannot be told, 107 a worker is there that should not be.
    """
    connection = invocation.connect()
    window = timedelta(hours=hours)
    written = _rebuild(invocation, connection, window) if fix else []
    findings = _examine(invocation, connection, window)
    code = _exit_code(findings)
    if not invocation.is_for_people:
        invocation.show("", _data(findings, written, code))
    raise typer.Exit(code)


def _rebuild(invocation: Invocation, connection: Connection, window: timedelta) -> list[Written]:
    """Show what is lost, then write it again. Where that cannot be told, nothing is written; the checks say why."""
    from nightcrew_cli import recovery
    from nightcrew_cli.view.recovery import survey_lines, written_lines

    try:
        rebuild = recovery.rebuild(connection, invocation.clock)
        survey = rebuild.survey(window=window, thorough=True)
    except Exception as error:
        invocation.err.print(f"nothing was rebuilt: {_explain(error).what}", style="red", markup=False, soft_wrap=True)
        return []
    _tell(invocation, survey_lines(survey))
    if survey.unread:
        invocation.note(f"{survey.unread} older launches were not looked at")
    written = rebuild.perform(survey)
    _tell(invocation, written_lines(written))
    return written


def _tell(invocation: Invocation, lines: Iterable[Text]) -> None:
    """Show lines to people; programs get everything at the end."""
    if invocation.is_for_people:
        for line in lines:
            invocation.out.print(line, soft_wrap=True)


def _examine(invocation: Invocation, connection: Connection, window: timedelta) -> list[Finding]:
    """Make every check, showing each finding as it comes: some services take their time."""
    from importlib import metadata

    from nightcrew.usecases.doctor import examine
    from nightcrew_cli import recovery
    from nightcrew_cli.view.recovery import finding_lines, verdict

    findings = []
    checks = recovery.checks(connection, invocation.clock, version=metadata.version("nightcrew"), window=window)
    for finding in examine(checks, _explain):
        findings.append(finding)
        _tell(invocation, finding_lines(finding))
    _tell(invocation, [verdict(findings)])
    return findings


def _explain(error: Exception) -> Explanation:
    from nightcrew.usecases.doctor import Explanation
    from nightcrew_cli import failures

    failure = failures.explain(error)
    return Explanation(failure.what, next(iter(failure.hints), ""))


def _exit_code(findings: Sequence[Finding]) -> ExitCode:
    from nightcrew.usecases.diagnosis import Health

    if any(finding.leaks for finding in findings):
        return ExitCode.WORKER_LEFT
    is_bad = any(finding.health in {Health.FAIL, Health.UNKNOWN} for finding in findings)
    return ExitCode.ERROR if is_bad else ExitCode.OK


def _data(findings: Sequence[Finding], written: Sequence[Written], code: ExitCode) -> dict[str, Any]:
    from nightcrew.adapters.codec import encode
    from nightcrew_cli.view.recovery import finding_data

    return {
        "exit_code": int(code),
        "rebuilt": [encode(item) for item in written],
        "findings": [finding_data(finding) for finding in findings],
    }
