"""How the parts of a stack are, read from AWS: each function asks one service and raises what that raises."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from nightcrew.adapters import operator_errors
from nightcrew.usecases.diagnosis import AlarmState, Identity, StackState, SweepState, TableState

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_sts import STSClient

SERVICE = "nightcrew"
METRICS = {"due": "DueSweepCompleted", "inventory": "InventorySweepCompleted"}
# What people and programs read of the stack; WorkerSubnetIds may be empty.
OUTPUTS = (
    "BucketName",
    "DashboardName",
    "LauncherArn",
    "LauncherName",
    "LaunchTemplateId",
    "LaunchTemplateVersion",
    "LifecycleName",
    "LifecycleQueueUrl",
    "ReaperName",
    "ScheduleGroupName",
    "SchedulerDeadLetterQueueArn",
    "SchedulerRoleArn",
    "TableName",
    "TopicArn",
    "WorkerRoleId",
)
# How far back a sweep's last completion is looked for.
_BACK = timedelta(hours=3)
_LOG_PAGES = 5
_ALARMS_A_CALL = 100


def identity(client: STSClient, region: str, clock: Callable[[], datetime]) -> Identity:
    """Return who asks, and how far apart the clocks are: the answer's date has whole seconds only."""
    before = clock()
    answer = client.get_caller_identity()
    middle = before + (clock() - before) / 2
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    return Identity(arn=answer["Arn"], region=region, skew=_skew(headers, middle))


def _skew(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    try:
        return now - parsedate_to_datetime(headers["date"]).astimezone(UTC)
    except (KeyError, ValueError):
        return None


def stack(client: CloudFormationClient, name: str) -> StackState | None:
    """Return how the stack stands, or None when there is none."""
    try:
        found = client.describe_stacks(StackName=name)["Stacks"][0]
    except ClientError as error:
        if operator_errors.is_missing_stack(error):
            return None
        raise
    outputs = {item.get("OutputKey", ""): item.get("OutputValue", "") for item in found.get("Outputs", [])}
    return StackState(
        status=found["StackStatus"],
        reason=found.get("StackStatusReason", ""),
        missing=tuple(output for output in OUTPUTS if not outputs.get(output)),
        created_at=found.get("CreationTime"),
        version=outputs.get("Version", ""),
    )


def table(client: DynamoDBClient, name: str) -> TableState:
    status = client.describe_table(TableName=name)["Table"]["TableStatus"]
    backups = client.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
    recovery = backups.get("PointInTimeRecoveryDescription", {}).get("PointInTimeRecoveryStatus")
    return TableState(status, recovery == "ENABLED")


def sweep(metrics: CloudWatchClient, logs: Any, name: str, *, stack: str, reaper: str, now: datetime) -> SweepState:
    """Return when this sweep last completed. The log is read only when CloudWatch has no metric."""
    answer = metrics.get_metric_statistics(
        Namespace=f"Nightcrew/{stack}",
        MetricName=METRICS[name],
        Dimensions=[{"Name": "service", "Value": SERVICE}],
        StartTime=now - _BACK,
        EndTime=now,
        Period=60,
        Statistics=["Sum"],
    )
    points = [point["Timestamp"] for point in answer["Datapoints"] if point.get("Sum", 0) >= 1]
    by_metric = max(points, default=None)
    by_log = None if by_metric else _completed_by_log(logs, METRICS[name], reaper, now)
    return SweepState(name=name, by_metric=by_metric, by_log=by_log)


def _completed_by_log(logs: Any, metric: str, reaper: str, now: datetime) -> datetime | None:
    """Find the newest line in which the reaper reports the metric; the log is where CloudWatch takes it from."""
    newest = None
    # By halves of the time: what is young is found in the first and smallest piece, without reading hours of lines.
    for back in (_BACK / 18, _BACK / 4, _BACK):
        pages = logs.get_paginator("filter_log_events").paginate(
            logGroupName=f"/aws/lambda/{reaper}",
            filterPattern=f'"{metric}"',
            startTime=int((now - back).timestamp() * 1000),
            PaginationConfig={"MaxItems": 1000 * _LOG_PAGES},
        )
        for event in (event for page in pages for event in page["events"]):
            if _completed(event["message"], metric):
                newest = max(newest or 0, event["timestamp"])
        if newest:
            return datetime.fromtimestamp(newest / 1000, UTC)
    return None


def _completed(line: str, metric: str) -> bool:
    try:
        value = json.loads(line)[metric]
    except (KeyError, TypeError, ValueError):
        return False
    return any(number >= 1 for number in (value if isinstance(value, list) else [value]))


def alarms(formation: CloudFormationClient, metrics: CloudWatchClient, stack: str) -> list[AlarmState]:
    """Return every alarm that the stack is to have, by the name it bears in the template."""
    pages = formation.get_paginator("list_stack_resources").paginate(StackName=stack)
    expected = {
        item.get("PhysicalResourceId", ""): item["LogicalResourceId"]
        for page in pages
        for item in page["StackResourceSummaries"]
        if item["ResourceType"] == "AWS::CloudWatch::Alarm"
    }
    names, found = sorted(expected), {}
    for start in range(0, len(names), _ALARMS_A_CALL):
        answer = metrics.describe_alarms(AlarmNames=names[start : start + _ALARMS_A_CALL], MaxRecords=_ALARMS_A_CALL)
        found.update({alarm["AlarmName"]: alarm for alarm in answer["MetricAlarms"]})
    return [_alarm(logical, found.get(physical)) for physical, logical in sorted(expected.items())]


def _alarm(name: str, alarm: Any) -> AlarmState:
    if alarm is None:
        return AlarmState(name, "")
    return AlarmState(name, alarm["StateValue"], alarm.get("StateReason", ""))
