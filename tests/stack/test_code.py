"""Template and code agree: handlers, variables, user data, indexes, outputs."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from typing import Any

import pytest

from nightcrew import worker
from nightcrew.adapters import table
from nightcrew.adapters.stack import read_outputs
from nightcrew.domain.run import Limits
from nightcrew.usecases.settings import Settings
from tests.stack.template import ROOT, parameter, references, resource, resources, template

FUNCTIONS = resources("AWS::Serverless::Function")
# Not Settings' to read: what Powertools and botocore read themselves.
OF_LIBRARIES = {"POWERTOOLS_LOG_LEVEL", "POWERTOOLS_METRICS_NAMESPACE", "AWS_ENDPOINT_URL"}


class Recorder(dict[str, str]):
    """An environment that notes what is read of it."""

    def __init__(self) -> None:
        super().__init__()
        self.read: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.read.add(name)
        return "1"

    def __getitem__(self, name: str) -> str:
        return str(self.get(name))


def given() -> dict[str, Any]:
    variables: dict[str, Any] = template()["Globals"]["Function"]["Environment"]["Variables"]
    return variables


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_handler_of_each_function_exists(name: str) -> None:
    module, _, function = template()["Globals"]["Function"]["Handler"].rpartition(".")
    app = ROOT / FUNCTIONS[name]["CodeUri"] / f"{module}.py"

    assert f"\ndef {function}(" in app.read_text(encoding="utf-8")


def test_each_folder_of_functions_is_a_function_of_the_template() -> None:
    folders = {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "functions").glob("*/app.py")}

    assert folders == {properties["CodeUri"] for properties in FUNCTIONS.values()}


def test_each_layer_has_what_its_build_needs() -> None:
    for properties in resources("AWS::Serverless::LayerVersion").values():
        assert (ROOT / properties["ContentUri"] / "Makefile").is_file()


def test_the_variables_are_exactly_those_that_settings_read() -> None:
    environment = Recorder()

    Settings.from_env(environment)

    assert set(given()) - OF_LIBRARIES == environment.read


def test_no_function_has_variables_that_the_others_lack() -> None:
    assert not [name for name, properties in FUNCTIONS.items() if "Environment" in properties]


def test_the_default_limits_of_the_code_are_the_defaults_of_the_template() -> None:
    defaults = {
        "NIGHTCREW_GRACE_SECONDS": Limits().grace.total_seconds(),
        "NIGHTCREW_CHECK_SECONDS": Limits().check_every.total_seconds(),
        "NIGHTCREW_STOPPED_WORKER_HOURS": Limits().keep_stopped.total_seconds() / 3600,
        "NIGHTCREW_MAX_WORKER_HOURS": Limits().max_worker_age.total_seconds() / 3600,
    }

    assert {name: parameter(given()[name]["Ref"]) for name in defaults} == defaults


def test_the_launcher_is_invoked_by_the_name_it_is_given() -> None:
    assert given()["NIGHTCREW_LAUNCHER"] == resource("Launcher")["FunctionName"]


def test_the_launch_template_version_is_pinned() -> None:
    version = given()["NIGHTCREW_LAUNCH_TEMPLATE_VERSION"]

    assert version == {"Fn::GetAtt": ["WorkerTemplate", "LatestVersionNumber"]}
    assert "$Latest" not in str(template())


def test_the_user_data_is_todays_bootstrap() -> None:
    user_data = resource("WorkerTemplate")["LaunchTemplateData"]["UserData"]["Fn::Base64"]["Fn::Sub"]

    assert user_data == worker.user_data()
    assert len(user_data.encode()) < 16 * 1024


def test_sync_template_finds_nothing_to_do() -> None:
    command = [sys.executable, ROOT / "scripts" / "sync_template.py", "--check"]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def test_the_indexes_are_those_that_the_stores_query() -> None:
    keys = {
        index["IndexName"]: [part["AttributeName"] for part in index["KeySchema"]]
        for index in resource("Table")["GlobalSecondaryIndexes"]
    }

    assert keys == {table.DUE_INDEX: ["due", "due_at"], table.JOB_INDEX: ["job", "scheduled_at"]}


class Described:
    """CloudFormation's answer for this very template, every output with a value."""

    def describe_stacks(self, **_: Any) -> dict[str, Any]:
        outputs = [{"OutputKey": name, "OutputValue": f"the {name}"} for name in template()["Outputs"]]
        return {"Stacks": [{"StackStatus": "CREATE_COMPLETE", "Outputs": outputs}]}


def test_the_outputs_are_all_that_the_command_line_needs() -> None:
    client: Any = Described()

    outputs = read_outputs(client, "nightcrew", where="eu-central-1", deploy="sam deploy")

    assert (outputs.table, outputs.worker_role_id) == ("the TableName", "the WorkerRoleId")


def test_every_parameter_has_a_default_and_a_use() -> None:
    used = references({name: part for name, part in template().items() if name != "Parameters"})

    assert not [name for name, item in template()["Parameters"].items() if "Default" not in item]
    assert set(template()["Parameters"]) <= used


def test_whatever_is_referred_to_exists() -> None:
    known = {*template()["Parameters"], *template()["Resources"]}

    unknown = {name for name in references(template()) if not name.startswith("AWS::")} - known

    assert unknown == set()


def test_the_stack_tells_the_version_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert template()["Outputs"]["Version"]["Value"] == project["version"]
