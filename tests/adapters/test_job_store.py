from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from nightcrew.adapters.job_store import DynamoJobs, current_key
from nightcrew.adapters.run_store import DynamoRuns
from nightcrew.domain.job import Job, JobSchedule
from nightcrew.usecases.ports import WatchedJob
from tests.adapters.conftest import item_of
from tests.builders import NOW, make_job, make_run

NIGHTLY = JobSchedule(expressions=("cron(30 2 * * ? *)",))
# When the tick after NOW (which is itself a tick) is checked: the tick, half an hour to start, two minutes.
CHECKED = NOW + timedelta(days=1, minutes=32)


def scheduled(**changes: object) -> Job:
    return make_job(schedule=replace(NIGHTLY, **changes))


def due_names(jobs: DynamoJobs, at_minute: float = 0) -> list[str]:
    return [watched.job.name for watched in jobs.due(CHECKED + timedelta(minutes=at_minute)).jobs]


def test_a_job_is_found_by_its_revision_and_as_the_current_one(jobs: DynamoJobs) -> None:
    job = scheduled(timezone="Europe/Berlin")

    jobs.put(job, NOW)

    assert jobs.get(job.name, job.revision) == job
    assert jobs.current(job.name) == job


def test_an_unknown_job_or_revision_is_none(jobs: DynamoJobs) -> None:
    jobs.put(make_job(), NOW)

    assert jobs.get("nightly-report", "000000000000") is None
    assert jobs.get("other-job", make_job().revision) is None
    assert jobs.current("other-job") is None


def test_an_older_revision_stays_readable_when_a_new_one_is_applied(jobs: DynamoJobs) -> None:
    old, new = make_job(command="old"), make_job(command="new")

    jobs.put(old, NOW)
    jobs.put(new, NOW)

    assert jobs.get(old.name, old.revision) == old
    assert jobs.current(old.name) == new


def test_all_current_jobs_are_listed_by_name_and_runs_are_not(jobs: DynamoJobs, runs: DynamoRuns) -> None:
    for name in ("beta", "alpha", "gamma"):
        jobs.put(make_job(name=name), NOW)
    runs.create(make_run())

    assert [job.name for job in jobs.all_current()] == ["alpha", "beta", "gamma"]


def test_a_removed_job_is_not_current_and_its_revision_is_kept(jobs: DynamoJobs) -> None:
    job = scheduled()
    jobs.put(job, NOW)

    jobs.remove(job.name)

    assert jobs.current(job.name) is None
    assert jobs.all_current() == []
    assert due_names(jobs, 60) == []
    assert jobs.get(job.name, job.revision) == job


def test_what_was_never_applied_can_be_removed(jobs: DynamoJobs) -> None:
    jobs.remove("other-job")


# ---- The tick that is expected -----------------------------------------------------------------------------


def test_a_tick_is_checked_when_it_can_be_late_no_more(jobs: DynamoJobs) -> None:
    jobs.put(scheduled(), NOW)

    assert due_names(jobs, -1 / 60) == []
    assert jobs.due(CHECKED).jobs == (WatchedJob(job=scheduled(), tick=NOW + timedelta(days=1)),)


@pytest.mark.parametrize(
    "job",
    [
        pytest.param(make_job(), id="no schedule"),
        pytest.param(scheduled(enabled=False), id="disabled"),
        pytest.param(scheduled(expressions=("rate(1 hour)",)), id="a rate, counted from a moment we do not know"),
        pytest.param(scheduled(expressions=("cron(0 0 1 1 ? 2020)",)), id="over"),
    ],
)
def test_a_job_without_a_predictable_tick_is_never_missed(jobs: DynamoJobs, job: Job) -> None:
    jobs.put(job, NOW)

    assert due_names(jobs, 60 * 24 * 365) == []


def test_a_checked_tick_makes_way_for_the_next(jobs: DynamoJobs) -> None:
    jobs.put(scheduled(), NOW)
    (watched,) = jobs.due(CHECKED).jobs

    jobs.advance(watched)

    assert due_names(jobs) == []
    (following,) = jobs.due(CHECKED + timedelta(days=1)).jobs
    assert following.tick == watched.tick + timedelta(days=1)


def test_a_tick_is_advanced_once_however_often_it_was_seen(jobs: DynamoJobs) -> None:
    jobs.put(scheduled(), NOW)
    (watched,) = jobs.due(CHECKED).jobs
    jobs.advance(watched)

    jobs.advance(watched)

    (following,) = jobs.due(CHECKED + timedelta(days=1)).jobs
    assert following.tick == watched.tick + timedelta(days=1)


def test_a_job_that_was_removed_meanwhile_is_not_brought_back(jobs: DynamoJobs) -> None:
    jobs.put(scheduled(), NOW)
    (watched,) = jobs.due(CHECKED).jobs
    jobs.remove("nightly-report")

    jobs.advance(watched)

    assert jobs.table.get(current_key("nightly-report")) is None


def test_a_job_that_was_changed_meanwhile_keeps_its_new_expectation(jobs: DynamoJobs) -> None:
    jobs.put(scheduled(), NOW)
    (watched,) = jobs.due(CHECKED).jobs
    jobs.put(scheduled(expressions=("cron(0 6 * * ? *)",)), NOW)
    before = item_of(jobs.table, current_key("nightly-report"))

    jobs.advance(watched)

    assert item_of(jobs.table, current_key("nightly-report")) == before


def test_the_last_tick_of_a_schedule_is_followed_by_none(jobs: DynamoJobs) -> None:
    jobs.put(scheduled(expressions=("cron(30 2 17 1 ? 2026)",)), NOW)
    (watched,) = jobs.due(CHECKED).jobs

    jobs.advance(watched)

    assert due_names(jobs, 60 * 24 * 365) == []
    assert jobs.current("nightly-report") == watched.job


def test_an_expectation_that_cannot_be_written_is_told(jobs: DynamoJobs) -> None:
    watched = WatchedJob(job=scheduled(), tick=NOW)
    with Stubber(jobs.table.client) as stub:
        stub.add_client_error("update_item", "ProvisionedThroughputExceededException")

        with pytest.raises(ClientError):
            jobs.advance(watched)


# ---- What is due -------------------------------------------------------------------------------------------


def test_what_is_longest_due_comes_first_and_what_is_not_due_does_not_come(jobs: DynamoJobs, runs: DynamoRuns) -> None:
    for name, minutes in (("b-job", 5), ("a-job", 9), ("c-job", 2), ("later-job", -9)):
        runs.create(make_run(make_job(name=name), updated_at=NOW - timedelta(minutes=minutes)))
    jobs.put(scheduled(), NOW - timedelta(days=2))

    due = jobs.due(NOW)

    assert [run_id.removesuffix("-20260116T023000Z") for run_id in due.run_ids] == ["a-job", "b-job", "c-job"]
    assert [watched.job.name for watched in due.jobs] == ["nightly-report"]


def test_a_tick_that_was_not_checked_yet_is_not_forgotten_when_the_job_is_applied_again(jobs: DynamoJobs) -> None:
    jobs.put(scheduled(), NOW)
    just_after = NOW + timedelta(days=1, minutes=1)

    jobs.put(replace(scheduled(), command="another"), just_after)

    (watched,) = jobs.due(CHECKED).jobs
    assert watched.tick == NOW + timedelta(days=1)
    assert watched.job.command == "another"


def test_a_changed_schedule_begins_a_new_expectation(jobs: DynamoJobs) -> None:
    jobs.put(scheduled(), NOW)

    jobs.put(scheduled(timezone="Europe/Berlin"), NOW + timedelta(days=1, minutes=1))

    assert jobs.due(CHECKED).jobs == ()


def test_a_job_record_that_cannot_be_read_is_named_and_hides_no_other(jobs: DynamoJobs) -> None:
    jobs.put(scheduled(), NOW)
    jobs.put(replace(scheduled(), name="newer"), NOW)
    jobs.table.client.update_item(
        TableName=jobs.table.name,
        Key=current_key("newer"),
        UpdateExpression="SET #r = :r",
        ExpressionAttributeNames={"#r": "record"},
        ExpressionAttributeValues={":r": {"S": '{"version": 99, "name": "newer"}'}},
    )

    due = jobs.due(CHECKED)

    assert [watched.job.name for watched in due.jobs] == ["nightly-report"]
    assert due.unreadable_jobs == ("newer",)
