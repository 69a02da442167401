"""The promises, over the use cases and an EC2 in memory: cut at every step, delivered twice, told nothing."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from nightcrew.domain.plan import RefusalKind
from nightcrew.domain.run import Outcome, RunStatus
from nightcrew.domain.sweep import EndCause, LeftOver, WorkerState
from nightcrew.usecases.errors import AmbiguousLaunchError, UnknownJobError, UnreadableError
from nightcrew.usecases.ports import EndReport, EndStatus, WatchedJob
from nightcrew.usecases.watch import CancelAsked, InterruptionNotice, ResultAnnounced, StateChanged
from tests.builders import LIMITS, NOW, make_job
from tests.usecases.world import CrashError, World


def started(**job):
    world = World()
    world.launcher().tick(world.add_job(make_job(**job)))
    world.boot()
    return world


def only_run(world):
    (run,) = world.runs_.values()
    return run


def tell(world, *facts):
    known = world.watch().known(facts)
    return [world.watch().handle(fact, known) for fact in facts]


def assert_one_worker_an_attempt(world):
    tags = [(w.tags["nightcrew:run"], w.tags["nightcrew:attempt"]) for w in world.instances.values()]
    assert max(Counter(tags).values(), default=0) <= 1


def test_a_tick_becomes_a_record_then_a_worker_then_a_roster():
    world = started()

    order = [
        call for call in world.calls if call in {"runs.create", "fleet.launch", "exchange.put_roster", "runs.save"}
    ]
    assert order == ["runs.create", "fleet.launch", "exchange.put_roster", "runs.save"]
    assert only_run(world).status is RunStatus.STARTING


def test_the_same_tick_delivered_again_launches_nothing():
    world = started()

    world.launcher().tick(world.add_job())

    assert len(world.instances) == 1
    assert world.calls.count("fleet.launch") == 1


def steps_of_a_launch():
    world = World()
    world.launcher().tick(world.add_job())
    return len(world.calls)


@pytest.mark.parametrize("crash_after", range(steps_of_a_launch()))
def test_a_launcher_cut_at_any_step_and_delivered_again_leaves_one_worker(crash_after):
    world = World(crash_after=crash_after)
    tick = world.add_job()
    with pytest.raises(CrashError):
        world.launcher().tick(tick)
    world.crash_after = None

    world.launcher().tick(tick)

    assert len(world.instances) == 1
    assert only_run(world).status is RunStatus.STARTING
    assert list(world.rosters.values()) == list(world.instances)


@pytest.mark.parametrize("crash_after", range(steps_of_a_launch()))
def test_a_launcher_cut_at_any_step_and_never_delivered_again_leaves_no_worker(crash_after):
    world = World(crash_after=crash_after)
    with pytest.raises(CrashError):
        world.launcher().tick(world.add_job())
    world.crash_after = None

    world.sweep_until_quiet()

    assert world.living() == []
    assert_one_worker_an_attempt(world)
    assert all(run.status.is_terminal for run in world.runs_.values())


def test_an_answer_that_was_lost_is_asked_for_again_under_the_same_token():
    world = World(lose_answer=1)
    tick = world.add_job()
    with pytest.raises(AmbiguousLaunchError):
        world.launcher().tick(tick)

    world.launcher().tick(tick)

    assert len(world.instances) == 1
    assert only_run(world).attempts[0].worker.instance_id in world.instances


def test_full_spot_pools_fall_back_to_on_demand_in_the_same_invocation():
    world = World(refuse=[RefusalKind.CAPACITY])

    world.launcher().tick(world.add_job())

    (worker,) = world.instances.values()
    assert worker.capacity_type == "on-demand"


def test_a_throttled_launch_is_repeated_by_the_sweep_and_spends_no_attempt():
    world = World(refuse=[RefusalKind.THROTTLED])
    world.launcher().tick(world.add_job())
    assert not world.instances

    world.pass_time(minutes=2)
    world.due_sweep().sweep()
    world.serve_launch_requests()

    assert only_run(world).attempts[0].number == 1
    assert len(world.instances) == 1


def test_a_tick_that_comes_too_late_is_a_missed_record_and_a_notice():
    world = World()
    tick = world.add_job(make_job(schedule=_nightly()))
    world.pass_time(hours=2)

    world.launcher().tick(tick)

    assert only_run(world).status is RunStatus.MISSED
    assert world.instances == {}
    assert world.notices


def _nightly():
    from nightcrew.domain.job import JobSchedule

    return JobSchedule(expressions=("cron(30 2 * * ? *)",))


def test_a_tick_that_never_came_is_a_missed_record_and_a_notice():
    world = World()
    world.watched = [WatchedJob(job=make_job(schedule=_nightly()), tick=NOW)]

    tally = world.due_sweep().sweep()

    assert tally.missed == 1
    assert only_run(world).status is RunStatus.MISSED
    assert world.notices
    assert world.advanced == world.watched


def test_a_tick_that_came_is_not_missed():
    world = started()
    world.watched = [WatchedJob(job=make_job(schedule=_nightly()), tick=NOW)]

    assert world.due_sweep().sweep().missed == 0


def test_an_unknown_revision_is_an_error_that_says_what_to_do():
    world = World()
    tick = replace(world.add_job(), revision="ffffffffffff")

    with pytest.raises(UnknownJobError, match="apply"):
        world.launcher().tick(tick)


def test_events_bring_a_run_from_launch_to_its_closed_record():
    world = started()
    tell(world, StateChanged("i-00000001", WorkerState.RUNNING))
    assert only_run(world).attempts[0].running_at == NOW
    world.finish("i-00000001")

    tell(world, ResultAnnounced("i-00000001"))

    assert only_run(world).status is RunStatus.SUCCEEDED


def test_an_announced_result_that_is_not_there_changes_nothing():
    world = started()
    before = only_run(world)

    tell(world, ResultAnnounced("i-00000001"))

    assert only_run(world) == before


def test_events_out_of_order_and_twice_come_to_the_same_end():
    world = started()
    world.finish("i-00000001")
    facts = [
        StateChanged("i-00000001", WorkerState.TERMINATED),
        ResultAnnounced("i-00000001"),
        StateChanged("i-00000001", WorkerState.RUNNING),
        StateChanged("i-00000001", WorkerState.SHUTTING_DOWN),
    ]

    tell(world, *facts, *reversed(facts))

    assert only_run(world).status is RunStatus.SUCCEEDED
    assert len(world.instances) == 1


def test_an_event_of_a_foreign_instance_costs_one_batched_read_and_no_call_to_ec2():
    world = started()
    world.calls.clear()

    tell(world, *(StateChanged(f"i-{n:08x}", WorkerState.RUNNING) for n in range(0x100, 0x180)))

    assert Counter(world.calls) == {"runs.runs_of": 1}


def test_when_every_event_is_lost_the_sweep_completes_the_run():
    world = started()
    world.finish("i-00000001")

    world.sweep_until_quiet()

    assert only_run(world).status is RunStatus.SUCCEEDED


def test_when_every_event_is_lost_a_dead_worker_is_noticed_and_replaced():
    world = started()
    world.end("i-00000001", WorkerState.TERMINATED, EndCause.NO_CAPACITY)
    for _ in range(15):
        world.pass_time(minutes=1)
        world.due_sweep().sweep()
        world.serve_launch_requests()

    run = only_run(world)
    assert run.attempts[0].outcome is Outcome.NO_CAPACITY
    assert len(world.living()) == 1
    assert_one_worker_an_attempt(world)


def test_a_hung_guest_ends_at_its_timeout_without_any_event():
    world = started()

    world.sweep_until_quiet()

    run = only_run(world)
    assert {a.outcome for a in run.attempts} == {Outcome.TIMED_OUT}
    assert run.status is RunStatus.FAILED
    assert world.notices
    assert world.now_ <= run.deadline + timedelta(minutes=11)


def test_with_the_table_lost_every_worker_ends_within_a_sweep_of_its_deadline():
    world = started()
    deadline = only_run(world).deadline
    world.runs_.clear()
    world.rows.clear()
    world.now_ = deadline

    world.inventory_sweep().sweep()

    assert world.living() == []


def test_an_unreadable_table_ends_nobody_before_the_deadline():
    world = started()
    world.pass_time(minutes=30)
    world.unreadable = {"runs.get_many"}

    tally = world.inventory_sweep().sweep()

    assert len(world.living()) == 1
    assert tally.failures


def test_an_unreadable_inventory_is_not_an_empty_one():
    world = started()
    world.unreadable = {"workers.all_ours"}

    with pytest.raises(UnreadableError):
        world.inventory_sweep().sweep()

    assert only_run(world).status is RunStatus.STARTING


def test_a_failed_read_of_ec2_does_not_make_a_worker_lost():
    world = started()
    world.pass_time(minutes=6)
    world.unreadable = {"workers.describe"}

    tally = world.due_sweep().sweep()

    assert tally.failures
    assert only_run(world).attempts[0].outcome is None


def test_one_item_that_fails_does_not_stop_the_sweep():
    world = started()
    other = world.add_job(make_job(name="other"))
    world.launcher().tick(other)
    world.runs_[f"other-{NOW:%Y%m%dT%H%M%SZ}"] = replace(
        world.runs_[f"other-{NOW:%Y%m%dT%H%M%SZ}"], attempts=(), status=RunStatus.RUNNING
    )
    world.finish("i-00000001")
    world.pass_time(minutes=6)

    tally = world.due_sweep().sweep()

    assert len(tally.failures) == 1
    assert world.runs_[f"nightly-report-{NOW:%Y%m%dT%H%M%SZ}"].status is RunStatus.SUCCEEDED


def test_a_worker_that_may_not_be_ended_is_counted_and_stays_on_the_list():
    world = started()
    world.now_ = only_run(world).deadline
    world.terminate = lambda ids: {i: EndReport(EndStatus.DENIED, "UnauthorizedOperation") for i in ids}

    tally = world.inventory_sweep().sweep()

    assert tally.denied == 1
    assert tally.failures


def test_a_volume_left_behind_is_deleted_when_it_is_old_enough():
    world = started()
    world.left = {"vol-1": LeftOver(resource_id="vol-1", created_at=NOW)}

    young = world.inventory_sweep().sweep()
    world.pass_time(minutes=10)
    old = world.inventory_sweep().sweep()

    assert young.left_overs == 0
    assert old.left_overs == 1
    assert world.left == {}


def test_nothing_due_costs_one_query():
    world = started()
    world.calls.clear()

    world.due_sweep().sweep()

    assert world.calls == ["due"]


def test_cancelling_ends_the_worker_and_the_run():
    world = started()

    tell(world, CancelAsked(only_run(world).run_id, "ada"))

    assert only_run(world).status is RunStatus.CANCELLED
    assert world.living() == []


def test_a_spot_worker_under_notice_that_reports_is_replaced():
    world = started()
    tell(world, InterruptionNotice("i-00000001", "terminate"))
    world.finish("i-00000001", Outcome.INTERRUPTED, None)
    tell(world, ResultAnnounced("i-00000001"))
    world.pass_time(minutes=2)

    world.due_sweep().sweep()
    world.serve_launch_requests()

    assert [a.outcome for a in only_run(world).attempts] == [Outcome.INTERRUPTED, None]
    assert len(world.living()) == 1


def test_a_record_changed_meanwhile_is_decided_about_again():
    world = started()
    world.finish("i-00000001")
    real, raced = world.save, []

    def save(run):
        if not raced:
            raced.append(run)
            real(replace(world.runs_[run.run_id], updated_at=world.now_))
        return real(run)

    world.save = save

    tell(world, ResultAnnounced("i-00000001"))

    assert only_run(world).status in {RunStatus.SUCCEEDED, RunStatus.STOPPING}


def calls_of_an_end():
    world = started()
    world.finish("i-00000001", Outcome.FAILED, 3)
    before = len(world.calls)
    tell(world, ResultAnnounced("i-00000001"))
    return len(world.calls) - before


@pytest.mark.parametrize("step", range(calls_of_an_end()))
def test_a_lifecycle_function_cut_at_any_step_is_finished_by_the_sweep(step):
    world = started(retry=replace(make_job().retry, attempts=1))
    world.finish("i-00000001", Outcome.FAILED, 3)
    world.instances["i-00000001"] = replace(world.instances["i-00000001"], state=WorkerState.RUNNING)
    world.crash_after = len(world.calls) + step
    with pytest.raises(CrashError):
        tell(world, ResultAnnounced("i-00000001"))
    world.crash_after = None

    world.sweep_until_quiet()

    run = only_run(world)
    assert run.status is RunStatus.FAILED
    assert run.outcome is Outcome.FAILED
    assert run.attempts[0].exit_code == 3
    assert world.notices
    assert LIMITS.grace > timedelta(0)
