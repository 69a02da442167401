"""A job from its tick to its closed record, shown by its effects, on the local stack."""

from __future__ import annotations

import json
import os
import shutil
import threading
from datetime import UTC, datetime, timedelta

import pytest

from nightcrew.domain.run import Outcome, RunStatus
from tests.e2e.night import ROOT, wait_for

pytestmark = [pytest.mark.local, pytest.mark.timeout(180)]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_tick_goes_through_the_whole_chain(night, tmp_path):
    name = night.apply(
        tmp_path,
        "chain",
        'echo "hello from $NIGHTCREW_RUN_ID"\necho 42 > "$NIGHTCREW_OUTPUT_DIR/answer.txt"\nsleep 10',
        tags={"team": "data"},
    )

    run_id = night.tick(name)

    attempt = night.until_running(run_id)
    pid = night.host.control.instance(attempt.worker.instance_id).pid
    assert alive(pid), "the worker is a real process"
    assert attempt.worker.private_address
    assert attempt.worker.zone
    assert_tagged(night, attempt.worker.instance_id, run_id)
    run = night.until_closed(run_id)
    assert (run.status, run.outcome, run.attempts[0].exit_code) == (RunStatus.SUCCEEDED, Outcome.SUCCEEDED, 0)
    night.until_no_worker_lives(run_id)
    wait_for("the end of the worker's process", lambda: not alive(pid))
    assert f"hello from {run_id}" in night.log(run_id)
    assert night.exchange.outputs(run.attempts[0]) == [("answer.txt", 3)]
    assert b"".join(night.exchange.download(run.attempts[0], "answer.txt")) == b"42\n"
    assert_told_by_its_rule(night, attempt.worker.instance_id)


def assert_tagged(night, instance_id: str, run_id: str) -> None:
    """Instance, volume and network interface carry the tags, set by the launch itself."""
    ec2 = night.client("ec2")
    instance = ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]
    volume_id = instance["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    volume = ec2.describe_volumes(VolumeIds=[volume_id])["Volumes"][0]
    interfaces = ec2.describe_network_interfaces(Filters=[{"Name": "attachment.instance-id", "Values": [instance_id]}])
    interface = interfaces["NetworkInterfaces"][0]
    for tags in (instance["Tags"], volume["Tags"], interface["TagSet"]):
        found = {tag["Key"]: tag["Value"] for tag in tags}
        assert found["nightcrew:stack"] == "nightcrew"
        assert found["nightcrew:run"] == run_id
        assert found["team"] == "data"
    assert volume["Size"] == 20
    assert instance["MetadataOptions"]["HttpTokens"] == "required"


def assert_told_by_its_rule(night, instance_id: str) -> None:
    """The lifecycle function heard of this worker through the queue and answered as its own role."""
    events = [e for e in night.host.control.events() if e["detail"].get("instance-id") == instance_id]
    assert {"pending", "running", "shutting-down"} <= {e["detail"]["state"] for e in events}
    logs = night.client("logs")
    found = logs.filter_log_events(logGroupName=f"/aws/lambda/{night.outputs['LifecycleName']}", limit=10000)["events"]
    assert any(instance_id in event["message"] and "runs" in event["message"] for event in found)
    role = night.client("lambda").get_function_configuration(FunctionName=night.outputs["LifecycleName"])["Role"]
    assert "LifecycleRole" in role


def test_a_command_that_exits_3_makes_a_failed_run_and_a_notice(night, tmp_path):
    run_id = night.tick(night.apply(tmp_path, "exits-three", "exit 3"))

    run = night.until_closed(run_id)

    assert (run.status, run.outcome, run.attempts[0].exit_code) == (RunStatus.FAILED, Outcome.FAILED, 3)
    night.until_no_worker_lives(run_id)
    night.until(run_id, lambda run: not run.notice)


def test_a_failed_attempt_is_tried_again_on_a_fresh_worker(night, tmp_path):
    retry = {"attempts": 2, "interruptions": 0, "backoff": {"initial": "1s", "factor": 1, "max": "1s"}}
    run_id = night.tick(night.apply(tmp_path, "second-try", 'test "$NIGHTCREW_ATTEMPT" = 2', retry=retry))

    run = night.until_closed(run_id, sweeping=True)

    assert run.status is RunStatus.SUCCEEDED
    assert [a.outcome for a in run.attempts] == [Outcome.FAILED, Outcome.SUCCEEDED]
    assert len({a.worker.instance_id for a in run.attempts}) == 2
    night.until_no_worker_lives(run_id)


def test_a_worker_killed_mid_run_is_lost_and_the_second_attempt_succeeds(night, tmp_path):
    command = 'echo started; test "$NIGHTCREW_ATTEMPT" = 2 || sleep 300'
    run_id = night.tick(night.apply(tmp_path, "killed", command))
    night.until_log_says(run_id, "started")
    attempt = night.until_running(run_id)

    night.host.control.crash(attempt.worker.instance_id)

    run = night.until_closed(run_id, sweeping=True)
    assert [a.outcome for a in run.attempts] == [Outcome.LOST, Outcome.SUCCEEDED]
    assert run.status is RunStatus.SUCCEEDED
    night.until_no_worker_lives(run_id)


def test_an_interrupted_spot_worker_saves_what_it_has_and_is_replaced(night, tmp_path):
    command = 'echo half > "$NIGHTCREW_OUTPUT_DIR/half.txt"; echo started; test "$NIGHTCREW_ATTEMPT" = 2 || sleep 300'
    run_id = night.tick(night.apply(tmp_path, "interrupted", command, capacity_type="spot"))
    night.until_log_says(run_id, "started")
    attempt = night.until_running(run_id)

    night.host.control.interrupt(attempt.worker.instance_id, notice=40.0)

    run = night.until_closed(run_id, sweeping=True)
    assert [a.outcome for a in run.attempts] == [Outcome.INTERRUPTED, Outcome.SUCCEEDED]
    assert ("half.txt", 5) in night.exchange.outputs(run.attempts[0])
    night.until_no_worker_lives(run_id, seconds=60)


def test_a_command_that_hangs_is_ended_at_its_timeout(night, tmp_path):
    run_id = night.tick(night.apply(tmp_path, "hangs", "trap '' TERM; echo hanging; sleep 600 & wait", timeout="5s"))

    run = night.until_closed(run_id)

    assert (run.status, run.outcome) == (RunStatus.FAILED, Outcome.TIMED_OUT)
    assert "hanging" in night.log(run_id)
    night.until_no_worker_lives(run_id)


def test_a_guest_that_hangs_altogether_is_ended_from_outside(night, tmp_path):
    retry = {"attempts": 1, "interruptions": 0}
    run_id = night.tick(night.apply(tmp_path, "frozen", "sleep 600", timeout="1s", retry=retry))
    attempt = night.until(run_id, lambda run: run.attempt.worker is not None).attempt

    night.host.control.hang(attempt.worker.instance_id)

    run = night.until_closed(run_id, sweeping=True)
    assert run.outcome is Outcome.TIMED_OUT
    night.until_no_worker_lives(run_id)


def test_one_tick_delivered_three_times_at_once_gives_one_run_and_one_worker(night, tmp_path):
    name = night.apply(tmp_path, "three-times", "sleep 2")
    at = datetime.now(UTC)
    deliveries = [threading.Thread(target=night.tick, args=(name, at)) for _ in range(3)]

    for delivery in deliveries:
        delivery.start()
    for delivery in deliveries:
        delivery.join()

    run_id = night.tick(name, at)
    run = night.until_closed(run_id)
    assert run.status is RunStatus.SUCCEEDED
    assert len(run.attempts) == 1
    assert len(night.workers_of(run_id)) == 1
    assert len([r for r in night.runs.recent(name, 10) if r.job.name == name]) == 1


def test_with_every_event_lost_the_sweep_completes_the_run_and_ends_the_worker(night, tmp_path):
    night.drop_all_events()
    run_id = night.tick(night.apply(tmp_path, "all-lost", "echo done", on_finish="stop"))

    run = night.until_closed(run_id, sweeping=True)

    assert run.status is RunStatus.SUCCEEDED
    assert night.states_of(run_id)[0] in {"stopping", "stopped"}, "ended by us: it does not power off by itself"
    states = {e["fate"] for e in night.host.control.events() if run_id in json.dumps(e)}
    assert "delivered" not in states


def test_with_every_event_lost_and_a_dead_guest_the_sweep_replaces_it(night, tmp_path):
    night.drop_all_events()
    run_id = night.tick(night.apply(tmp_path, "dead-silent", 'test "$NIGHTCREW_ATTEMPT" = 2 || sleep 300'))
    attempt = night.until(run_id, lambda run: run.attempt.worker is not None).attempt

    night.host.control.crash(attempt.worker.instance_id)

    run = night.until_closed(run_id, sweeping=True)
    assert [a.outcome for a in run.attempts] == [Outcome.LOST, Outcome.SUCCEEDED]
    night.until_no_worker_lives(run_id)


def test_a_finished_worker_is_stopped_when_the_job_asks_for_it(night, tmp_path):
    run_id = night.tick(night.apply(tmp_path, "stops", "true", on_finish="stop"))

    run = night.until_closed(run_id)

    assert run.status is RunStatus.SUCCEEDED
    wait_for("the worker to be stopped", lambda: night.states_of(run_id) == ["stopped"])


def test_full_spot_pools_lead_to_on_demand(night, tmp_path):
    night.host.control.faults(pools=[{"capacity_type": "spot"}])
    run_id = night.tick(night.apply(tmp_path, "no-spot", "true", capacity_type="spot-then-on-demand"))

    run = night.until_closed(run_id)

    assert run.status is RunStatus.SUCCEEDED
    assert run.attempts[0].worker.capacity_type == "on-demand"
    assert {r.code for r in run.attempts[0].refusals} == {"InsufficientInstanceCapacity"}


def test_a_launch_whose_answer_is_lost_gives_one_worker(night, tmp_path):
    night.host.control.faults(calls=[{"call": "ec2:CreateFleet", "mode": "lose", "status": 0}])
    run_id = night.tick(night.apply(tmp_path, "answer-lost", "true"))

    run = night.until_closed(run_id, sweeping=True)

    assert run.status is RunStatus.SUCCEEDED
    assert len(night.workers_of(run_id)) == 1


def test_a_worker_without_any_record_ends_at_its_deadline(night, tmp_path):
    """The whole table lost, the guest frozen, no event: only the tags are left."""
    night.drop_all_events()
    name = night.apply(tmp_path, "no-record", "sleep 600", deadline="5m", timeout="1m")
    run_id = night.tick(name, datetime.now(UTC) - timedelta(minutes=4, seconds=45))
    attempt = night.until(run_id, lambda run: run.attempt.worker is not None).attempt
    night.host.control.hang(attempt.worker.instance_id)
    table = night.client("dynamodb")
    table.delete_item(TableName=night.outputs["TableName"], Key={"pk": {"S": f"RUN#{run_id}"}, "sk": {"S": "RUN"}})

    def swept() -> bool:
        night.sweep("inventory")
        return night.states_of(run_id) == ["terminated"]

    wait_for("the inventory sweep to end the worker", swept)


def test_an_instance_that_is_not_ours_is_never_touched(night):
    ec2 = night.client("ec2")
    foreign = {"nightcrew:stack": "somebody-else", "nightcrew:deadline": "2020-01-01T00:00:00Z"}
    tags = [{"Key": key, "Value": value} for key, value in foreign.items()]
    launched = ec2.run_instances(
        ImageId="ami-0abcdef1234567890",
        InstanceType="t3.micro",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
    )
    instance_id = launched["Instances"][0]["InstanceId"]
    wait_for("it to run", lambda: night.host.control.instance(instance_id).state == "running")

    night.sweep("inventory")

    assert night.host.control.instance(instance_id).state == "running"


def test_a_volume_left_behind_is_deleted_and_a_foreign_one_is_not(night):
    ec2 = night.client("ec2")

    def volume(stack: str) -> str:
        tags = [{"Key": "nightcrew:stack", "Value": stack}]
        made = ec2.create_volume(
            AvailabilityZone="us-east-1a", Size=1, TagSpecifications=[{"ResourceType": "volume", "Tags": tags}]
        )
        return str(made["VolumeId"])

    ours, foreign = volume("nightcrew"), volume("somebody-else")

    def left() -> set[str]:
        night.sweep("inventory")
        return {v["VolumeId"] for v in ec2.describe_volumes()["Volumes"]} & {ours, foreign}

    wait_for("our volume to be deleted, and only ours", lambda: left() == {foreign})


def test_cancelling_ends_worker_and_run(night, tmp_path):
    run_id = night.tick(night.apply(tmp_path, "called-off", "echo started; sleep 300"))
    night.until_log_says(run_id, "started")

    done = night.cli("cancel", run_id)

    assert done.code == 0, done.err
    run = night.until_closed(run_id)
    assert run.status is RunStatus.CANCELLED
    night.until_no_worker_lives(run_id)


def test_iam_lets_a_worker_write_under_its_own_name_and_nothing_else(night, tmp_path):
    """IAM's answer, not our code's: asked with the worker's own credentials."""
    shutil.copy(ROOT / "tests/e2e/intruder.py", tmp_path)
    command = f"python3 intruder.py {night.outputs['BucketName']} {night.outputs['WorkerRoleId']}"
    run_id = night.tick(night.apply(tmp_path, "intruder", command, files=["intruder.py"]))

    run = night.until_closed(run_id)

    assert run.status is RunStatus.SUCCEEDED, night.log(run_id)
    answers = dict(line.split() for line in night.log(run_id).splitlines() if not line.startswith("["))
    assert answers.pop("own-prefix") == "200"
    assert set(answers.values()) == {"403"}, answers


def test_a_function_host_killed_mid_night_loses_nothing(night, tmp_path):
    run_id = night.tick(night.apply(tmp_path, "killed-function", "sleep 4"))
    night.until_running(run_id)
    killed = night.kill_function("lifecycle")

    run = night.until_closed(run_id, sweeping=True)

    assert killed
    assert run.status is RunStatus.SUCCEEDED
