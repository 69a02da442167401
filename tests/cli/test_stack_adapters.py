"""The adapters of the command line against emulated AWS: what they write is what they read back."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber
from moto import mock_aws

from nightcrew.adapters.operator_requests import LambdaLauncher, SqsCancellations
from nightcrew.adapters.scheduler import SchedulerSchedules
from nightcrew.adapters.stack import read_launcher_settings, read_outputs
from nightcrew.domain.job import JobSchedule
from nightcrew.usecases.operate import OperatorError, ScheduleRecord, ScheduleTarget, desired_schedule
from nightcrew_cli.options import GlobalOptions
from nightcrew_cli.session import connect
from tests.builders import make_job
from tests.stack.template import template

REGION = "eu-west-1"
AT = datetime(2026, 1, 16, 2, 30, tzinfo=UTC)
OUTPUTS = {
    "TableName": "records",
    "BucketName": "exchange",
    "LauncherName": "nightcrew-launcher",
    "LauncherArn": f"arn:aws:lambda:{REGION}:123456789012:function:nightcrew-launcher",
    "LifecycleQueueUrl": "https://sqs/queue",
    "ScheduleGroupName": "nightcrew",
    "SchedulerRoleArn": "arn:aws:iam::123456789012:role/scheduler",
    "SchedulerDeadLetterQueueArn": f"arn:aws:sqs:{REGION}:123456789012:dead",
    "WorkerRoleId": "AROA",
}


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Emulated AWS, and credentials that open nothing else."""
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    with mock_aws():
        yield


def cloudformation(outputs: dict[str, str] | None, status: str = "CREATE_COMPLETE") -> Any:
    """A client that knows one stack, or none."""
    client = boto3.client("cloudformation", region_name=REGION)
    stubber = Stubber(client)
    if outputs is None:
        stubber.add_client_error("describe_stacks", "ValidationError", "Stack with id nightcrew does not exist")
    else:
        told = [{"OutputKey": name, "OutputValue": value} for name, value in outputs.items()]
        stack = {"StackName": "nightcrew", "CreationTime": AT, "StackStatus": status, "Outputs": told}
        stubber.add_response("describe_stacks", {"Stacks": [stack]}, {"StackName": "nightcrew"})
    stubber.activate()
    return client


def test_the_stack_tells_what_the_command_line_needs() -> None:
    outputs = read_outputs(cloudformation(OUTPUTS), "nightcrew", where=REGION, deploy="sam deploy")

    assert (outputs.table, outputs.bucket, outputs.worker_role_id) == ("records", "exchange", "AROA")
    assert outputs.schedule_target.dead_letters == OUTPUTS["SchedulerDeadLetterQueueArn"]


def test_a_missing_stack_is_named_with_the_way_to_get_one() -> None:
    with pytest.raises(OperatorError) as caught:
        read_outputs(cloudformation(None), "nightcrew", where=REGION, deploy="sam deploy")

    assert str(caught.value) == "there is no stack 'nightcrew' in eu-west-1"
    assert caught.value.hints[0] == "sam deploy"


@pytest.mark.parametrize(
    ("status", "told"), [("CREATE_COMPLETE", "it lacks TableName"), ("CREATE_IN_PROGRESS", "is not ready")]
)
def test_a_stack_without_our_outputs_is_refused(status: str, told: str) -> None:
    outputs = {name: value for name, value in OUTPUTS.items() if name != "TableName"}

    with pytest.raises(OperatorError, match=told):
        read_outputs(cloudformation(outputs, status), "nightcrew", where=REGION, deploy="sam deploy")


def test_every_output_that_is_read_is_in_the_template() -> None:
    assert set(OUTPUTS) <= set(template()["Outputs"])


@pytest.fixture
def schedules() -> SchedulerSchedules:
    client = boto3.client("scheduler", region_name=REGION)
    client.create_schedule_group(Name="nightcrew")
    return SchedulerSchedules(client, "nightcrew")


def schedule(**changes: Any) -> ScheduleRecord:
    job = make_job(
        schedule=JobSchedule(
            expressions=("cron(30 2 * * ? *)",), timezone="Europe/Berlin", start_within=timedelta(minutes=30)
        )
    )
    target = ScheduleTarget(
        launcher=OUTPUTS["LauncherArn"],
        role=OUTPUTS["SchedulerRoleArn"],
        dead_letters=OUTPUTS["SchedulerDeadLetterQueueArn"],
    )
    wanted = desired_schedule(job, target)
    assert wanted is not None
    return replace(wanted, **changes)


def test_what_is_written_is_what_is_read_back(schedules: SchedulerSchedules) -> None:
    schedules.put(schedule(), exists=False)

    assert schedules.get("nightly-report") == schedule()
    written = schedules.client.get_schedule(Name="nightly-report", GroupName="nightcrew")
    assert written["FlexibleTimeWindow"] == {"Mode": "OFF"}
    assert written["Target"]["RetryPolicy"]["MaximumEventAgeInSeconds"] == 1800


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("guess", [True, False])
def test_put_creates_or_replaces_whatever_the_caller_thought(
    schedules: SchedulerSchedules, exists: bool, guess: bool
) -> None:
    if exists:
        schedules.put(schedule(), exists=False)

    schedules.put(schedule(is_enabled=False), exists=guess)

    assert schedules.get("nightly-report") == schedule(is_enabled=False)


def test_removing_twice_is_no_error(schedules: SchedulerSchedules) -> None:
    schedules.put(schedule(), exists=False)

    schedules.remove("nightly-report")
    schedules.remove("nightly-report")

    assert schedules.get("nightly-report") is None


def test_cancel_sends_the_envelope_that_lifecycle_reads() -> None:
    from nightcrew.adapters.envelopes import parse_facts
    from nightcrew.usecases.watch import CancelAsked

    client = boto3.client("sqs", region_name=REGION)
    queue = client.create_queue(QueueName="lifecycle")["QueueUrl"]

    SqsCancellations(client, queue).cancel("nightly-report-20260116T023000Z", "user/ann")

    [message] = client.receive_message(QueueUrl=queue)["Messages"]
    assert parse_facts(json.loads(message["Body"])) == (CancelAsked("nightly-report-20260116T023000Z", "user/ann"),)


def launcher(answer: Any, *, error: str = "") -> LambdaLauncher:
    client = boto3.client("lambda", region_name=REGION)
    body = json.dumps(answer).encode()
    expected = {
        "FunctionName": "nightcrew-launcher",
        "InvocationType": "RequestResponse",
        "Payload": json.dumps(
            {"job": "small", "revision": "abc", "scheduled_time": "2026-01-16T02:30:00Z", "trigger": "manual"}
        ).encode(),
    }
    stubber = Stubber(client)
    response = {"StatusCode": 200, "Payload": StreamingBody(io.BytesIO(body), len(body))}
    stubber.add_response("invoke", response | ({"FunctionError": error} if error else {}), expected)
    stubber.activate()
    return LambdaLauncher(client, "nightcrew-launcher")


def test_start_sends_a_manual_tick_that_the_launcher_reads() -> None:
    answer = {"run_id": "small-20260116T023000Z-manual", "status": "STARTING", "reason": "worker launched"}

    started = launcher(answer).start("small", "abc", AT)

    assert (started.run_id, started.reason) == (answer["run_id"], answer["reason"])


def test_a_launcher_that_fails_is_an_error_in_words() -> None:
    failing = launcher({"errorType": "UnknownJobError", "errorMessage": "no revision"}, error="Unhandled")

    with pytest.raises(OperatorError, match="the launcher failed: UnknownJobError: no revision"):
        failing.start("small", "abc", AT)


def test_the_plan_reads_the_launchers_own_settings() -> None:
    variables = {
        "NIGHTCREW_STACK": "nightcrew",
        "NIGHTCREW_TABLE": "records",
        "NIGHTCREW_BUCKET": "exchange",
        "NIGHTCREW_LAUNCH_TEMPLATE": "lt-1",
        "NIGHTCREW_LAUNCH_TEMPLATE_VERSION": "7",
        "NIGHTCREW_SUBNETS": "subnet-a,subnet-b",
        "NIGHTCREW_WORKER_ROLE_ID": "AROA",
        "NIGHTCREW_LAUNCHER": "nightcrew-launcher",
        "NIGHTCREW_TOPIC": "arn:topic",
        "NIGHTCREW_GRACE_SECONDS": "120",
        "NIGHTCREW_CHECK_SECONDS": "300",
        "NIGHTCREW_STOPPED_WORKER_HOURS": "72",
        "NIGHTCREW_MAX_WORKER_HOURS": "168",
    }
    client = boto3.client("lambda", region_name=REGION)
    stubber = Stubber(client)
    stubber.add_response("get_function_configuration", {"Environment": {"Variables": variables}})
    stubber.activate()

    settings = read_launcher_settings(client, "nightcrew-launcher")

    assert (settings.template.version, settings.subnets) == ("7", ("subnet-a", "subnet-b"))


def test_every_instance_with_our_tag_is_found_and_no_other() -> None:
    ec2 = boto3.client("ec2", region_name=REGION)
    image = ec2.describe_images()["Images"][0]["ImageId"]
    ours = [{"ResourceType": "instance", "Tags": [{"Key": "nightcrew:stack", "Value": "nightcrew"}]}]
    mine = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, TagSpecifications=ours)["Instances"][0]
    ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)
    ec2.terminate_instances(InstanceIds=[mine["InstanceId"]])

    found = connect(GlobalOptions(region=REGION), {}).workers_of_stack()

    assert [(instance_id, state) for instance_id, state, _ in found] == [(mine["InstanceId"], "terminated")]


def test_the_stack_name_comes_from_option_then_environment_then_default() -> None:
    environment = {"NIGHTCREW_STACK": "night"}

    named = connect(GlobalOptions(region=REGION, stack="mine"), environment)

    assert named.stack == "mine"
    assert connect(GlobalOptions(region=REGION), environment).stack == "night"
    assert connect(GlobalOptions(region=REGION), {}).stack == "nightcrew"


def test_the_local_stack_is_reached_whatever_the_environment_says_about_aws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {"pid": os.getpid(), "port": 4580, "home": str(tmp_path), "region": "us-east-1", "started_at": ""}
    (tmp_path / "local.json").write_text(json.dumps(state | {"stack": "night"}))
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody-real")

    connection = connect(GlobalOptions(local=True), {"NIGHTCREW_LOCAL_HOME": str(tmp_path)})

    client = connection.client("sqs")
    assert (connection.stack, client.meta.endpoint_url) == ("night", "http://127.0.0.1:4580")
    assert client._request_signer._credentials.access_key == "test"


def test_the_caller_is_named_for_the_record() -> None:
    assert connect(GlobalOptions(region=REGION), {}).caller()
