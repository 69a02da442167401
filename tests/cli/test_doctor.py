"""doctor: every check by itself, what it means, what to do, and an exit code that is zero only when all is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from nightcrew.domain.job import JobSchedule
from nightcrew.usecases.diagnosis import Finding, Health
from nightcrew.usecases.doctor import Check
from nightcrew.usecases.errors import UnreadableError
from nightcrew.usecases.operate import OperatorError
from nightcrew.usecases.rebuild import LostRun, Survey, Unrecoverable, Written
from nightcrew_cli import recovery
from nightcrew_cli.exits import ExitCode
from nightcrew_cli.options import GlobalOptions
from nightcrew_cli.session import Connection, connect
from tests.builders import launched, make_job, make_run
from tests.cli.stage import Stage

Compare = Callable[[str, str], None]

FINE = Finding(check="stack", health=Health.OK, text="nightcrew is CREATE_COMPLETE")
ODD = Finding(check="table", health=Health.WARN, text="recovery is off", meaning="it cannot go back", command="aws …")
BAD = Finding(check="dead letters", health=Health.FAIL, text="2 in lifecycle", command="nightcrew redrive")
LEAK = Finding(check="workers", health=Health.FAIL, text="1 should not be there: i-00000001", leaks=1)


class Repair:
    """A rebuild that finds what it is told."""

    def __init__(self, survey: Survey | Exception) -> None:
        self.found = survey
        self.log: list[Any] = []

    def survey(self, *, window: timedelta, thorough: bool) -> Survey:
        self.log.append((window, thorough))
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def perform(self, survey: Survey) -> list[Written]:
        self.log.append("written")
        return [Written(lost.run.run_id, True, f"record rebuilt: {lost.run.status}") for lost in survey.runs]


def checks_of(monkeypatch: pytest.MonkeyPatch, *findings: Finding | Exception) -> None:
    def make(finding: Finding | Exception) -> Iterable[Finding]:
        if isinstance(finding, Exception):
            raise finding
        return [finding]

    checks = [Check(getattr(finding, "check", "bucket"), lambda it=finding: make(it)) for finding in findings]  # type: ignore[misc]
    monkeypatch.setattr("nightcrew_cli.recovery.checks", lambda *_, **__: checks)


@pytest.fixture
def repair(monkeypatch: pytest.MonkeyPatch) -> Repair:
    repair = Repair(
        Survey(
            runs=(LostRun(launched(make_run()), "i-00000001"),),
            jobs=(make_job(schedule=JobSchedule(expressions=("rate(1 day)",))),),
            unrecoverable=(Unrecoverable("i-00000002", "a-run has no record, and it has no roster"),),
            orphans=("never-ran",),
        )
    )
    monkeypatch.setattr("nightcrew_cli.recovery.rebuild", lambda *_: repair)
    return repair


def test_each_finding_says_what_it_means_and_what_comes_next(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, snapshot_of: Compare
) -> None:
    checks_of(monkeypatch, FINE, ODD, OperatorError("AWS refused: HeadBucket: AccessDenied", "who are you?"), BAD, LEAK)

    result = stage("doctor")

    snapshot_of("doctor", result.stdout)


@pytest.mark.parametrize(
    ("findings", "code"),
    [
        ([FINE], ExitCode.OK),
        ([FINE, ODD], ExitCode.OK),
        ([FINE, BAD], ExitCode.ERROR),
        ([FINE, UnreadableError("table")], ExitCode.ERROR),
        ([BAD, LEAK, UnreadableError("table")], ExitCode.WORKER_LEFT),
    ],
)
def test_the_exit_code_is_zero_only_when_nothing_fails_and_everything_is_told(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, findings: list[Finding | Exception], code: ExitCode
) -> None:
    checks_of(monkeypatch, *findings)

    assert stage("doctor").exit_code == code


def test_fix_shows_what_is_lost_then_writes_it_then_examines(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, repair: Repair, snapshot_of: Compare
) -> None:
    checks_of(monkeypatch, FINE)

    result = stage("doctor", "--fix", "--hours", "24")

    assert repair.log == [(timedelta(hours=24), True), "written"]
    snapshot_of("doctor_fix", result.stdout)


def test_without_fix_nothing_is_written(stage: Stage, monkeypatch: pytest.MonkeyPatch, repair: Repair) -> None:
    checks_of(monkeypatch, BAD)

    stage("doctor")

    assert repair.log == []


def test_a_repair_that_cannot_be_made_does_not_stop_the_examination(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, repair: Repair
) -> None:
    repair.found = UnreadableError("rosters: AccessDenied")
    checks_of(monkeypatch, FINE)

    result = stage("doctor", "--fix")

    assert "nothing was rebuilt: rosters: AccessDenied" in result.stderr
    assert "1 ok" in result.stdout


def test_as_json_it_is_one_object_without_secrets(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, repair: Repair
) -> None:
    checks_of(monkeypatch, FINE, LEAK)

    result = stage("doctor", "--fix", "-o", "json")

    answer = json.loads(result.stdout)
    assert answer["exit_code"] == result.exit_code == ExitCode.WORKER_LEFT
    assert [item["done"] for item in answer["rebuilt"]] == [True]
    assert [(item["check"], item["health"], item["leaks"]) for item in answer["findings"]] == [
        ("stack", "ok", 0),
        ("workers", "fail", 1),
    ]
    assert "nonce" not in result.stdout


# ---- The wiring --------------------------------------------------------------------------------------------


class Unreachable(Connection):
    """A stack of which nothing answers."""

    def client(self, service: str, *, retries: int = 3) -> Any:
        raise EndpointConnectionError(endpoint_url=f"https://{service}.example")


def test_when_nothing_answers_every_check_is_unknown_and_none_is_ok(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = Unreachable(connect(GlobalOptions(region="eu-west-1"), {})._session, stack="nightcrew")
    names = [check.name for check in recovery.checks(connection, stage.clock, version="1", window=timedelta(hours=1))]
    monkeypatch.setattr("nightcrew_cli.session.connect", lambda *_: connection)

    result = stage("doctor", "-o", "json")

    answer = json.loads(result.stdout)
    assert [item["check"] for item in answer["findings"]] == names
    assert {item["health"] for item in answer["findings"]} == {"unknown"}
    assert result.exit_code == ExitCode.ERROR
