from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from nightcrew.domain.job import JobSchedule
from nightcrew.domain.sweep import LeftOver, SeenWorker, WorkerState
from nightcrew.usecases.errors import SweepError, UnreadableError
from nightcrew.usecases.ports import EndReport, EndStatus, WatchedJob
from tests.builders import NOW, make_job
from tests.functions.conftest import Functions
from tests.functions.handlers import NAMESPACE

STRAY = SeenWorker(
    instance_id="i-0000dead",
    state=WorkerState.RUNNING,
    launched_at=NOW - timedelta(hours=9),
    tags={"nightcrew:stack": "nightcrew", "nightcrew:deadline": "2026-01-16T00:00:00Z", "nightcrew:run": "old"},
)


def values(functions: Functions) -> dict[str, float]:
    assert all(metric.namespace == NAMESPACE for metric in functions.metrics.values())
    assert all(("service", "nightcrew") in metric.dimensions for metric in functions.metrics.values())
    return {name: metric.value for name, metric in functions.metrics.items()}


@pytest.mark.parametrize(("name", "metric"), [("due", "DueSweepCompleted"), ("inventory", "InventorySweepCompleted")])
def test_a_quiet_sweep_says_that_it_was_completed_and_nothing_else(
    functions: Functions, name: str, metric: str
) -> None:
    answer = functions("reaper", {"sweep": name})

    assert answer["sweep"] == name
    assert {count for key, count in answer.items() if key != "sweep"} == {0}
    assert values(functions) == {metric: 1}


def test_a_due_sweep_with_nothing_due_asks_the_table_once(functions: Functions) -> None:
    functions("reaper", {"sweep": "due"})

    assert functions.world.calls == ["due"]


def test_a_tick_without_a_run_is_counted_as_missed(functions: Functions) -> None:
    schedule = JobSchedule(expressions=("cron(30 2 * * ? *)",))
    functions.world.watched = [WatchedJob(job=make_job(schedule=schedule), tick=NOW - timedelta(days=1))]

    answer = functions("reaper", {"sweep": "due"})

    assert answer["missed"] == 1
    assert values(functions) == {"DueSweepCompleted": 1, "RunsMissed": 1}


def test_leaks_and_left_overs_are_counted_together(functions: Functions) -> None:
    functions.world.instances["i-0000dead"] = STRAY
    functions.world.left["vol-1"] = LeftOver(resource_id="vol-1", created_at=NOW - timedelta(days=1))

    answer = functions("reaper", {"sweep": "inventory"})

    assert (answer["leaks"], answer["ended"], answer["left_overs"]) == (1, 1, 1)
    assert values(functions) == {"InventorySweepCompleted": 1, "LeaksFound": 2}


def test_a_worker_that_may_not_be_ended_makes_the_sweep_incomplete(
    functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    functions.world.instances["i-0000dead"] = STRAY
    denied = EndReport(EndStatus.DENIED, "UnauthorizedOperation")
    monkeypatch.setattr(functions.world, "terminate", lambda ids: dict.fromkeys(ids, denied))

    with pytest.raises(SweepError, match="i-0000dead: denied: UnauthorizedOperation"):
        functions("reaper", {"sweep": "inventory"})

    assert values(functions) == {"InventorySweepCompleted": 0, "EndDenied": 1, "LeaksFound": 1}


def test_leaks_that_are_spared_are_counted(functions: Functions) -> None:
    for number in range(3):
        tags = {"nightcrew:stack": "nightcrew", "nightcrew:deadline": "2026-01-17T00:00:00Z", "nightcrew:run": "gone"}
        instance_id = f"i-0000000{number}"
        functions.world.instances[instance_id] = replace(STRAY, instance_id=instance_id, tags=tags)

    functions("reaper", {"sweep": "inventory"})

    assert values(functions)["LeaksSpared"] == 3


def test_one_run_that_cannot_be_looked_at_leaves_the_others_their_turn(functions: Functions) -> None:
    world = functions.world
    for name in ("first-job", "second-job"):
        world.launcher().tick(world.add_job(make_job(name=name)))
    world.pass_time(minutes=10)
    world.unreadable = {"workers.describe"}
    world.calls.clear()

    with pytest.raises(SweepError, match=r"2 item\(s\) failed"):
        functions("reaper", {"sweep": "due"})

    assert world.calls.count("workers.describe") == 2
    assert values(functions) == {"DueSweepCompleted": 0}


@pytest.mark.filterwarnings("ignore:No application metrics to publish")
def test_a_sweep_that_cannot_read_aws_leaves_no_sign_of_completion(functions: Functions) -> None:
    functions.world.unreadable = {"workers.all_ours"}

    with pytest.raises(UnreadableError):
        functions("reaper", {"sweep": "inventory"})

    assert functions.metrics == {}


@pytest.mark.filterwarnings("ignore:No application metrics to publish")
@pytest.mark.parametrize("payload", [{}, {"sweep": None}, {"sweep": "attic"}])
def test_an_unknown_sweep_is_an_error_and_no_sign_of_completion(functions: Functions, payload: dict[str, Any]) -> None:
    with pytest.raises(SweepError, match="use 'due' or 'inventory'"):
        functions("reaper", payload)

    assert functions.metrics == {}
