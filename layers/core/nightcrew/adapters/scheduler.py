"""EventBridge Scheduler: one schedule for each job, named as the job, in the stack's group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from nightcrew.adapters import aws_errors, operator_errors
from nightcrew.usecases.operate import ScheduleRecord

if TYPE_CHECKING:
    from mypy_boto3_scheduler import EventBridgeSchedulerClient

# Throttled deliveries are repeated until the event is too old; its age is what bounds them.
_RETRIES = 185


@dataclass(frozen=True, slots=True)
class SchedulerSchedules:
    client: EventBridgeSchedulerClient
    group: str

    def get(self, name: str) -> ScheduleRecord | None:
        try:
            return _record(self.client.get_schedule(Name=name, GroupName=self.group))
        except ClientError as error:
            if operator_errors.is_missing(error):
                return None
            raise

    def put(self, schedule: ScheduleRecord, *, exists: bool) -> None:
        """Create or replace; which of the two is a guess of the caller's that may be out of date."""
        first, second = self.client.create_schedule, self.client.update_schedule
        if exists:
            first, second = second, first
        request = _request(schedule, self.group)
        try:
            first(**request)
        except ClientError as error:
            if not (operator_errors.is_missing(error) or aws_errors.code_of(error) in operator_errors.EXISTS):
                raise
            second(**request)

    def remove(self, name: str) -> None:
        try:
            self.client.delete_schedule(Name=name, GroupName=self.group)
        except ClientError as error:
            if not operator_errors.is_missing(error):
                raise


def _request(schedule: ScheduleRecord, group: str) -> dict[str, Any]:
    return {
        "Name": schedule.name,
        "GroupName": group,
        "ScheduleExpression": schedule.expression,
        "ScheduleExpressionTimezone": schedule.timezone,
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "State": "ENABLED" if schedule.is_enabled else "DISABLED",
        "Target": {
            "Arn": schedule.target,
            "RoleArn": schedule.role,
            "Input": schedule.payload,
            "DeadLetterConfig": {"Arn": schedule.dead_letters},
            "RetryPolicy": {
                "MaximumEventAgeInSeconds": schedule.longest_event_age,
                "MaximumRetryAttempts": _RETRIES,
            },
        },
    }


def _record(answer: Mapping[str, Any]) -> ScheduleRecord:
    target = answer["Target"]
    return ScheduleRecord(
        name=answer["Name"],
        expression=answer["ScheduleExpression"],
        timezone=answer.get("ScheduleExpressionTimezone") or "UTC",
        is_enabled=answer.get("State", "ENABLED") == "ENABLED",
        longest_event_age=int(target.get("RetryPolicy", {}).get("MaximumEventAgeInSeconds", 0)),
        payload=target.get("Input", ""),
        target=target["Arn"],
        role=target["RoleArn"],
        dead_letters=target.get("DeadLetterConfig", {}).get("Arn", ""),
        created_at=answer.get("CreationDate"),
    )
