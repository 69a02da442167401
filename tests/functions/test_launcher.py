from __future__ import annotations

import pytest

from nightcrew.adapters.envelopes import EnvelopeError
from nightcrew.domain.job import JobSchedule
from nightcrew.domain.plan import RefusalKind
from nightcrew.usecases.errors import AmbiguousLaunchError
from tests.builders import make_job
from tests.functions.conftest import Functions
from tests.functions.handlers import read_event

TICK = read_event("launcher/tick.json")
RUN_ID = "nightly-report-20260116T023000Z"


@pytest.fixture(autouse=True)
def _applied(functions: Functions) -> None:
    functions.world.jobs_[TICK["job"], TICK["revision"]] = make_job()


def test_a_tick_launches_a_worker_and_tells_which_run_it_is(functions: Functions) -> None:
    answer = functions("launcher", TICK)

    assert answer["run_id"] == RUN_ID
    assert answer["status"] == "STARTING"
    assert "i-00000001 launched" in answer["reason"]
    assert len(functions.world.instances) == 1


def test_the_same_tick_again_launches_no_second_worker(functions: Functions) -> None:
    functions("launcher", TICK)

    answer = functions("launcher", TICK)

    assert answer["run_id"] == RUN_ID
    assert len(functions.world.instances) == 1


def test_a_manual_run_is_another_run_than_the_tick(functions: Functions) -> None:
    answer = functions("launcher", {**TICK, "trigger": "manual"})

    assert answer["run_id"] == f"{RUN_ID}-manual"


def test_a_resumed_run_gets_its_next_attempt(functions: Functions) -> None:
    functions.world.refuse = [RefusalKind.CAPACITY, RefusalKind.CAPACITY]
    first = functions("launcher", TICK)
    functions.world.pass_time(minutes=5)

    second = functions("launcher", {"resume": first["run_id"]})

    assert (first["status"], second["status"]) == ("RETRYING", "STARTING")


def test_an_ambiguous_launch_fails_the_invocation_so_that_it_is_repeated(functions: Functions) -> None:
    functions.world.lose_answer = 1

    with pytest.raises(AmbiguousLaunchError):
        functions("launcher", TICK)

    assert functions.world.runs_[RUN_ID].status == "LAUNCHING"


def test_a_garbled_tick_fails_before_anything_is_asked_of_aws(functions: Functions) -> None:
    with pytest.raises(EnvelopeError, match=r"<aws\.scheduler\.scheduled-time>"):
        functions("launcher", read_event("launcher/garbled-tick.json"))

    assert functions.world.calls == []


def test_a_tick_that_comes_too_late_is_counted_where_the_alarm_listens(functions: Functions) -> None:
    schedule = JobSchedule(expressions=("cron(30 2 * * ? *)",))
    functions.world.jobs_[TICK["job"], TICK["revision"]] = make_job(schedule=schedule)
    functions.world.pass_time(hours=2)

    answer = functions("launcher", TICK)

    assert answer["status"] == "MISSED"
    missed = functions.metrics["RunsMissed"]
    assert (missed.value, ("service", "nightcrew") in missed.dimensions) == (1, True)
