from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightcrew.domain import tags as tag
from nightcrew.domain.job import OnFinish
from nightcrew.domain.lifecycle import WorkerEnding, decide
from nightcrew.domain.plan import worker_tags
from nightcrew.domain.run import Outcome, Run
from nightcrew.domain.sweep import (
    Certainty,
    EndCause,
    LeftOver,
    SeenWorker,
    WorkerState,
    find_leaks,
    gone,
    is_left_over,
)
from tests.builders import LIMITS, NOW, launched, make_job, make_run, running

AFTER_GRACE = NOW + LIMITS.grace


def seen(run: Run, instance_id: str = "i-00000001", **changes) -> SeenWorker:
    tags = worker_tags(
        run.job,
        stack=run.stack,
        run_id=run.run_id,
        attempt=run.attempt.number,
        launch=run.attempt.launch,
        deadline=run.deadline,
    )
    worker = SeenWorker(instance_id=instance_id, state=WorkerState.RUNNING, launched_at=NOW, tags=dict(tags))
    return replace(worker, **changes)


def leaks(worker: SeenWorker, run: Run | None, now=AFTER_GRACE):
    return find_leaks([worker], {worker.tags.get(tag.RUN, ""): run}, now, LIMITS).leaks


def test_a_worker_at_work_is_no_leak():
    run = running(make_run())

    assert leaks(seen(run), run) == ()


def test_a_worker_past_its_deadline_tag_ends_whatever_the_record_says():
    run = running(make_run())
    worker = seen(run)

    found = find_leaks([worker], {}, run.deadline, LIMITS).leaks

    assert [leak.certainty for leak in found] == [Certainty.DEADLINE]


def test_a_worker_past_its_deadline_ends_although_it_is_young():
    run = running(make_run())
    worker = seen(run, launched_at=run.deadline)

    assert leaks(worker, run, run.deadline)


def test_a_garbled_deadline_gives_a_shorter_life_not_a_longer_one():
    run = running(make_run())
    worker = seen(run)
    worker = replace(worker, tags={**worker.tags, tag.DEADLINE: "tomorrow"})

    before = find_leaks([worker], {}, NOW + LIMITS.unreadable_deadline - timedelta(seconds=1), LIMITS)
    after = find_leaks([worker], {}, NOW + LIMITS.unreadable_deadline, LIMITS)

    assert before.leaks == ()
    assert after.leaks


def test_a_worker_without_a_record_is_an_orphan_after_the_grace():
    run = make_run()
    worker = seen(run)

    assert leaks(worker, None, AFTER_GRACE - timedelta(seconds=1)) == ()
    assert leaks(worker, None)


def test_an_unreadable_record_is_not_taken_for_a_missing_one():
    worker = seen(make_run())

    assert find_leaks([worker], {}, AFTER_GRACE, LIMITS).leaks == ()


def test_a_worker_whose_attempt_is_over_is_a_leak_after_the_grace():
    run = running(make_run())
    retrying = decide(run, WorkerEnding("i-00000001", is_final=True, outcome=Outcome.LOST), NOW, LIMITS).run

    assert leaks(seen(run), retrying, AFTER_GRACE - timedelta(seconds=1)) == ()
    assert leaks(seen(run), retrying)


def test_a_second_worker_of_one_attempt_is_a_leak():
    run = launched(make_run())

    assert leaks(seen(run, "i-00000002"), run)


def test_a_worker_that_the_launcher_has_not_recorded_yet_is_left_to_it():
    run = make_run()

    assert leaks(seen(run), run) == ()


@pytest.mark.parametrize("state", [WorkerState.SHUTTING_DOWN, WorkerState.TERMINATED])
def test_a_worker_that_is_gone_is_no_leak(state):
    run = running(make_run())

    assert leaks(seen(run, state=state), run, run.deadline + timedelta(days=9)) == ()


def test_a_kept_worker_is_left_stopped_for_its_time_and_then_terminated():
    run = running(make_run(make_job(on_finish=OnFinish.STOP)))
    stopped = seen(run, state=WorkerState.STOPPED)

    assert leaks(stopped, None, run.deadline + timedelta(hours=1)) == ()
    assert leaks(stopped, None, run.deadline + LIMITS.keep_stopped)[0].action is OnFinish.TERMINATE


def test_a_stopped_worker_that_nobody_wanted_to_keep_is_a_leak():
    run = running(make_run())
    lost = decide(run, WorkerEnding("i-00000001", is_final=True), NOW, LIMITS).run

    assert leaks(seen(run, state=WorkerState.STOPPED), lost)[0].action is OnFinish.TERMINATE


def test_a_lost_table_does_not_kill_a_whole_night():
    workers = [seen(make_run(run_id=f"job-{n}"), f"i-0000000{n}") for n in range(5)]

    findings = find_leaks(workers, {worker.tags[tag.RUN]: None for worker in workers}, AFTER_GRACE, LIMITS)

    assert findings.leaks == ()
    assert findings.distrusted
    assert len(findings.spared) == 5


def test_a_lost_table_does_not_excuse_anyone_from_the_deadline():
    workers = [seen(make_run(run_id=f"job-{n}"), f"i-0000000{n}") for n in range(5)]

    findings = find_leaks(workers, {worker.tags[tag.RUN]: None for worker in workers}, make_run().deadline, LIMITS)

    assert len(findings.leaks) == 5


def test_one_sweep_ends_only_so_many_on_the_word_of_the_records():
    alive = running(make_run())
    workers = [seen(make_run(run_id=f"job-{n}"), f"i-000000{n:02d}") for n in range(30)] + [seen(alive, "i-00000001")]
    runs = {worker.tags[tag.RUN]: None for worker in workers} | {alive.run_id: alive}

    findings = find_leaks(workers, runs, AFTER_GRACE, LIMITS)

    assert len(findings.leaks) == 10
    assert len(findings.spared) == 20


@given(st.integers(0, 40), st.sampled_from([s for s in WorkerState if not s.is_gone]), st.booleans(), st.booleans())
def test_nobody_outlives_deadline_and_keeping_time(hours, state, keep, known):
    run = running(make_run(make_job(on_finish=OnFinish.STOP if keep else OnFinish.TERMINATE)))
    worker = seen(run, state=state)
    now = run.deadline + timedelta(hours=hours)

    found = find_leaks([worker], {run.run_id: run if known else None}, now, LIMITS).leaks

    kept = keep and state is WorkerState.STOPPED
    assert bool(found) is not (kept and now < run.deadline + LIMITS.keep_stopped)


@pytest.mark.parametrize("cause", EndCause)
def test_every_cause_of_an_end_has_an_outcome_and_words(cause):
    worker = seen(make_run(), state=WorkerState.TERMINATED, end_cause=cause, end_reason="as AWS says it")

    event = gone("i-00000001", worker)

    assert event.is_final
    assert event.outcome is not Outcome.SUCCEEDED
    assert "as AWS says it" in event.message


def test_a_young_left_over_may_be_in_the_middle_of_a_launch():
    young = LeftOver(resource_id="vol-1", created_at=NOW)

    assert not is_left_over(young, NOW, LIMITS)
    assert is_left_over(young, AFTER_GRACE, LIMITS)


def test_an_interface_tells_its_age_by_its_deadline_only():
    interface = LeftOver(resource_id="eni-1", created_at=None, deadline=NOW)

    assert not is_left_over(interface, NOW - timedelta(seconds=1), LIMITS)
    assert is_left_over(interface, NOW, LIMITS)
