"""What a person may write for a job or a run, and what they are told when it means nothing or too much."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from nightcrew.domain.run import Trigger, run_id_of
from nightcrew.usecases.operate import NotFoundError, OperatorError
from nightcrew.usecases.references import find_job, find_run
from tests.builders import NOW, make_job, make_run
from tests.cli.stage import MemoryJobs, MemoryRuns

JOBS = MemoryJobs({name: make_job(name=name) for name in ("nightly-report", "nightly-clean", "weekly")})


def run_of(job: str, days: int) -> object:
    at = NOW + timedelta(days=days)
    return make_run(make_job(name=job), run_id=run_id_of(job, at, Trigger.SCHEDULE), scheduled_at=at, created_at=at)


RUNS = MemoryRuns()
RUNS.add(*(run_of(*it) for it in (("nightly-report", 0), ("nightly-report", 1), ("weekly", 2), ("gone", 3))))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reference", "found"),
    [("weekly", "weekly"), ("w", "weekly"), ("nightly-report", "nightly-report"), ("nightly-c", "nightly-clean")],
)
def test_a_job_is_found_by_its_name_or_unique_beginning(reference: str, found: str) -> None:
    assert find_job(reference, JOBS).name == found


def test_a_beginning_of_two_jobs_is_refused_with_both() -> None:
    with pytest.raises(OperatorError, match="beginning of 2 jobs: nightly-clean, nightly-report"):
        find_job("night", JOBS)


def test_an_unknown_job_gets_the_nearest_name() -> None:
    with pytest.raises(NotFoundError) as caught:
        find_job("weakly", JOBS)

    assert caught.value.hints[0] == "did you mean weekly?"


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        pytest.param("weekly-20260118T023000Z", "weekly-20260118T023000Z", id="id"),
        pytest.param("weekly", "weekly-20260118T023000Z", id="a job's name is its newest run"),
        pytest.param("nightly-report@last", "nightly-report-20260117T023000Z", id="newest of a job"),
        pytest.param("nightly-r@last", "nightly-report-20260117T023000Z", id="newest of a job's beginning"),
        pytest.param("nightly-report-20260116", "nightly-report-20260116T023000Z", id="beginning of an id"),
        pytest.param("weekly-2", "weekly-20260118T023000Z", id="short beginning of an id"),
        pytest.param("we", "weekly-20260118T023000Z", id="beginning of a job with one run"),
        pytest.param("gone-2026", "gone-20260119T023000Z", id="a job that was taken off"),
        pytest.param("@last", "gone-20260119T023000Z", id="newest of all, open ones included"),
    ],
)
def test_a_run_is_found(reference: str, found: str) -> None:
    assert find_run(reference, JOBS, RUNS).run_id == found


def test_a_beginning_of_two_runs_is_refused() -> None:
    with pytest.raises(OperatorError, match="beginning of 2 runs"):
        find_run("nightly-report-2026", JOBS, RUNS)


@pytest.mark.parametrize("reference", ["weekly-20270101T000000Z", "nothing", "", "@", "nightly-clean", "gon"])
def test_an_unknown_run_is_not_found(reference: str) -> None:
    with pytest.raises((NotFoundError, OperatorError)):
        find_run(reference, JOBS, RUNS)


def test_at_last_prefers_the_run_that_was_begun_last() -> None:
    runs = MemoryRuns()
    late = replace(make_run(), run_id="late", created_at=NOW + timedelta(hours=1))
    runs.add(make_run(), late)

    assert find_run("@last", JOBS, runs).run_id == "late"
