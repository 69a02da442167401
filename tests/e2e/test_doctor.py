"""What a person does after the worst has happened: the table is lost, messages were given up on."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nightcrew.domain.run import Outcome, RunStatus
from tests.e2e.night import wait_for

pytestmark = [pytest.mark.local, pytest.mark.timeout(180)]


def lose_table(night) -> int:
    """Delete every item, as a slip of the hand would."""
    table, name, count = night.client("dynamodb"), night.outputs["TableName"], 0
    for page in table.get_paginator("scan").paginate(TableName=name, ProjectionExpression="pk, sk"):
        for key in page["Items"]:
            table.delete_item(TableName=name, Key=key)
            count += 1
    return count


def dead_letter_queue(night) -> str:
    policy = night.client("sqs").get_queue_attributes(
        QueueUrl=night.outputs["LifecycleQueueUrl"], AttributeNames=["RedrivePolicy"]
    )["Attributes"]["RedrivePolicy"]
    return str(json.loads(policy)["deadLetterTargetArn"])


def put(night, queue_arn: str, body: Any, **attributes: str) -> None:
    """Put a message in a dead-letter queue, as whoever gave it up would."""
    client = night.client("sqs")
    client.send_message(
        QueueUrl=client.get_queue_url(QueueName=queue_arn.rpartition(":")[2])["QueueUrl"],
        MessageBody=body if isinstance(body, str) else json.dumps(body),
        MessageAttributes={name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()},
    )


def doctor(night, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = night.cli("doctor", "-o", "json", *arguments)
    return done.code, json.loads(done.out)


def of_check(answer: dict[str, Any], check: str) -> list[dict[str, Any]]:
    return [finding for finding in answer["findings"] if finding["check"] == check]


def test_a_lost_table_is_seen_and_rebuilt_and_the_run_ends_as_if_nothing_had_been(night, tmp_path):
    name = night.apply(
        tmp_path, "lost-table", 'echo started; sleep 20; echo 7 > "$NIGHTCREW_OUTPUT_DIR/answer.txt"', on_finish="stop"
    )
    run_id = night.tick(name)
    night.until_log_says(run_id, "started")
    nonce = night.run(run_id).nonce

    assert lose_table(night) >= 4, "run, worker, revision, job"

    code, answer = doctor(night)
    assert code != 0
    assert any("nightcrew doctor --fix" in finding["command"] for finding in of_check(answer, "records"))
    assert any(run_id in finding["text"] for finding in of_check(answer, "records"))
    assert any(name in finding["text"] for finding in of_check(answer, "schedules"))
    assert night.runs.get(run_id) is None, "a look changes nothing"

    code, answer = doctor(night, "--fix")
    rebuilt = {item["subject"]: item for item in answer["rebuilt"]}
    assert rebuilt[run_id]["done"], answer
    assert rebuilt[name]["done"], answer
    assert [f["health"] for f in of_check(answer, "records")] == ["ok"]
    assert not [f for f in of_check(answer, "schedules") if f"of {name} " in f["text"]]
    run = night.until_closed(run_id)
    assert (run.status, run.attempts[0].exit_code) == (RunStatus.SUCCEEDED, 0)
    assert run.nonce not in ("", nonce)
    assert any("rebuilt from tags and roster" in entry.text for entry in run.history)
    assert night.exchange.outputs(run.attempts[0]) == [("answer.txt", 2)]
    wait_for("its worker to be stopped", lambda: night.states_of(run_id) == ["stopped"])


def test_a_run_that_ended_before_the_table_was_lost_has_its_outcome_again(night, tmp_path):
    name = night.apply(tmp_path, "ended-before", "exit 3")
    run_id = night.tick(name)
    before = night.until_closed(run_id)
    night.until_no_worker_lives(run_id)
    lose_table(night)

    done = night.cli("doctor", "--fix")

    assert f"{run_id}: record rebuilt: FAILED" in done.out, done.out + done.err
    after = night.run(run_id)
    assert (after.status, after.outcome, after.attempts[0].exit_code) == (RunStatus.FAILED, Outcome.FAILED, 3)
    assert after.attempts[0].worker.instance_id == before.attempts[0].worker.instance_id
    assert len(night.workers_of(run_id)) == 1


def test_a_poisoned_message_is_shown_and_sent_again(night):
    event = {"source": "nightcrew", "detail-type": "Cancel Requested", "detail": {"run_id": "no-such-run", "by": "x"}}
    put(night, dead_letter_queue(night), event)
    put(night, dead_letter_queue(night), "poison")

    _, answer = doctor(night)
    shown = night.cli("redrive", "--queue", "lifecycle", "--dry-run")
    done = night.cli("redrive", "--queue", "lifecycle", "--yes", "-o", "json")

    [finding] = of_check(answer, "dead letters")
    assert (finding["health"], finding["text"]) == ("fail", "2 in lifecycle")
    assert "no-such-run" in shown.out
    assert "poison" in shown.out
    assert [item["fate"] for item in json.loads(done.out)] == ["redriven", "redriven"], done.err
    assert night.cli("redrive", "--queue", "lifecycle", "--dry-run").out == "the dead-letter queues are empty\n"


def test_a_tick_that_was_given_up_on_runs_after_all_and_one_that_is_too_late_is_missed(night, tmp_path):
    name = night.apply(tmp_path, "given-up", "echo done")
    schedule = night.client("scheduler").get_schedule(Name=name, GroupName=night.outputs["ScheduleGroupName"])
    now = datetime.now(UTC).replace(microsecond=0)
    undelivered = night.outputs["SchedulerDeadLetterQueueArn"]
    times = {"late": now - timedelta(hours=5), "now": now}
    for at in times.values():
        tick = json.loads(schedule["Target"]["Input"]) | {"scheduled_time": f"{at:%Y-%m-%dT%H:%M:%SZ}"}
        put(night, undelivered, tick, SCHEDULE_ARN=schedule["Arn"], ERROR_CODE="AWS.Scheduler.InternalServerError")
    put(night, undelivered, "garbage")

    done = night.cli("redrive", "--yes", "-o", "json")

    fates = {item["about"].split()[0]: item["fate"] for item in json.loads(done.out)}
    assert fates == {name: "redriven", "garbage": "left"}, done.err
    late, ran = (night.until_closed(f"{name}-{at:%Y%m%dT%H%M%SZ}") for at in times.values())
    assert (late.status, ran.status) == (RunStatus.MISSED, RunStatus.SUCCEEDED)
    night.until_no_worker_lives(ran.run_id)


def test_a_stack_that_is_not_there_is_told_and_nothing_about_it_is_fine(night):
    done = night.cli("doctor", "--stack", "no-such-stack", "-o", "json")

    answer = json.loads(done.out)
    assert done.code == 1
    assert {f["health"] for f in of_check(answer, "stack")} == {"fail"}
    assert {f["check"] for f in answer["findings"] if f["health"] == "ok"} <= {"identity", "clock", "workers"}
