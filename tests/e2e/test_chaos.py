"""A bad night, for real: processes die, messages come twice or never, disks fill up, calls are refused.

However bad it was, `assert_a_good_morning` says what must be true afterwards.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from nightcrew.domain import tags as tag
from nightcrew.domain.run import Attempt, Outcome, Run, RunStatus
from nightcrew_cli.local import processes
from nightcrew_cli.local.client import Instance
from tests.e2e.night import Night, wait_for

pytestmark = [pytest.mark.local, pytest.mark.chaos, pytest.mark.timeout(240)]

LIVING = {"pending", "running"}
ONE_TRY: dict[str, Any] = {"retry": {"attempts": 1, "interruptions": 0}}


# ---- What must be true in the morning ----------------------------------------------------------------------


@dataclass(frozen=True)
class Bystanders:
    """Things of somebody else in the same account, made so that a careless sweep would take them for ours."""

    instance_id: str
    volume_id: str
    as_it_was: str

    @classmethod
    def make(cls, night: Night) -> Bystanders:
        ec2 = night.client("ec2")
        foreign = {tag.STACK: "somebody-else", tag.DEADLINE: "2020-01-01T00:00:00Z", tag.RUN: "no-such-run"}
        tags = [{"Key": key, "Value": value} for key, value in foreign.items()]
        launched = ec2.run_instances(
            ImageId="ami-0abcdef1234567890",
            InstanceType="t3.micro",
            MinCount=1,
            MaxCount=1,
            TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
        )
        instance_id = str(launched["Instances"][0]["InstanceId"])
        volume = ec2.create_volume(
            AvailabilityZone="us-east-1a", Size=1, TagSpecifications=[{"ResourceType": "volume", "Tags": tags}]
        )
        wait_for("a foreign instance", lambda: night.host.control.instance(instance_id).state == "running")
        return cls(instance_id, str(volume["VolumeId"]), cls._look(night, instance_id, str(volume["VolumeId"])))

    @staticmethod
    def _look(night: Night, instance_id: str, volume_id: str) -> str:
        instance = night.host.control.instance(instance_id)
        volume = night.client("ec2").describe_volumes(VolumeIds=[volume_id])["Volumes"][0]
        return repr((instance, volume["State"], volume["Tags"]))

    def assert_untouched(self, night: Night) -> None:
        assert self._look(night, self.instance_id, self.volume_id) == self.as_it_was


@pytest.fixture(scope="module")
def bystanders(night) -> Bystanders:
    return Bystanders.make(night)


def assert_a_good_morning(
    night: Night, bystanders: Bystanders, expected: Mapping[str, list[Outcome]], *, sweeping: bool = True
) -> dict[str, Run]:
    """Every promise at once, about these runs and whatever else carries our tags.

    `expected` names the outcome of each attempt; the last one is the run's own. Returns the closed runs.
    """
    runs = {run_id: night.until_closed(run_id, sweeping=sweeping) for run_id in expected}
    for run_id, run in runs.items():
        story = "\n".join(f"{entry.at} {entry.text}" for entry in run.history)
        assert [attempt.outcome for attempt in run.attempts] == expected[run_id], story
        assert (run.status, run.outcome) == (expected[run_id][-1].status, expected[run_id][-1]), story
        assert run.message, story
        night.until_no_worker_lives(run_id)
    assert_one_worker_for_each_attempt(night, runs)
    assert_nothing_overdue(night)
    assert_no_process_is_left(night, runs)
    bystanders.assert_untouched(night)
    return runs


def ours(night: Night) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    """Every instance with our tag, whatever its state, and its tags."""
    pages = night.client("ec2").get_paginator("describe_instances")
    for page in pages.paginate(Filters=[{"Name": f"tag:{tag.STACK}", "Values": ["nightcrew"]}]):
        for reservation in page["Reservations"]:
            for instance in reservation["Instances"]:
                yield instance, {item["Key"]: item["Value"] for item in instance["Tags"]}


def assert_one_worker_for_each_attempt(night: Night, runs: Mapping[str, Run]) -> None:
    """No attempt of any run ever had two workers, and the records of these runs name them all."""
    found = [(tags[tag.RUN], int(tags[tag.ATTEMPT]), instance["InstanceId"]) for instance, tags in ours(night)]
    launched = Counter((run_id, number) for run_id, number, _ in found)
    assert not [attempt for attempt, count in launched.items() if count > 1]
    recorded = {
        (run_id, attempt.number, attempt.worker.instance_id)
        for run_id, run in runs.items()
        for attempt in run.attempts
        if attempt.worker
    }
    assert {worker for worker in found if worker[0] in runs} == recorded


def assert_nothing_overdue(night: Night) -> None:
    night.sweep("inventory")
    late = [
        (instance["InstanceId"], tags)
        for instance, tags in ours(night)
        if instance["State"]["Name"] in LIVING and tag.deadline_of(tags) <= datetime.now(UTC)
    ]
    assert not late


def assert_no_process_is_left(night: Night, runs: Mapping[str, Run]) -> None:
    for run_id in runs:
        for worker in night.workers_of(run_id):
            left = lambda instance_id=worker["InstanceId"]: processes_of(night, instance_id)  # noqa: E731
            wait_for(f"the end of every process of {run_id}", lambda: not left())  # noqa: B023


# ---- The processes of a worker -----------------------------------------------------------------------------


def processes_of(night: Night, instance_id: str) -> list[int]:
    """Everything that runs on this worker: the command's environment names its metadata service, if nothing else."""
    endpoint = f"{night.host.running.endpoint}/_nightcrew/imds/{instance_id}"
    return processes.marked("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint)


def command_of(run_id: str) -> int:
    """The shell of the run's command, the first of the processes that have its environment; 0 when it does not run."""
    return min(processes.marked("NIGHTCREW_RUN_ID", run_id), default=0)


def until_launched(night: Night, run_id: str) -> Attempt:
    attempt = night.until(run_id, lambda run: run.attempt.worker is not None).attempt
    assert attempt is not None
    return attempt


def until_booted(night: Night, run_id: str) -> Instance:
    """The worker as the host sees it, once its user data runs."""
    instance_id = until_launched(night, run_id).worker.instance_id

    def booted() -> Instance | None:
        instance = night.host.control.instance(instance_id)
        return instance if instance.pid else None

    return wait_for(f"{instance_id} to boot", booted)


def keys_of(night: Night, run: Run, ending: str) -> list[str]:
    """The objects that the run's last worker wrote and whose names end so."""
    prefix = night.exchange.prefix(run.attempt)
    found = night.client("s3").list_objects_v2(Bucket=night.outputs["BucketName"], Prefix=prefix)
    return [item["Key"] for item in found.get("Contents", []) if item["Key"].endswith(ending)]


def test_whatever_is_killed_on_a_worker_its_run_ends(night, bystanders, tmp_path):
    """The command, our own program, the whole guest; and a guest that is dead when its run's deadline comes."""
    night.apply(tmp_path, "killed-command", "sleep 300", **ONE_TRY)
    night.apply_all(tmp_path, {"killed-program": "sleep 300", "killed-guest": "sleep 300"}, **ONE_TRY, timeout="5s")
    night.apply(tmp_path, "killed-late", "sleep 300", deadline="5m", timeout="1m")
    at = datetime.now(UTC)
    command, program, guest = (night.tick(f"killed-{what}", at) for what in ("command", "program", "guest"))
    late = night.tick("killed-late", at - timedelta(minutes=4, seconds=35))

    os.kill(wait_for("the command", lambda: command_of(command)), signal.SIGKILL)
    wait_for("the other command", lambda: command_of(program))
    os.kill(until_booted(night, program).pid, signal.SIGKILL)
    for run_id in (guest, late):
        killed = night.host.control.kill_guest(until_booted(night, run_id).instance_id)
        assert killed.state == "running", "and costs money"

    ended = assert_a_good_morning(
        night,
        bystanders,
        {
            command: [Outcome.FAILED],
            program: [Outcome.TIMED_OUT],
            guest: [Outcome.TIMED_OUT],
            late: [Outcome.DEADLINE_EXCEEDED],
        },
    )
    assert "SIGKILL" in ended[command].message
    assert [ended[run_id].attempts[0].exit_code for run_id in (command, program, guest)] == [137, None, None]
    assert not [run_id for run_id in (program, guest) if keys_of(night, ended[run_id], "result.json")]


# ---- The functions -----------------------------------------------------------------------------------------


def test_launchers_killed_at_every_step_launch_each_run_once(night, bystanders, tmp_path):
    """Four launchers hang in four calls that were carried out, and die before they hear so."""
    calls = ["dynamodb:PutItem", "ec2:CreateFleet", "s3:PutObject", "dynamodb:TransactWriteItems"]
    names = night.apply_all(tmp_path, {f"launcher-{number}": "true" for number in range(len(calls))})
    night.host.control.faults(calls=[{"call": call, "mode": "delay", "seconds": 60} for call in calls])
    at = datetime.now(UTC)

    runs = at_once(lambda name: night.tick(name, at), names)

    def all_hang() -> bool:
        """One has its record, one its worker, one its roster, one is in the record as launched."""
        records = [night.runs.get(run_id) for run_id in runs]
        workers = sum(len(night.workers_of(run_id)) for run_id in runs)
        return all(records) and workers == 3 and sum(run.attempt.worker is not None for run in records) == 1

    wait_for("four launchers in four calls", all_hang)
    assert night.kill_function("launcher") >= len(calls)
    assert_a_good_morning(night, bystanders, {run_id: [Outcome.SUCCEEDED] for run_id in runs})


def test_a_lifecycle_function_killed_with_its_batch_changes_nothing_in_the_end(night, bystanders, tmp_path):
    run_id = night.tick(night.apply(tmp_path, "batch-killed", "echo started; sleep 5"))
    night.until_log_says(run_id, "started")
    night.host.control.faults(calls=[{"call": "s3:GetObject", "mode": "delay", "seconds": 60, "times": 2}])
    wait_for("a result", lambda: keys_of(night, night.run(run_id), "result.json"))
    wait_for("a batch in work", lambda: queue_depth(night)[1] > 0)
    time.sleep(0.5)  # the function has its batch and asks for the result

    assert night.kill_function("lifecycle")

    before = assert_a_good_morning(night, bystanders, {run_id: [Outcome.SUCCEEDED]})[run_id]
    deliver_again(night, [run_id])
    assert night.run(run_id) == before
    night.client("sqs").purge_queue(QueueUrl=night.outputs["LifecycleQueueUrl"])  # what the killed one took along


def at_once(act: Any, items: Iterable[str]) -> list[str]:
    """Do it with every item at the same moment, and return the answers in order."""
    items = list(items)
    answers: dict[str, str] = {}
    start = threading.Barrier(len(items))

    def do(item: str) -> None:
        start.wait()
        answers[item] = act(item)

    threads = [threading.Thread(target=do, args=(item,)) for item in items]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [answers[item] for item in items]


# ---- The right and the time to end a worker ----------------------------------------------------------------


@contextlib.contextmanager
def denied(night: Night, *functions: str, action: str) -> Iterator[None]:
    """IAM itself says no, as after somebody's change of a boundary."""
    iam, function = night.client("iam"), night.client("lambda")
    roles = [
        function.get_function_configuration(FunctionName=night.outputs[name])["Role"].rpartition("/")[2]
        for name in functions
    ]
    statement = {"Effect": "Deny", "Action": action, "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    for role in roles:
        iam.put_role_policy(RoleName=role, PolicyName="somebody-was-here", PolicyDocument=document)
    try:
        yield
    finally:
        for role in roles:
            iam.delete_role_policy(RoleName=role, PolicyName="somebody-was-here")


def test_a_worker_that_nobody_may_end_is_told_loudly_and_ended_as_soon_as_somebody_may(night, bystanders, tmp_path):
    """The guest is dead. First the right is missing, then EC2 is busy, then the reaper dies before the answer."""
    run_id = night.tick(night.apply(tmp_path, "unendable", "sleep 300", timeout="1s", **ONE_TRY))
    instance_id = until_booted(night, run_id).instance_id
    night.host.control.kill_guest(instance_id)

    with denied(night, "ReaperName", "LifecycleName", action="ec2:TerminateInstances"):
        night.until(run_id, lambda run: run.status is RunStatus.STOPPING, sweeping=True)
        said = wait_for("a loud inventory sweep", lambda: failure_of(night, "inventory"))

    assert instance_id in said
    assert "denied" in said
    assert night.states_of(run_id) == ["running"]
    busy = {"call": "ec2:TerminateInstances", "code": "RequestLimitExceeded", "status": 503, "times": 6}
    night.host.control.faults(calls=[busy, {"call": "ec2:TerminateInstances", "mode": "delay", "seconds": 60}])
    sweeping = threading.Thread(target=lambda: [failure_of(night, "inventory") for _ in range(2)])
    sweeping.start()
    wait_for("EC2 to take the call", lambda: night.states_of(run_id) != ["running"])
    assert night.kill_function("reaper")
    sweeping.join()
    assert_a_good_morning(night, bystanders, {run_id: [Outcome.TIMED_OUT]})


def failure_of(night: Night, sweep: str) -> str:
    """Run a sweep; return what it failed with, or nothing when it did not fail."""
    answer = night.client("lambda").invoke(
        FunctionName=night.outputs["ReaperName"], Payload=json.dumps({"sweep": sweep})
    )
    body = json.loads(answer["Payload"].read())
    return str(body) if "FunctionError" in answer else ""


# ---- Messages ----------------------------------------------------------------------------------------------

KINDS = ['"pending"', '"running"', '"shutting-down"', '"terminated"', "result.json"]


def luck(dice: random.Random) -> list[dict[str, Any]]:
    """A dozen accidents: what is lost, late or repeated, how often, and by how much."""
    return [
        {
            "action": dice.choice(["drop", "delay", "duplicate"]),
            "contains": dice.choice(KINDS),
            "seconds": dice.uniform(0.5, 8),
            "copies": dice.randint(2, 4),
            "times": dice.randint(1, 3),
        }
        for _ in range(12)
    ]


@pytest.mark.parametrize("seed", [20261123])
def test_messages_lost_late_and_repeated_change_no_outcome(night, bystanders, tmp_path, seed):
    commands = {f"luck-{number}": f"sleep {number}; exit {number % 2}" for number in range(6)}
    names = night.apply_all(tmp_path, commands, **ONE_TRY)
    night.host.control.faults(events=luck(random.Random(seed)))
    at = datetime.now(UTC)

    runs = at_once(lambda name: night.tick(name, at), names)

    expected = [Outcome.FAILED if number % 2 else Outcome.SUCCEEDED for number in range(6)]
    before = assert_a_good_morning(night, bystanders, {run: [what] for run, what in zip(runs, expected, strict=True)})
    night.host.control.faults(clear=True)
    deliver_again(night, runs)
    assert {run_id: night.run(run_id) for run_id in runs} == before, "every message twice more, in reverse"


def deliver_again(night: Night, runs: Iterable[str]) -> None:
    """Put every message there ever was about these runs into the lifecycle queue twice, newest first."""
    workers = [worker["InstanceId"] for run_id in runs for worker in night.workers_of(run_id)]
    recorded = [event for event in night.host.control.events() if any(it in json.dumps(event) for it in workers)]
    concerned = [
        event for event in recorded if event["source"] == "aws.ec2" or "result.json" in json.dumps(event["detail"])
    ]
    assert concerned
    sqs, queue = night.client("sqs"), night.outputs["LifecycleQueueUrl"]
    for event in reversed([it for it in concerned for _ in range(2)]):
        envelope = {
            "version": "0",
            "id": f"again-{event['number']}",
            "detail-type": event["detail_type"],
            "source": event["source"],
            "account": "000000000000",
            "time": event["time"],
            "region": night.host.running.region,
            "resources": [],
            "detail": event["detail"],
        }
        sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(envelope))
    taken = queue_depth(night)[1]
    wait_for("the queue to be read", lambda: queue_depth(night)[0] == 0 and queue_depth(night)[1] <= taken)


def queue_depth(night: Night) -> tuple[int, int]:
    """How many messages wait in the lifecycle queue, and how many are in work."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    answer = night.client("sqs").get_queue_attributes(QueueUrl=night.outputs["LifecycleQueueUrl"], AttributeNames=names)
    waiting, in_work = (int(answer["Attributes"][name]) for name in names)
    return waiting, in_work


def test_twenty_ticks_at_one_instant_give_twenty_runs_with_one_worker_each(night, bystanders, tmp_path):
    """EC2 finds three of the launches too many at once; they are repeated, and cost no attempt."""
    names = night.apply_all(tmp_path, {f"crowd-{number:02}": "true" for number in range(20)}, **ONE_TRY)
    throttled = {"call": "ec2:CreateFleet", "code": "RequestLimitExceeded", "status": 503, "times": 3}
    night.host.control.faults(calls=[throttled])
    at = datetime.now(UTC)

    runs = at_once(lambda name: night.tick(name, at), names)

    ended = assert_a_good_morning(night, bystanders, {run_id: [Outcome.SUCCEEDED] for run_id in runs})
    assert len({run.attempts[0].worker.instance_id for run in ended.values()}) == 20
    assert sum("throttled" in entry.text for run in ended.values() for entry in run.history) == 3


# ---- The machine the worker finds --------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"NOT TESTED: a full disk needs root and mount: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_ends_the_run_with_what_happened(night, bystanders, tmp_path):
    """Once a disk of the job's own, and once the worker's: log and result do not need it."""
    (tmp_path / "huge.bin").write_bytes(random.Random(1).randbytes(4_000_000))
    fill = 'echo started; head -c 50000000 /dev/zero > "$PLACE/zeros"'
    name = night.apply(tmp_path, "own-disk-full", fill, env={"PLACE": str(tmp_path / "data")}, **ONE_TRY)
    with small_disk(tmp_path / "data", "1m"):
        own = night.tick(name)
        assert_a_good_morning(night, bystanders, {own: [Outcome.FAILED]})
    assert "No space left on device" in night.log(own)

    commands = {"work-disk-full": 'echo saved > "$NIGHTCREW_OUTPUT_DIR/first.txt"\nhead -c 50000000 /dev/zero > zeros'}
    night.apply_all(tmp_path, commands, **ONE_TRY)
    night.apply(tmp_path, "files-too-large", "true", files=["huge.bin"], **ONE_TRY)
    ends = {}
    for name, outcome in (("work-disk-full", Outcome.FAILED), ("files-too-large", Outcome.START_FAILED)):
        with small_disk(night.home / "instances", "2m"):
            run_id = night.tick(name)
            ends[name] = assert_a_good_morning(night, bystanders, {run_id: [outcome]})[run_id]
            assert "No space left on device" in night.log(run_id)
            assert keys_of(night, ends[name], "result.json")
    assert "exited with 1" in ends["work-disk-full"].message
    assert night.exchange.outputs(ends["work-disk-full"].attempts[0]) == [("first.txt", 6)]
    assert "files.tar.gz: No space left on device" in ends["files-too-large"].message


WRONG_CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *at) {
  int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
  int answer = real(clock, at);
  if (!answer && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) at->tv_sec += atol(getenv("WRONG_BY"));
  return answer;
}

time_t time(time_t *at) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (at) *at = now.tv_sec;
  return now.tv_sec;
}

int gettimeofday(struct timeval *at, void *zone) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  at->tv_sec = now.tv_sec;
  at->tv_usec = now.tv_nsec / 1000;
  return 0;
}
"""


def wrong_clock(folder: Path) -> Path:
    """A library that shows a process another time of day. (libfaketime also touches what Python's waiting rests on.)"""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler or not Path("/proc").exists():
        pytest.skip("NOT TESTED: a wrong clock needs Linux and a C compiler")
    source, library = folder / "clock.c", folder / "clock.so"
    source.write_text(WRONG_CLOCK)
    subprocess.run([compiler, "-shared", "-fPIC", "-O", "-o", str(library), str(source), "-ldl"], check=True)
    return library


def test_a_worker_whose_clock_is_wrong_still_ends_on_time_and_counts(night, bystanders, tmp_path):
    """Its first boot is cut off, and its user data runs again under a clock that is hours away from ours."""
    library = wrong_clock(tmp_path)
    # The second boot finds the mark of the first.
    gate = tmp_path / "gate"
    command = (
        "test -e mark || { touch mark; echo started; sleep 300; }\n"
        f"echo again; until test -e {gate}; do sleep 0.1; done"
    )
    names = night.apply_all(tmp_path, {"clock-ahead": command, "clock-behind": command}, **ONE_TRY)
    at = datetime.now(UTC).replace(microsecond=0)
    runs = [night.tick(name, at) for name in names]
    for run_id in runs:
        night.until_log_says(run_id, "started")

    hours = 3600
    second_boots = [boot_again(night, runs[0], library, 5 * hours), boot_again(night, runs[1], library, -5 * hours)]

    for run_id in runs:
        night.until_log_says(run_id, "again")
        minutes = night.host.control.instance(night.run(run_id).attempt.worker.instance_id).power_off_in / 60
        assert 30 <= minutes <= 33, "until shortly after the deadline, whatever the clock says"
    gate.touch()
    for boot in second_boots:
        boot.wait(timeout=60)
    ended = assert_a_good_morning(night, bystanders, {run_id: [Outcome.SUCCEEDED] for run_id in runs})
    for run in ended.values():
        written = json.loads(night.exchange.read(*keys_of(night, run, "result.json")))
        for name in ("booted_at", "started_at", "ended_at"):
            assert abs(datetime.fromisoformat(written[name]) - at) < timedelta(minutes=3), (name, written)


def boot_again(night: Night, run_id: str, library: Path, shift: int) -> subprocess.Popen[bytes]:
    """Kill all that the user data started, and run it once more as a machine with a wrong clock would."""
    instance = night.host.control.instance(night.run(run_id).attempt.worker.instance_id)
    environment = dict(
        line.split("=", 1) for line in Path(f"/proc/{instance.pid}/environ").read_text().split("\0") if "=" in line
    )
    for pid in sorted({instance.pid, *processes.below([instance.pid])}):
        processes.send(pid, signal.SIGKILL)
    wrong = {"LD_PRELOAD": str(library), "WRONG_BY": str(shift)}
    with (Path(instance.folder) / "console.txt").open("ab") as console:
        return subprocess.Popen(
            [shutil.which("bash"), f"{instance.folder}/user-data"],
            env=environment | wrong,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            cwd=environment["HOME"],
            start_new_session=True,
        )


def test_an_exchange_that_cannot_be_reached_for_a_while_costs_no_run(night, bystanders, tmp_path):
    """First every connection breaks, then S3 is busy; the command ends meanwhile."""
    command = 'sleep 4; echo 42 > "$NIGHTCREW_OUTPUT_DIR/answer.txt"'
    run_id = night.tick(night.apply(tmp_path, "bucket-away", command, **ONE_TRY))
    wait_for("the command", lambda: command_of(run_id))
    attempt = until_launched(night, run_id)
    broken = {"mode": "lose", "status": 0, "times": None}
    busy = {"code": "SlowDown", "status": 503, "times": None}

    for trouble in (broken, busy):
        faults = [{"call": f"s3:{call}", **trouble} for call in ("PutObject", "GetObject")]
        night.host.control.faults(clear=True, calls=faults)
        time.sleep(3)
    wait_for("the end of the command", lambda: not command_of(run_id))
    assert not keys_of(night, night.run(run_id), "result.json")
    night.host.control.faults(clear=True)

    assert_a_good_morning(night, bystanders, {run_id: [Outcome.SUCCEEDED]})
    assert night.exchange.outputs(attempt) == [("answer.txt", 3)]
