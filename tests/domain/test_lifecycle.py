from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightcrew.domain.job import CapacityType, OnFinish, Retry
from nightcrew.domain.lifecycle import (
    CancelRequested,
    EndWorker,
    InterruptionWarned,
    LaunchAbsent,
    Launched,
    Refused,
    RequestLaunch,
    ResultWritten,
    SendNotice,
    TimePassed,
    WorkerEnding,
    WorkerNoted,
    WorkerRunning,
    begin_retry,
    decide,
    launch_request,
    notice_sent,
)
from nightcrew.domain.plan import Refusal, RefusalKind
from nightcrew.domain.run import Outcome, Run, RunStatus, due_at, timeout_at
from tests.builders import LIMITS, NOW, launched, make_job, make_result, make_run, make_worker, running

SPOT_WORKER = make_worker(capacity_type="spot")


def ended(run: Run, instance_id: str = "i-00000001") -> Run:
    return decide(run, WorkerEnding(instance_id, is_final=True), NOW, LIMITS).run


def test_a_launched_worker_starts_the_run():
    decision = decide(make_run(), Launched(1, make_worker()), NOW, LIMITS)

    assert decision.run.status is RunStatus.STARTING
    assert decision.run.attempt_of("i-00000001") is not None
    assert decision.commands == ()


def test_the_same_launch_answered_twice_changes_nothing():
    run = launched(make_run())

    decision = decide(run, Launched(1, make_worker("i-00000002")), NOW, LIMITS)

    assert decision.run is run


def test_a_running_worker_brings_its_details():
    worker = make_worker(private_address="10.0.0.7", public_address="203.0.113.7")

    decision = decide(launched(make_run()), WorkerRunning(worker), NOW, LIMITS)

    assert decision.run.status is RunStatus.RUNNING
    assert decision.run.attempts[0].worker == worker


def test_success_ends_the_worker_and_then_closes_the_record():
    run = running(make_run())

    decision = decide(run, ResultWritten("i-00000001", make_result(run)), NOW, LIMITS)
    closed = decide(decision.run, WorkerEnding("i-00000001", is_final=False), NOW, LIMITS)

    assert decision.run.status is RunStatus.STOPPING
    assert isinstance(decision.commands[0], EndWorker)
    assert closed.run.status is RunStatus.SUCCEEDED
    assert closed.commands == ()
    assert due_at(closed.run, LIMITS) is None


def test_a_run_is_not_closed_while_a_worker_is_left():
    run = running(make_run())

    decision = decide(run, ResultWritten("i-00000001", make_result(run)), NOW, LIMITS)

    assert not decision.run.status.is_terminal
    assert due_at(decision.run, LIMITS) is not None


def test_a_failed_command_is_tried_again_on_a_fresh_worker():
    run = running(make_run())

    decision = decide(run, ResultWritten("i-00000001", make_result(run, Outcome.FAILED, 3)), NOW, LIMITS)
    retry = begin_retry(decision.run, decision.run.retry_at)

    assert decision.run.status is RunStatus.RETRYING
    assert decision.run.attempts[0].exit_code == 3
    assert decision.commands == (EndWorker("i-00000001", OnFinish.TERMINATE, decision.reason),)
    assert retry.run.status is RunStatus.LAUNCHING
    assert retry.run.attempt.number == 2
    assert retry.run.attempt.launch != run.attempt.launch


def test_the_attempts_budget_counts_the_first_attempt():
    run = running(make_run(make_job(retry=Retry(attempts=1))))

    decision = decide(run, ResultWritten("i-00000001", make_result(run, Outcome.FAILED, 3, "exited 3")), NOW, LIMITS)
    closed = decide(decision.run, WorkerEnding("i-00000001", is_final=True), NOW, LIMITS)

    assert closed.run.status is RunStatus.FAILED
    assert closed.run.outcome is Outcome.FAILED
    assert isinstance(closed.commands[0], SendNotice)
    assert due_at(closed.run, LIMITS) is not None
    assert due_at(notice_sent(closed.run), LIMITS) is None


@pytest.mark.parametrize("outcome", [Outcome.LOST, Outcome.INTERRUPTED, Outcome.NO_CAPACITY])
def test_an_interruption_does_not_spend_the_jobs_own_attempts(outcome):
    run = running(make_run(make_job(retry=Retry(attempts=1, interruptions=1))))

    decision = decide(run, WorkerEnding("i-00000001", is_final=True, outcome=outcome), NOW, LIMITS)

    assert decision.run.status is RunStatus.RETRYING
    assert decision.run.attempts[0].outcome is outcome


def test_the_interruptions_budget_ends_too():
    run = make_run(make_job(retry=Retry(attempts=3, interruptions=1)))
    for number in (1, 2):
        worker = make_worker(f"i-0000000{number}")
        run = running(run, worker)
        run = decide(run, WorkerEnding(worker.instance_id, is_final=True), NOW, LIMITS).run
        if run.status is RunStatus.RETRYING:
            run = begin_retry(run, run.retry_at).run

    assert run.status is RunStatus.FAILED
    assert run.outcome is Outcome.LOST


def test_a_worker_that_is_shutting_down_may_still_report():
    run = running(make_run())

    waiting = decide(run, WorkerEnding("i-00000001", is_final=False), NOW, LIMITS)
    decision = decide(waiting.run, ResultWritten("i-00000001", make_result(run)), NOW, LIMITS)

    assert waiting.run.attempts[0].outcome is None
    assert decision.run.status is RunStatus.SUCCEEDED
    assert decision.commands == ()


def test_a_worker_that_is_gone_without_a_result_is_lost_never_succeeded():
    decision = decide(running(make_run()), WorkerEnding("i-00000001", is_final=True), NOW, LIMITS)

    assert decision.run.attempts[0].outcome is Outcome.LOST


def test_a_result_of_another_launch_counts_for_nothing():
    run = running(make_run())
    forged = replace(make_result(run), launch="f" * 32)

    decision = decide(run, ResultWritten("i-00000001", forged), NOW, LIMITS)

    assert decision.run is run


def test_a_result_of_a_foreign_instance_counts_for_nothing():
    run = running(make_run())

    decision = decide(run, ResultWritten("i-0000000f", make_result(run)), NOW, LIMITS)

    assert decision.run is run


def test_a_late_result_of_an_earlier_attempt_changes_nothing():
    first = running(make_run())
    retrying = decide(first, WorkerEnding("i-00000001", is_final=True), NOW, LIMITS).run
    second = launched(begin_retry(retrying, retrying.retry_at).run, make_worker("i-00000002"))

    decision = decide(second, ResultWritten("i-00000001", make_result(first)), NOW, LIMITS)

    assert decision.run is second


def test_full_pools_lead_to_the_next_capacity_type_under_a_new_token():
    run = make_run()
    refused = Refused(1, 0, RefusalKind.CAPACITY, (Refusal("a pool", "InsufficientInstanceCapacity", "x"),))

    decision = decide(run, refused, NOW, LIMITS)

    assert decision.run.status is RunStatus.LAUNCHING
    assert decision.run.attempt.step == 1
    assert launch_request(decision.run).client_token != launch_request(run).client_token
    assert launch_request(decision.run).step.capacity_type is CapacityType.ON_DEMAND


def test_throttling_repeats_the_same_call_and_spends_nothing():
    run = make_run()

    decision = decide(run, Refused(1, 0, RefusalKind.THROTTLED, ()), NOW + timedelta(seconds=5), LIMITS)

    assert decision.run.status is RunStatus.LAUNCHING
    assert launch_request(decision.run) == launch_request(run)


def test_a_wrong_configuration_is_not_repeated():
    run = make_run()
    refused = Refused(1, 0, RefusalKind.CONFIGURATION, (Refusal("a pool", "InvalidAMIID.NotFound", "no such image"),))

    decision = decide(run, refused, NOW, LIMITS)

    assert decision.run.status is RunStatus.FAILED
    assert decision.run.outcome is Outcome.LAUNCH_FAILED
    assert "no such image" in decision.run.message


def test_a_refusal_of_an_earlier_step_is_ignored():
    run = decide(make_run(), Refused(1, 0, RefusalKind.CAPACITY, ()), NOW, LIMITS).run

    decision = decide(run, Refused(1, 0, RefusalKind.CAPACITY, ()), NOW, LIMITS)

    assert decision.run is run


def test_a_spot_worker_under_notice_is_left_to_ec2_and_ended_when_ec2_does_not():
    run = running(make_run(), SPOT_WORKER)
    warned = decide(run, InterruptionWarned("i-00000001", "terminate"), NOW, LIMITS).run
    result = make_result(run, Outcome.INTERRUPTED, None)

    decision = decide(warned, ResultWritten("i-00000001", result), NOW + timedelta(seconds=20), LIMITS)

    assert decision.commands == ()
    assert decision.run.status is RunStatus.RETRYING


def test_notice_without_a_result_ends_the_attempt_in_the_end():
    run = running(make_run(), SPOT_WORKER)
    warned = decide(run, InterruptionWarned("i-00000001", "terminate"), NOW, LIMITS).run
    later = due_at(warned, LIMITS)

    decision = decide(warned, TimePassed(), later, LIMITS)

    assert later <= NOW + LIMITS.interruption_notice
    assert decision.run.attempts[0].outcome is Outcome.INTERRUPTED
    assert isinstance(decision.commands[0], EndWorker)


def test_a_hung_worker_is_ended_at_its_timeout():
    run = running(make_run())
    then = timeout_at(run, run.attempt, LIMITS)

    before = decide(run, TimePassed(), then - timedelta(seconds=1), LIMITS)
    decision = decide(run, TimePassed(), then, LIMITS)

    assert before.run.attempts[0].outcome is None
    assert decision.run.attempts[0].outcome is Outcome.TIMED_OUT
    assert isinstance(decision.commands[0], EndWorker)


def test_the_deadline_counts_from_the_tick_and_is_final():
    run = running(make_run(make_job(timeout=timedelta(hours=5))))

    decision = decide(run, TimePassed(), NOW + timedelta(hours=5), LIMITS)

    assert decision.run.outcome is Outcome.DEADLINE_EXCEEDED
    assert isinstance(decision.commands[0], EndWorker)


def test_no_retry_begins_that_the_deadline_leaves_no_time_for():
    run = running(make_run(make_job(deadline=timedelta(minutes=70), timeout=timedelta(hours=1))))

    decision = decide(run, WorkerEnding("i-00000001", is_final=True), NOW + timedelta(minutes=69), LIMITS)

    assert decision.run.status is RunStatus.FAILED


def test_a_launch_cut_short_is_asked_for_again():
    decision = decide(make_run(), TimePassed(), NOW + LIMITS.grace, LIMITS)

    assert decision.commands == (RequestLaunch(make_run().run_id),)


def test_a_launch_that_left_no_worker_ends_at_the_deadline():
    decision = decide(make_run(), LaunchAbsent(1), NOW + timedelta(hours=5), LIMITS)

    assert decision.run.status is RunStatus.FAILED
    assert decision.run.outcome is Outcome.DEADLINE_EXCEEDED


def test_cancelling_a_running_run_ends_its_worker():
    decision = decide(running(make_run()), CancelRequested("ada"), NOW, LIMITS)

    assert decision.run.outcome is Outcome.CANCELLED
    assert isinstance(decision.commands[0], EndWorker)
    assert ended(decision.run).status is RunStatus.CANCELLED


def test_cancelling_during_the_launch_ends_the_worker_as_soon_as_it_is_known():
    cancelled = decide(make_run(), CancelRequested("ada"), NOW, LIMITS).run

    decision = decide(cancelled, Launched(1, make_worker()), NOW, LIMITS)

    assert cancelled.status is RunStatus.LAUNCHING
    assert decision.run.status is RunStatus.STOPPING
    assert isinstance(decision.commands[0], EndWorker)


def test_cancelling_a_waiting_run_closes_it_without_another_attempt():
    waiting = decide(running(make_run()), WorkerEnding("i-00000001", is_final=True), NOW, LIMITS).run

    decision = decide(waiting, CancelRequested("ada"), NOW, LIMITS)

    assert decision.run.status is RunStatus.CANCELLED
    assert len(decision.run.attempts) == 1


def test_a_worker_that_finished_is_stopped_when_the_job_wants_that():
    run = running(make_run(make_job(on_finish=OnFinish.STOP, capacity_type=CapacityType.ON_DEMAND)))

    decision = decide(run, ResultWritten("i-00000001", make_result(run)), NOW, LIMITS)

    assert decision.commands[0].on_finish is OnFinish.STOP


def test_a_hung_worker_is_not_worth_keeping():
    run = running(make_run(make_job(on_finish=OnFinish.STOP, capacity_type=CapacityType.ON_DEMAND)))

    decision = decide(run, TimePassed(), NOW + timedelta(hours=5), LIMITS)

    assert decision.commands[0].on_finish is OnFinish.TERMINATE


def test_a_worker_that_does_not_end_is_ended_again():
    run = running(make_run())
    stopping = decide(run, ResultWritten("i-00000001", make_result(run)), NOW, LIMITS).run

    decision = decide(stopping, TimePassed(), due_at(stopping, LIMITS), LIMITS)

    assert isinstance(decision.commands[0], EndWorker)


def test_history_is_bounded_and_keeps_its_first_line():
    run = running(make_run())
    first = run.history[0]
    for number in range(500):
        run = decide(run, WorkerNoted("i-00000001", f"note {number}"), NOW, LIMITS).run

    assert len(run.history) <= 80
    assert run.history[0] == first
    assert run.history[-1].text == "note 499"


INSTANCE_IDS = st.sampled_from(["i-00000001", "i-00000002", "i-00000003", "i-0000000f"])
EVENTS = st.one_of(
    st.builds(Launched, st.integers(1, 4), st.builds(make_worker, INSTANCE_IDS)),
    st.builds(Refused, st.integers(1, 4), st.integers(0, 1), st.sampled_from(RefusalKind), st.just(())),
    st.builds(LaunchAbsent, st.integers(1, 4)),
    st.builds(WorkerRunning, st.builds(make_worker, INSTANCE_IDS)),
    st.builds(WorkerEnding, INSTANCE_IDS, is_final=st.booleans()),
    st.builds(InterruptionWarned, INSTANCE_IDS, st.just("terminate")),
    st.sampled_from(list(Outcome)).map(lambda outcome: ("result", outcome)),
    st.just(CancelRequested("ada")),
    st.just(TimePassed()),
    st.just("retry"),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(EVENTS, INSTANCE_IDS, st.integers(0, 3600)), max_size=30))
def test_whatever_comes_in_whatever_order_no_worker_is_left_behind(steps):
    run, now = make_run(), NOW
    for event, instance_id, seconds in steps:
        now += timedelta(seconds=seconds)
        before = run
        if event == "retry":
            run = begin_retry(run, now).run
        else:
            if isinstance(event, tuple):
                event = ResultWritten(instance_id, make_result(run, event[1]))
            run = decide(run, event, now, LIMITS).run
        assert_sound(before, run)
    assert run.status.is_terminal or due_at(run, LIMITS) is not None


def assert_sound(before: Run, after: Run) -> None:
    if before.status.is_terminal:
        assert after.status is before.status, "a terminal status never changes"
        assert after.outcome is before.outcome
    if after.status.is_terminal:
        assert not after.unended_workers, "a closed record has no worker left"
        assert after.outcome is not None
        assert after.message
    workers = [a.worker.instance_id for a in before.attempts if a.worker]
    assert [a.worker.instance_id for a in after.attempts if a.worker][: len(workers)] == workers, "a worker stays known"
    assert [a.number for a in after.attempts] == list(range(1, len(after.attempts) + 1))
    assert all(a.outcome for a in after.attempts[:-1]), "an attempt begins only after the one before has ended"
    if after.outcome is Outcome.SUCCEEDED:
        assert after.attempts[-1].outcome is Outcome.SUCCEEDED


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(EVENTS, INSTANCE_IDS), max_size=15))
def test_every_run_ends_when_nothing_but_the_sweep_is_left(steps):
    run, now = make_run(), NOW
    for event, instance_id in steps:
        if event != "retry":
            event = ResultWritten(instance_id, make_result(run, event[1])) if isinstance(event, tuple) else event
            run = decide(run, event, now, LIMITS).run
    for _ in range(200):
        due = due_at(run, LIMITS)
        if due is None:
            break
        now = max(now, due)
        run = sweep_once(run, now)

    assert run.status.is_terminal
    assert now <= run.deadline + 3 * LIMITS.grace + timedelta(minutes=5)


def sweep_once(run: Run, now):
    """What the due sweep does with a world in which no launch ever succeeds and every worker can be ended."""
    if run.status is RunStatus.LAUNCHING and (run.cancelled_by or now >= run.deadline):
        return decide(run, LaunchAbsent(run.attempt.number), now, LIMITS).run
    if run.status is RunStatus.RETRYING and now >= run.retry_at:
        return begin_retry(run, now).run
    decision = decide(run, TimePassed(), now, LIMITS)
    run = decision.run
    for command in decision.commands:
        if isinstance(command, EndWorker):
            run = decide(run, WorkerEnding(command.instance_id, is_final=True), now, LIMITS).run
        elif isinstance(command, SendNotice):
            run = notice_sent(run)
    return run
