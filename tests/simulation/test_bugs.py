"""The bugs that the simulation found, each as small as it can be told."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from nightcrew.adapters.fleet import Ec2Fleet
from nightcrew.adapters.workers import Ec2Workers
from nightcrew.domain.job import Retry
from nightcrew.domain.lifecycle import (
    EndWorker,
    InterruptionWarned,
    Refused,
    ResultWritten,
    WorkerEnding,
    claim_launch,
    decide,
    launch_request,
)
from nightcrew.domain.plan import Refusal, RefusalKind
from nightcrew.domain.run import Outcome, RunStatus, due_at
from nightcrew.usecases.ports import EndStatus, LaunchRefused
from tests.builders import LIMITS, NOW, make_job, make_result, make_run, make_worker, running
from tests.simulation.plain import STORIES
from tests.simulation.world import World

SOLD_OUT = (Refusal("m7g.large/eu-west-1a", "InsufficientInstanceCapacity", "sold out"),)
SOON, LATER = NOW + timedelta(seconds=5), NOW + timedelta(minutes=3)


# Seed 1837 of the first version. Two deliveries of one retry called for the same worker: the first was refused (a
# quota) and went on to the next pool under the next token, while the second, under the first token, got a worker. Two
# workers of one attempt were alive. Whoever takes over a launch now claims it in the record before the call, and
# only a claim that no other call can overlap with may go on to another token.


@pytest.mark.parametrize("kind", RefusalKind)
def test_a_refusal_says_nothing_while_another_launcher_may_be_calling(kind: RefusalKind) -> None:
    run = claim_launch(make_run(), SOON, LIMITS).run

    decision = decide(run, Refused(1, 0, kind, SOLD_OUT), SOON, LIMITS)

    assert decision.run is run
    assert decision.commands == ()


def test_a_launcher_whose_predecessor_is_long_dead_goes_on_to_the_next_pool() -> None:
    run = claim_launch(make_run(), LATER, LIMITS).run

    decision = decide(run, Refused(1, 0, RefusalKind.CAPACITY, SOLD_OUT), LATER, LIMITS)

    assert decision.run.attempts[0].step == 1
    assert launch_request(decision.run).client_token != launch_request(run).client_token


def test_a_claim_moves_the_record_on_so_that_an_earlier_answer_is_stale() -> None:
    run = make_run()

    decision = claim_launch(run, SOON, LIMITS)

    assert decision.run != run
    assert decision.run.updated_at == SOON
    assert launch_request(decision.run) == launch_request(run)


def test_nothing_is_claimed_after_the_deadline() -> None:
    run = make_run()

    assert claim_launch(run, run.deadline, LIMITS).run is run


# Seed 69 without the fix. CreateFleet succeeded, without instances, because every pool was throttled; EC2 remembers the
# token of a call that succeeded, and repeated the empty answer every two minutes until the deadline.


def test_a_fleet_that_was_throttled_empty_is_asked_for_under_another_token() -> None:
    run = make_run()

    decision = decide(run, Refused(1, 0, RefusalKind.THROTTLED, (), is_token_spent=True), SOON, LIMITS)

    assert decision.run.status is RunStatus.LAUNCHING
    before, after = launch_request(run), launch_request(decision.run)
    assert after.client_token != before.client_token
    assert (after.launch, after.step, after.tags) == (before.launch, before.step, before.tags)


class _ThrottledPools:
    def create_fleet(self, **_: object) -> dict[str, object]:
        return {"Instances": [], "Errors": [{"ErrorCode": "RequestLimitExceeded", "ErrorMessage": "slow down"}]}


def test_the_adapter_tells_a_spent_token() -> None:
    answer = Ec2Fleet(_ThrottledPools()).launch(launch_request(make_run()))  # type: ignore[arg-type]

    assert isinstance(answer, LaunchRefused)
    assert answer.kind is RefusalKind.THROTTLED
    assert answer.is_token_spent


# Seed 664 without the fix. The result of a worker with on_finish=stop was handled only after the worker had been
# terminated; EC2 does not stop what is terminated, and that was reported as a worker that could not be ended.


def test_stopping_a_worker_that_is_terminated_already_is_no_failure() -> None:
    world = World(STORIES["success"])
    try:
        instance = world.ec2.launch(
            instance_type="m7g.large",
            zone="eu-west-1a",
            subnet="subnet-a",
            capacity_type="on-demand",
            tags=dict(launch_request(make_run()).tags),
        )
        world.ec2.terminate(instance)

        reports = Ec2Workers(world.client("ec2"), "nightcrew").stop([instance.instance_id])
    finally:
        world.close()

    assert reports[instance.instance_id].status is EndStatus.ENDED


# Seed 12668. Spot gave notice a minute before the deadline. The attempt was over, the worker left to EC2, which takes
# two minutes, and the next look at it came two minutes later: it outlived its deadline by more than one due sweep.


def test_a_worker_left_to_ec2_is_looked_at_when_its_deadline_passes() -> None:
    run = make_run()
    shortly_before = run.deadline - timedelta(seconds=50)
    stopping = replace(run, status=RunStatus.STOPPING, outcome=Outcome.INTERRUPTED, updated_at=shortly_before)

    assert due_at(stopping, LIMITS) == run.deadline


def test_no_worker_is_left_to_ec2_past_its_deadline() -> None:
    spot = make_worker(capacity_type="spot")
    retrying = make_run(make_job(retry=Retry(attempts=1, interruptions=0)))
    run = running(retrying, spot, retrying.deadline - timedelta(minutes=9))
    run = decide(
        run, InterruptionWarned(spot.instance_id, "terminate"), run.deadline - timedelta(minutes=1), LIMITS
    ).run

    gone = WorkerEnding(spot.instance_id, is_final=True)
    ended = decide(run, ResultWritten(spot.instance_id, make_result(run, Outcome.INTERRUPTED)), run.deadline, LIMITS)

    assert [type(command) for command in ended.commands] == [EndWorker]
    assert decide(ended.run, gone, run.deadline, LIMITS).run.status.is_terminal
