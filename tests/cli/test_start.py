"""What costs nothing and must always work: start-up, help, options in any place, errors in words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from botocore.exceptions import ClientError, NoCredentialsError

from nightcrew.usecases.errors import UnreadableError
from nightcrew_cli.exits import ExitCode
from nightcrew_cli.failures import explain
from nightcrew_cli.options import Format
from tests.builders import make_job
from tests.cli.stage import Stage

SLOW = ("boto3", "botocore", "pydantic", "ruamel", "ministack", "nightcrew.domain", "rich.console")


def test_starting_the_program_loads_nothing_slow() -> None:
    code = "import sys, nightcrew_cli.main; print('\\n'.join(sys.modules))"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert [name for name in loaded if name in SLOW or name.startswith(tuple(f"{slow}." for slow in SLOW))] == []


def test_help_shows_panels_in_order_and_every_exit_code(stage: Stage) -> None:
    page = stage("--help").stdout

    panels = [line for line in page.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert panels == [
        "Job files:", "Runs:", "Look closer:", "On this machine:", "Options:", "Global options:"
    ]  # fmt: skip
    assert all(f"{code.value:>3}  {code.meaning}" in page for code in ExitCode)


@pytest.mark.parametrize(
    "command",
    ["validate", "plan", "apply", "schema", "run", "ps", "logs", "cancel", "demo", "version"]
    + [f"jobs {name}" for name in ("list", "show", "next", "remove")]
    + [f"runs {name}" for name in ("list", "show", "outputs")]
    + [f"local {name}" for name in ("up", "down", "status", "tick", "interrupt")],
)
def test_every_command_has_help_with_examples_and_global_options(stage: Stage, command: str) -> None:
    result = stage(*command.split(), "--help")

    assert result.exit_code == 0
    assert f"    nightcrew {command}" in result.stdout.split("Examples:")[1]
    assert "Global options:" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--stack", "other", "-o", "json", "jobs", "list"], id="before the command"),
        pytest.param(["jobs", "--stack", "other", "-o", "json", "list"], id="between group and command"),
        pytest.param(["jobs", "list", "--stack", "other", "-o", "json"], id="after the command"),
        pytest.param(["--stack", "first", "-o", "json", "jobs", "list", "--stack", "other"], id="the later one wins"),
    ],
)
def test_global_options_may_stand_anywhere(stage: Stage, arguments: list[str]) -> None:
    result = stage(*arguments)

    assert (result.exit_code, result.stdout) == (0, "[]\n")
    assert (stage.options.stack, stage.options.output) == ("other", Format.JSON)


def test_a_mistyped_command_gets_a_suggestion(stage: Stage) -> None:
    result = stage("rn")

    assert result.exit_code == ExitCode.USAGE
    assert "No such command 'rn'. Did you mean 'run', 'runs'?" in result.stderr


def test_quiet_says_nothing_beside_the_answer(stage: Stage) -> None:
    stage.jobs.applied["nightly-report"] = make_job()

    assert stage("jobs", "show", "nightly-report", "--quiet").stderr == ""


def test_jsonl_is_one_line_for_each_item(stage: Stage) -> None:
    stage.jobs.applied = {name: make_job(name=name) for name in ("one", "two")}

    assert len(stage("jobs", "list", "-o", "jsonl").stdout.splitlines()) == 2


def client_error(code: str, message: str = "no") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "GetItem")


def test_an_aws_error_below_ours_is_explained_by_its_cause() -> None:
    error = UnreadableError("table records: ExpiredToken")
    error.__cause__ = client_error("ExpiredTokenException")

    failure = explain(error)

    assert failure.what == "the AWS credentials have expired"
    assert "aws sso login" in failure.hints[0]


@pytest.mark.parametrize(
    ("error", "what", "hint"),
    [
        (NoCredentialsError(), "no AWS credentials were found", "nightcrew local up"),
        (client_error("AccessDenied", "denied"), "AWS refused: GetItem: AccessDenied: denied", "aws sts"),
        (client_error("UnrecognizedClientException"), "AWS does not know these credentials", "aws configure"),
        (client_error("Throttling"), "AWS is throttling", "again"),
        (FileNotFoundError(2, "No such file or directory", "x.yaml"), "No such file or directory: x.yaml", ""),
        (KeyError("surprise"), "internal error: KeyError: 'surprise'", "NIGHTCREW_DEBUG=1"),
    ],
)
def test_every_error_says_what_and_what_to_do(error: Exception, what: str, hint: str) -> None:
    failure = explain(error)

    assert failure.what.startswith(what)
    assert hint in " ".join(failure.hints)


def test_a_failure_is_no_traceback_unless_asked_for(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> list[object]:
        raise ValueError("boom")

    monkeypatch.setattr(stage.jobs, "all_current", broken)

    usual, debug = stage("jobs", "list"), stage("jobs", "list", NIGHTCREW_DEBUG="1")

    assert (usual.exit_code, usual.stderr.splitlines()[0]) == (1, "error: internal error: ValueError: boom")
    assert isinstance(debug.exception, ValueError)


def test_without_a_local_stack_local_says_how_to_get_one(tmp_path: Path) -> None:
    result = Stage()("ps", "--local", NIGHTCREW_LOCAL_HOME=str(tmp_path))

    assert result.exit_code == 1
    assert result.stderr.splitlines() == ["error: the local stack is not up", "  nightcrew local up starts it"]


def test_a_damaged_state_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "local.json").write_text("{ not json")

    result = Stage()("ps", "--local", NIGHTCREW_LOCAL_HOME=str(tmp_path))

    assert result.exit_code == 1
    assert f"the local stack's state file is damaged: {tmp_path / 'local.json'}" in result.stderr


def test_the_documentation_lists_every_command_and_exit_code() -> None:
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()

    assert [code for code in ExitCode if f"| {code.value} | {code.meaning} |" not in page] == []
    names = ["validate", "plan", "apply", "schema", "run", "ps", "logs", "cancel", "demo"]
    names += ["jobs list", "jobs show", "jobs next", "jobs remove", "runs list", "runs show", "runs outputs"]
    names += ["local up", "local down", "local status", "local tick", "local interrupt"]
    assert [name for name in names if f"`{name}" not in page] == []
