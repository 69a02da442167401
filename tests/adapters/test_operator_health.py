"""The state of the stack's parts, from answers as AWS gives them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber

from nightcrew.adapters import operator_health
from nightcrew.usecases.diagnosis import AlarmState, TableState
from tests.adapters.conftest import REGION
from tests.builders import NOW
from tests.stack.template import resource, template

ARN = "arn:aws:iam::123456789012:user/ann"


def stubbed(service: str, *answers: tuple[str, Any]) -> Any:
    """A client that gives these answers, in this order."""
    client = boto3.client(service, region_name=REGION)
    stub = Stubber(client)
    for operation, answer in answers:
        if isinstance(answer, str):
            stub.add_client_error(operation, answer, f"Stack {answer} does not exist")
        else:
            stub.add_response(operation, answer)
    stub.activate()
    return client


@pytest.mark.parametrize(("date", "skew"), [("Fri, 16 Jan 2026 02:29:00 GMT", 60), ("garbled", None), (None, None)])
def test_the_clock_is_compared_with_the_date_of_awss_answer(date: str | None, skew: float | None) -> None:
    headers = {} if date is None else {"date": date}
    answer = {"Arn": ARN, "Account": "123456789012", "ResponseMetadata": {"HTTPHeaders": headers}}

    seen = operator_health.identity(stubbed("sts", ("get_caller_identity", answer)), REGION, lambda: NOW)

    assert seen.arn == ARN
    assert seen.skew == (None if skew is None else timedelta(seconds=skew))


def test_a_stack_tells_its_status_its_version_and_what_it_lacks() -> None:
    outputs = [{"OutputKey": name, "OutputValue": "x"} for name in (*operator_health.OUTPUTS, "Version")]
    stack = {"StackName": "nightcrew", "CreationTime": NOW, "StackStatus": "UPDATE_COMPLETE", "Outputs": outputs[1:]}

    seen = operator_health.stack(stubbed("cloudformation", ("describe_stacks", {"Stacks": [stack]})), "nightcrew")

    assert seen is not None
    assert (seen.status, seen.missing, seen.version) == ("UPDATE_COMPLETE", ("BucketName",), "x")


def test_a_stack_that_does_not_exist_is_none_and_a_refusal_is_not() -> None:
    assert operator_health.stack(stubbed("cloudformation", ("describe_stacks", "ValidationError")), "nightcrew") is None
    with pytest.raises(Exception, match="AccessDenied"):
        operator_health.stack(stubbed("cloudformation", ("describe_stacks", "AccessDenied")), "nightcrew")


def test_every_output_that_is_asked_for_is_in_the_template() -> None:
    assert set(operator_health.OUTPUTS) <= set(template()["Outputs"])


@pytest.mark.parametrize(("recovery", "has_recovery"), [("ENABLED", True), ("DISABLED", False)])
def test_the_table_tells_whether_it_can_be_recovered(recovery: str, has_recovery: bool) -> None:
    backups = {
        "ContinuousBackupsDescription": {
            "ContinuousBackupsStatus": "ENABLED",
            "PointInTimeRecoveryDescription": {"PointInTimeRecoveryStatus": recovery},
        }
    }
    client = stubbed(
        "dynamodb", ("describe_table", {"Table": {"TableStatus": "ACTIVE"}}), ("describe_continuous_backups", backups)
    )

    assert operator_health.table(client, "records") == TableState("ACTIVE", has_recovery)


def points(*values: tuple[int, float]) -> dict[str, Any]:
    return {"Datapoints": [{"Timestamp": NOW - timedelta(minutes=age), "Sum": value} for age, value in values]}


def line(value: Any, age: float, metric: str = "DueSweepCompleted") -> dict[str, Any]:
    """A line of the reaper's log, as Powertools writes it."""
    at = int((NOW - timedelta(minutes=age)).timestamp() * 1000)
    return {"timestamp": at, "message": json.dumps({"_aws": {}, "service": "reaper", metric: value})}


def swept(metrics: dict[str, Any], *logs: dict[str, Any]) -> operator_health.SweepState:
    answers = [("filter_log_events", {"events": [event]} if event else {"events": []}) for event in logs]
    return operator_health.sweep(
        stubbed("cloudwatch", ("get_metric_statistics", metrics)),
        stubbed("logs", *answers),
        "due",
        stack="nightcrew",
        reaper="nightcrew-reaper",
        now=NOW,
    )


def test_a_sweep_completed_when_its_metric_was_last_above_zero() -> None:
    seen = swept(points((20, 1), (3, 1), (1, 0)))

    assert (seen.by_metric, seen.by_log) == (NOW - timedelta(minutes=3), None)


def test_without_a_metric_the_log_is_asked_further_and_further_back() -> None:
    seen = swept(points(), {}, line([1.0], 30))

    assert (seen.by_metric, seen.by_log) == (None, NOW - timedelta(minutes=30))


@pytest.mark.parametrize(
    "event",
    [line([0.0], 1), line(0, 1), line([1.0], 1, "AnotherMetric"), {"timestamp": 1, "message": '"DueSweepCompleted"'}],
)
def test_a_line_that_reports_no_completion_is_none(event: dict[str, Any]) -> None:
    seen = swept(points((1, 0)), event, {}, {})

    assert (seen.by_metric, seen.by_log) == (None, None)


def test_metric_namespace_and_log_are_the_templates() -> None:
    client = boto3.client("cloudwatch", region_name=REGION)
    asked = {
        "Namespace": "Nightcrew/night",
        "MetricName": "InventorySweepCompleted",
        "Dimensions": resource("InventorySweepSilent")["Dimensions"],
        "StartTime": ANY,
        "EndTime": NOW,
        "Period": 60,
        "Statistics": ["Sum"],
    }
    with Stubber(client) as stub:
        stub.add_response("get_metric_statistics", points((1, 1)), asked)
        operator_health.sweep(client, None, "inventory", stack="night", reaper="night-reaper", now=NOW)

    silent = {name: resource(name) for name in ("DueSweepSilent", "InventorySweepSilent")}
    assert {alarm["MetricName"] for alarm in silent.values()} == set(operator_health.METRICS.values())
    assert {str(alarm["Namespace"]) for alarm in silent.values()} == {str({"Fn::Sub": "Nightcrew/${AWS::StackName}"})}
    assert resource("Reaper")["FunctionName"] == {"Fn::Sub": "${AWS::StackName}-reaper"}


def test_every_alarm_of_the_stack_is_told_and_one_that_was_deleted_too() -> None:
    def summary(logical: str, kind: str = "AWS::CloudWatch::Alarm") -> dict[str, Any]:
        return {
            "LogicalResourceId": logical,
            "PhysicalResourceId": f"nightcrew-{logical}-X",
            "ResourceType": kind,
            "LastUpdatedTimestamp": NOW,
            "ResourceStatus": "CREATE_COMPLETE",
        }

    resources = [summary("EndDenied"), summary("RunsMissed"), summary("Topic", "AWS::SNS::Topic")]
    alarm = {"AlarmName": "nightcrew-EndDenied-X", "StateValue": "ALARM", "StateReason": "denied"}

    seen = operator_health.alarms(
        stubbed("cloudformation", ("list_stack_resources", {"StackResourceSummaries": resources})),
        stubbed("cloudwatch", ("describe_alarms", {"MetricAlarms": [alarm]})),
        "nightcrew",
    )

    assert seen == [AlarmState("EndDenied", "ALARM", "denied"), AlarmState("RunsMissed", "")]


def test_times_are_read_in_utc() -> None:
    assert swept(points(), line([1.0], 2)).by_log == datetime(2026, 1, 16, 2, 28, tzinfo=UTC)
