"""What the launcher writes is what a rebuild reads: rosters, results, and records that come back once."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.stub import Stubber

from nightcrew.adapters.exchange import S3Exchange
from nightcrew.adapters.job_store import DynamoJobs
from nightcrew.adapters.operator_archive import S3Archive, read_roster
from nightcrew.adapters.operator_schedules import ScheduleGroup
from nightcrew.adapters.run_store import DynamoRuns
from nightcrew.adapters.scheduler import SchedulerSchedules
from nightcrew.domain.job import JobSchedule
from nightcrew.domain.rebuild import BrokenRoster, Roster, reopened
from nightcrew.domain.run import Outcome
from nightcrew.domain.sweep import SeenWorker, WorkerState
from nightcrew.usecases.errors import UnreadableError
from nightcrew.usecases.operate import ScheduleTarget, desired_schedule
from tests.adapters.conftest import BUCKET, client
from tests.builders import LIMITS, NOW, launched, make_job, make_run, make_worker

EVER = datetime(2000, 1, 1, tzinfo=UTC)


@pytest.fixture
def archive(exchange: S3Exchange) -> S3Archive:
    return S3Archive(exchange)


def written(archive: S3Archive, **changes: Any) -> str:
    """Let the launcher's own adapter write a roster; return its launch."""
    run = make_run(**changes)
    archive.exchange.put_roster(run, run.attempts[0], make_worker())
    return run.attempts[0].launch


def test_a_roster_gives_back_the_run_as_it_was_frozen_but_for_its_secret(archive: S3Archive) -> None:
    launch = written(archive)

    roster = archive.roster(launch)

    assert isinstance(roster, Roster)
    assert roster.run == replace(make_run(), nonce="")
    assert (roster.launch, roster.instance_ids) == (launch, ("i-00000001",))


def test_launches_are_listed_newest_first_and_since_a_time(archive: S3Archive) -> None:
    launch = written(archive)
    client("s3").put_object(Bucket=BUCKET, Key="launches/not-a-launch/roster.json", Body=b"")

    [past] = archive.launches(EVER)

    assert past.launch == launch
    assert archive.launches(past.at + timedelta(hours=1)) == []


def test_a_launch_without_a_roster_has_none(archive: S3Archive) -> None:
    assert archive.roster("e" * 32) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        b"{}",
        json.dumps({"run": "a-run", "record": {}, "launch": "l", "tasks": {}}).encode(),
        json.dumps({"run": "a-run", "record": {"job": {"version": 99}}, "launch": "l", "tasks": {}}).encode(),
    ],
)
def test_a_roster_that_cannot_be_read_says_so(content: bytes) -> None:
    assert isinstance(read_roster(content, NOW), BrokenRoster)


def test_an_older_roster_without_a_record_names_its_run() -> None:
    roster = read_roster(json.dumps({"run": "a-run", "launch": "l", "tasks": {"i-1": 0}}).encode(), NOW)

    assert roster == BrokenRoster("a-run", "its roster was written by a version that kept no record in it")


def test_a_result_comes_with_the_time_at_which_it_was_written(archive: S3Archive) -> None:
    attempt = launched(make_run()).attempts[0]
    assert archive.result(attempt) is None
    result = {"launch": attempt.launch, "outcome": "succeeded", "exit_code": 0, "message": "done"}
    key = f"{archive.exchange.prefix(attempt)}result.json"
    client("s3").put_object(Bucket=BUCKET, Key=key, Body=json.dumps(result).encode())

    past = archive.result(attempt)

    assert past is not None
    assert past.result.outcome is Outcome.SUCCEEDED
    assert past.at == client("s3").head_object(Bucket=BUCKET, Key=key)["LastModified"]


@pytest.mark.parametrize(("operation", "call"), [("list_objects_v2", "launches"), ("get_object", "roster")])
def test_what_cannot_be_read_is_not_absent(archive: S3Archive, operation: str, call: str) -> None:
    with Stubber(client("s3")) as stub:
        stub.add_client_error(operation, "AccessDenied", "no")

        with pytest.raises(UnreadableError):
            archive.launches(EVER) if call == "launches" else archive.roster("e" * 32)


# ---- Records that come back --------------------------------------------------------------------------------


def test_a_lost_record_comes_back_with_its_worker_row_and_only_once(runs: DynamoRuns, archive: S3Archive) -> None:
    roster = archive.roster(written(archive))
    assert isinstance(roster, Roster)
    seen = SeenWorker(instance_id="i-00000001", state=WorkerState.RUNNING, launched_at=NOW, tags={})
    run = replace(reopened(roster, seen, NOW + timedelta(minutes=9), LIMITS), nonce="1" * 32)

    first, second = runs.restore(run), runs.restore(replace(run, message="another"))

    assert (first, second) == (True, False)
    assert runs.get(run.run_id) == run
    assert runs.runs_of(["i-00000001"]) == {"i-00000001": run.run_id}
    assert runs.open() == [run]
    assert runs.save(run).version == 2


def test_a_record_that_exists_is_left_as_it_is(runs: DynamoRuns) -> None:
    run = make_run()
    runs.create(run)

    assert runs.restore(replace(run, message="another")) is False
    assert runs.get(run.run_id) == run


def test_a_lost_job_comes_back_unless_one_is_applied(jobs: DynamoJobs) -> None:
    job, newer = make_job(), make_job(command="newer")

    first, second = jobs.restore(job, NOW), jobs.restore(newer, NOW)

    assert (first, second) == (True, False)
    assert jobs.current(job.name) == job
    assert jobs.get(job.name, job.revision) == job
    assert jobs.all_current() == [job]


# ---- Schedules ---------------------------------------------------------------------------------------------


@pytest.fixture
def schedules(aws: None) -> SchedulerSchedules:
    client("scheduler").create_schedule_group(Name="nightcrew-jobs")
    client("scheduler").create_schedule_group(Name="another")
    return SchedulerSchedules(client("scheduler"), "nightcrew-jobs")


def test_every_schedule_of_our_group_is_listed_and_no_other(schedules: SchedulerSchedules) -> None:
    target = ScheduleTarget(launcher="arn:aws:lambda:eu-west-1:1:function:l", role="arn:role", dead_letters="arn:dlq")
    wanted = [
        desired_schedule(make_job(name=name, schedule=JobSchedule(expressions=("rate(1 day)",))), target)
        for name in ("b", "a")
    ]
    for schedule in wanted:
        assert schedule is not None
        schedules.put(schedule, exists=False)
        SchedulerSchedules(schedules.client, "another").put(replace(schedule, name="foreign"), exists=False)

    assert ScheduleGroup(schedules).all() == [wanted[1], wanted[0]]


def test_schedules_that_cannot_be_listed_are_not_none(schedules: SchedulerSchedules) -> None:
    with Stubber(client("scheduler")) as stub:
        stub.add_client_error("list_schedules", "AccessDeniedException", "no")

        with pytest.raises(UnreadableError):
            ScheduleGroup(schedules).all()
