"""A lost record is written again as it must have been, and nothing is launched or doubted away by it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightcrew.domain.job import CapacityType
from nightcrew.domain.plan import worker_tags
from nightcrew.domain.rebuild import BrokenRoster, PastResult, Roster, closed, contradiction, damage, reopened
from nightcrew.domain.result import REPORTABLE
from nightcrew.domain.run import Outcome, Run, RunStatus, due_at
from nightcrew.domain.sweep import EndCause, SeenWorker, WorkerState
from tests.builders import LIMITS, NOW, launched, make_job, make_result, make_run, make_worker

LAUNCHED_AT = NOW + timedelta(minutes=1)
LATER = NOW + timedelta(hours=1)
WORKER = make_worker()


def roster_of(run: Run, at: datetime = LAUNCHED_AT) -> Roster:
    assert run.attempt is not None
    return Roster(
        launch=run.attempt.launch,
        run=replace(run, nonce="", version=1),
        instance_ids=(WORKER.instance_id,),
        written_at=at,
    )


def seen_of(run: Run, /, state: WorkerState = WorkerState.RUNNING, **tags: str) -> SeenWorker:
    assert run.attempt is not None
    given_tags = worker_tags(
        run.job,
        stack=run.stack,
        run_id=run.run_id,
        attempt=run.attempt.number,
        launch=run.attempt.launch,
        deadline=run.deadline,
    )
    return SeenWorker(
        instance_id=WORKER.instance_id,
        state=state,
        launched_at=LAUNCHED_AT,
        tags={**dict(given_tags), **{f"nightcrew:{name}": value for name, value in tags.items()}},
        instance_type=WORKER.instance_type,
        capacity_type=WORKER.capacity_type,
        zone=WORKER.zone,
    )


def test_the_record_of_a_living_worker_is_the_one_that_was_lost() -> None:
    run = make_run()

    rebuilt = reopened(roster_of(run), seen_of(run), LATER, LIMITS)

    lost = launched(run, WORKER, now=LAUNCHED_AT)
    assert replace(rebuilt, history=lost.history, updated_at=lost.updated_at, nonce=lost.nonce) == lost
    assert rebuilt.history[-1].text == "record rebuilt from tags and roster"


def test_its_timeout_counts_from_the_launch_and_not_from_the_rebuilding() -> None:
    run = make_run()

    rebuilt = reopened(roster_of(run), seen_of(run), LATER, LIMITS)

    assert rebuilt.attempts[0].launched_at == LAUNCHED_AT
    assert due_at(rebuilt, LIMITS) == min(LATER + LIMITS.check_every, LAUNCHED_AT + run.job.timeout + 2 * LIMITS.grace)


@pytest.mark.parametrize(
    ("outcome", "status"), [(Outcome.SUCCEEDED, RunStatus.SUCCEEDED), (Outcome.FAILED, RunStatus.FAILED)]
)
def test_the_record_of_a_worker_that_is_gone_is_closed_as_its_result_says(outcome: Outcome, status: RunStatus) -> None:
    run = make_run()
    past = PastResult(make_result(run, outcome, 3, "as told"), NOW + timedelta(minutes=30))

    rebuilt = closed(roster_of(run), None, past, LATER, LIMITS)

    assert (rebuilt.status, rebuilt.outcome, rebuilt.message) == (status, outcome, "as told")
    assert (rebuilt.ended_at, rebuilt.attempts[0].exit_code) == (past.at, 3)
    assert rebuilt.attempts[0].worker is not None
    assert rebuilt.attempts[0].worker.instance_id == WORKER.instance_id
    assert rebuilt.attempts[0].worker.capacity_type == CapacityType.SPOT
    assert rebuilt.job == run.job
    assert due_at(rebuilt, LIMITS) is None


def test_without_a_result_it_is_lost_with_the_cause_that_aws_still_tells() -> None:
    run = make_run()
    seen = replace(seen_of(run, WorkerState.TERMINATED), end_cause=EndCause.INTERRUPTION)

    rebuilt = closed(roster_of(run), seen, None, LATER, LIMITS)

    assert (rebuilt.status, rebuilt.outcome) == (RunStatus.FAILED, Outcome.INTERRUPTED)


def test_the_result_of_another_launch_is_not_taken_for_its_own() -> None:
    run = make_run()
    past = PastResult(replace(make_result(run), launch="f" * 32), LATER)

    rebuilt = closed(roster_of(run), None, past, LATER, LIMITS)

    assert rebuilt.outcome is Outcome.LOST


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        ({"run": "another-run"}, "nightcrew:run"),
        ({"attempt": "2"}, "nightcrew:attempt"),
        ({"job": "another"}, "nightcrew:job"),
        ({"stack": "another"}, "nightcrew:stack"),
        ({"launch": "e" * 32}, "another launch"),
    ],
)
def test_a_roster_that_contradicts_the_tags_does_not_speak_for_the_worker(tags: dict[str, str], told: str) -> None:
    run = make_run()

    assert told in contradiction(roster_of(run), seen_of(run, **tags), "nightcrew")


def test_a_roster_of_another_worker_or_none_does_not_either() -> None:
    run = make_run()
    other = replace(seen_of(run), instance_id="i-0000000f")

    assert contradiction(roster_of(run), other, "nightcrew") == "its roster names another worker"
    assert contradiction(None, seen_of(run), "nightcrew") == "it has no roster"
    assert contradiction(BrokenRoster("", "garbled"), seen_of(run), "nightcrew") == "garbled"
    assert contradiction(roster_of(run), seen_of(run), "nightcrew") == ""


@pytest.mark.parametrize(
    "roster",
    [
        roster_of(make_run(stack="another")),
        roster_of(launched(make_run())),
        replace(roster_of(make_run()), instance_ids=()),
        replace(roster_of(make_run()), launch="e" * 32),
        replace(roster_of(make_run()), run=make_run(attempts=())),
    ],
)
def test_what_no_launcher_of_this_stack_wrote_is_damaged(roster: Roster) -> None:
    assert damage(roster, make_run().attempts[0].launch, "nightcrew")


@given(
    outcome=st.sampled_from(sorted(REPORTABLE)) | st.none(),
    cancelled=st.booleans(),
    minutes=st.integers(min_value=0, max_value=60 * 24 * 14),
    is_seen=st.booleans(),
)
def test_a_record_that_is_rebuilt_for_a_worker_that_is_gone_never_launches_another(
    outcome: Outcome | None, cancelled: bool, minutes: int, is_seen: bool
) -> None:
    run = make_run(make_job(), cancelled_by="ann" if cancelled else "")
    now = LAUNCHED_AT + timedelta(minutes=minutes)
    past = PastResult(make_result(run, outcome), now) if outcome else None
    seen = seen_of(run, WorkerState.TERMINATED) if is_seen else None

    rebuilt = closed(roster_of(run), seen, past, now, LIMITS)

    assert rebuilt.status.is_terminal
    assert len(rebuilt.attempts) == 1
    assert due_at(rebuilt, LIMITS) is None
    assert (rebuilt.status is RunStatus.CANCELLED) == cancelled
