"""EventBridge Scheduler as it is: time zones, context attributes, the schedule's own role, its dead-letter queue.

The emulator's ticker knows UTC only, passes `<aws.scheduler.…>` through unreplaced and asks no role.
"""

# ruff: noqa: SLF001 - the emulator has no public interface to its schedules

import json
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from ministack.core import iam_evaluator
from ministack.core.arn import parse_arn
from ministack.services import eventbridge, scheduler

from nightcrew_cli.local import clock
from nightcrew_cli.local.scope import scope

logger = logging.getLogger("nightcrew.schedules")

Key = tuple[str, str, str]
Schedule = dict[str, Any]

ACTIONS = {"lambda": "lambda:InvokeFunction", "sqs": "sqs:SendMessage", "sns": "sns:Publish"}


class UnknownScheduleError(LookupError):
    """No schedule has that name."""


@dataclass(slots=True)
class Schedules:
    """Fires what is due, and one schedule on request."""

    now: Callable[[], datetime] = clock.now
    _reached: dict[Key, datetime] = field(default_factory=dict)

    def tick_due(self) -> None:
        """Fire every schedule whose next time has come. Stands in for the emulator's own sweep."""
        now = self.now()
        for key, schedule in list(scheduler._schedules._data.items()):
            if schedule.get("State") != "ENABLED" or not _is_current(schedule, now):
                continue
            after = self._reached.setdefault(key, _created(schedule))
            due = next_time(schedule, after)
            if due is None or due > now:
                continue
            self._reached[key] = due if schedule["ScheduleExpression"].startswith("rate") else now
            self._fire(key, schedule, due)
            one_time = schedule["ScheduleExpression"].startswith("at(")
            if one_time and schedule.get("ActionAfterCompletion") == "DELETE":
                scheduler._schedules._data.pop(key, None)

    def tick(self, name: str, scheduled_time: datetime) -> dict[str, str]:
        """Deliver what Scheduler would deliver at that time. `name` is `schedule` or `group/schedule`."""
        for key, schedule in list(scheduler._schedules._data.items()):
            if key[2] == name or key[2].partition("/")[2] == name:
                return self._fire(key, schedule, scheduled_time)
        raise UnknownScheduleError(f"there is no schedule named {name!r}")

    def _fire(self, key: Key, schedule: Schedule, scheduled_time: datetime) -> dict[str, str]:
        target = dict(schedule.get("Target") or {})
        execution = secrets.token_hex(8)
        attributes = {
            "<aws.scheduler.scheduled-time>": clock.stamp(scheduled_time),
            "<aws.scheduler.schedule-arn>": str(schedule.get("Arn", "")),
            "<aws.scheduler.execution-id>": execution,
            "<aws.scheduler.attempt-number>": "1",
        }
        if target.get("Input"):
            for name, value in attributes.items():
                target["Input"] = target["Input"].replace(name, value)
        with scope(key[0], key[1]):
            refusal = _refusal(target)
            if refusal:
                logger.error("schedule %s is not delivered: %s", key[2], refusal)
                _to_dead_letters(target, refusal)
                return {"delivered": "false", "reason": refusal}
            eventbridge._invoke_target(target, _event(schedule, scheduled_time, key, execution), schedule)
        return {"delivered": "true", "execution_id": execution, "scheduled_time": clock.stamp(scheduled_time)}


def next_time(schedule: Schedule, after: datetime) -> datetime | None:
    """Return the next time of the schedule after that one, or None when there is none."""
    expression = str(schedule.get("ScheduleExpression", ""))
    zone = ZoneInfo(schedule.get("ScheduleExpressionTimezone") or "UTC")
    if expression.startswith("at("):
        once = datetime.fromisoformat(expression[3:-1].strip()).replace(tzinfo=zone).astimezone(UTC)
        return once if once > after else None
    seconds = eventbridge._parse_rate_seconds(expression)
    if seconds is not None:
        return after + timedelta(seconds=int(seconds))
    fields = eventbridge._parse_cron_fields(expression)
    return _next_cron(fields, zone, after) if fields else None


def _next_cron(fields: Any, zone: ZoneInfo, after: datetime) -> datetime | None:
    """Walk the local clock. A time that the spring change leaves out is skipped; in autumn the first one counts."""
    wall = after.astimezone(zone).replace(tzinfo=UTC)  # the emulator's walker wants an aware value; it is local time
    while True:
        candidate = eventbridge._cron_next_fire(fields, wall)
        if candidate is None:
            return None
        local: datetime = candidate.replace(tzinfo=zone, fold=0)
        moment = local.astimezone(UTC)
        exists = moment.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None)
        if exists and moment > after:
            return moment
        wall = candidate


def _created(schedule: Schedule) -> datetime:
    return datetime.fromtimestamp(float(schedule.get("LastModificationDate") or schedule["CreationDate"]), UTC)


def _is_current(schedule: Schedule, now: datetime) -> bool:
    start, end = (scheduler._to_epoch(schedule.get(name)) for name in ("StartDate", "EndDate"))
    return (start is None or start <= now.timestamp()) and (end is None or now.timestamp() <= end)


def _event(schedule: Schedule, scheduled_time: datetime, key: Key, execution: str) -> dict[str, Any]:
    """Return what a target without an Input of its own is given."""
    return {
        "EventId": execution,
        "Source": "aws.scheduler",
        "DetailType": "Scheduled Event",
        "Detail": "{}",
        "Time": int(scheduled_time.timestamp()),
        "Resources": [schedule.get("Arn", "")],
        "Account": key[0],
        "Region": key[1],
    }


def _refusal(target: dict[str, Any]) -> str:
    """Say why the schedule's role may not invoke the target; empty when it may."""
    service = parse_arn(target["Arn"]).service
    action = ACTIONS.get(service)
    role = str(target.get("RoleArn", "")).rpartition("/")[2]
    account = str(parse_arn(target["RoleArn"]).account_id)
    if action is None:
        return ""
    question = iam_evaluator.EvalContext(
        principal_arn=f"arn:aws:sts::{account}:assumed-role/{role}/scheduler",
        principal_type="AssumedRole",
        principal_account=account,
        action=action,
        resource_arn=target["Arn"],
        region="",
    )
    answer = iam_evaluator.evaluate(question, iam_evaluator._gather_role_policies(role, account))
    return "" if answer.decision == "Allow" else f"{role} is not authorized to perform {action} on {target['Arn']}"


def _to_dead_letters(target: dict[str, Any], reason: str) -> None:
    queue = (target.get("DeadLetterConfig") or {}).get("Arn")
    if queue:
        body = target.get("Input") or json.dumps({"error": reason})
        eventbridge._dispatch_to_sqs(parse_arn(queue), body)
