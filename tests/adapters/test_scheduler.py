from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from nightcrew.adapters.scheduler import SchedulerSchedules
from nightcrew.usecases.operate import ScheduleRecord
from tests.adapters.conftest import client

SCHEDULE = ScheduleRecord(
    name="nightly-report",
    expression="cron(30 2 * * ? *)",
    timezone="Europe/Berlin",
    is_enabled=True,
    longest_event_age=1800,
    payload='{"job":"nightly-report"}',
    target="arn:aws:lambda:eu-west-1:123456789012:function:nightcrew-launcher",
    role="arn:aws:iam::123456789012:role/nightcrew-SchedulerRole",
    dead_letters="arn:aws:sqs:eu-west-1:123456789012:nightcrew-Undelivered",
)


@pytest.fixture
def schedules(aws: None) -> SchedulerSchedules:
    client("scheduler").create_schedule_group(Name="nightcrew-jobs")
    return SchedulerSchedules(client("scheduler"), "nightcrew-jobs")


def test_a_schedule_comes_back_as_it_was_put(schedules: SchedulerSchedules) -> None:
    schedules.put(SCHEDULE, exists=False)

    assert schedules.get("nightly-report") == SCHEDULE


def test_a_schedule_of_another_group_is_not_ours(schedules: SchedulerSchedules) -> None:
    schedules.put(SCHEDULE, exists=False)
    client("scheduler").create_schedule_group(Name="another-jobs")

    assert SchedulerSchedules(client("scheduler"), "another-jobs").get("nightly-report") is None


@pytest.mark.parametrize("guess", [True, False])
@pytest.mark.parametrize("exists", [True, False])
def test_a_wrong_guess_whether_it_exists_makes_no_difference(
    schedules: SchedulerSchedules, guess: bool, exists: bool
) -> None:
    if exists:
        schedules.put(SCHEDULE, exists=False)
    wanted = replace(SCHEDULE, is_enabled=False, expression="rate(1 hour)", timezone="UTC")

    schedules.put(wanted, exists=guess)

    assert schedules.get("nightly-report") == wanted


def test_a_schedule_is_removed_and_removing_it_again_is_no_failure(schedules: SchedulerSchedules) -> None:
    schedules.put(SCHEDULE, exists=False)

    schedules.remove("nightly-report")
    schedules.remove("nightly-report")

    assert schedules.get("nightly-report") is None


@pytest.mark.parametrize(
    ("operation", "call"),
    [
        ("get_schedule", lambda schedules: schedules.get("nightly-report")),
        ("create_schedule", lambda schedules: schedules.put(SCHEDULE, exists=False)),
        ("update_schedule", lambda schedules: schedules.put(SCHEDULE, exists=True)),
        ("delete_schedule", lambda schedules: schedules.remove("nightly-report")),
    ],
)
def test_any_other_refusal_is_told(schedules: SchedulerSchedules, operation: str, call: Any) -> None:
    with Stubber(schedules.client) as stub:
        stub.add_client_error(operation, "AccessDeniedException")

        with pytest.raises(ClientError, match="AccessDeniedException"):
            call(schedules)
