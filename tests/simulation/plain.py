"""Nights without chance: one clean story each, to be cut at every single outside call."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

from nightcrew.domain.job import Backoff, CapacityType, Compute, Job, JobSchedule, OnFinish, Retry
from tests.simulation.guests import Behaviour
from tests.simulation.night import Night, live
from tests.simulation.scenario import Deed, Scenario


def _job(**changes: object) -> Job:
    job = Job(
        name="job-0",
        command="./work",
        compute=Compute(image="ami-12345678", instance_types=("m7g.large",), capacity_type=CapacityType.ON_DEMAND),
        timeout=timedelta(minutes=5),
        deadline=timedelta(minutes=20),
        schedule=JobSchedule(expressions=("cron(2 0 16 1 ? 2026)",), start_within=timedelta(minutes=5)),
        retry=Retry(attempts=2, interruptions=1, backoff=Backoff(initial=timedelta(seconds=10))),
    )
    return replace(job, **changes)  # type: ignore[arg-type]


def _spot(job: Job, capacity_type: CapacityType) -> Job:
    return replace(job, compute=replace(job.compute, capacity_type=capacity_type))


def _story(name: str, behaviour: Behaviour, job: Job | None = None, **more: object) -> Scenario:
    scenario = Scenario(
        seed=name, jobs=(job or _job(),), behaviours={behaviour.value: 1.0}, work=(90.0, 90.0), page_size=1
    )
    return replace(scenario, **more)  # type: ignore[arg-type]


STORIES = {
    story.seed: story
    for story in (
        _story("success", Behaviour.SUCCEEDS),
        _story("failure, then a second attempt", Behaviour.FAILS),
        _story("the worker hangs to its deadline", Behaviour.HANGS, timers_fail=1.0),
        _story("the worker is gone without a result", Behaviour.POWERS_OFF),
        _story("the worker is kept, stopped", Behaviour.SUCCEEDS, _job(on_finish=OnFinish.STOP)),
        _story(
            "Spot takes the worker back",
            Behaviour.SUCCEEDS,
            _spot(_job(), CapacityType.SPOT),
            work=(280.0, 280.0),
            deeds=(Deed(240.0, "interrupt_all"),),
        ),
        _story("Spot is sold out", Behaviour.SUCCEEDS, _spot(_job(), CapacityType.SPOT_THEN_ON_DEMAND), dry=1.0),
        _story("cancelled while it runs", Behaviour.HANGS, deeds=(Deed(260.0, "cancel"),)),
        _story(
            "cancelled while it is launched",
            Behaviour.SUCCEEDS,
            deeds=tuple(Deed(120.0 + second, "cancel") for second in range(60)),
        ),
        _story("the tick is lost", Behaviour.SUCCEEDS, rates={"tick_lost": 1.0}),
        _story("every event is lost", Behaviour.SUCCEEDS, rates={"event_lost": 1.0}),
        _story("volumes are left behind", Behaviour.SUCCEEDS, rates={"left_behind": 1.0}),
        _story(
            "every message comes twice",
            Behaviour.FAILS,
            rates={"tick_twice": 1.0, "event_twice": 1.0, "async_twice": 1.0},
        ),
        _story("launches are throttled", Behaviour.SUCCEEDS, rates={"throttled_pool": 0.7}),
    )
}


def cuts(story: Scenario) -> Iterator[Scenario]:
    """The story with one invocation dying at each of its outside calls: before it, and right after it acted."""
    whole = live(story)
    for call in range(1, whole.calls + 1):
        yield replace(story, cut_before=call)
        yield replace(story, cut_after=call)


def cut_everywhere(story: Scenario) -> Iterator[tuple[Scenario, Night]]:
    for cut in cuts(story):
        yield cut, live(cut)
