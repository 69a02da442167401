from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from aws_lambda_powertools.utilities.batch.exceptions import BatchProcessingError

from nightcrew.domain.run import Run, RunStatus
from nightcrew.domain.sweep import WorkerState
from tests.builders import make_job
from tests.functions.conftest import Functions
from tests.functions.handlers import read_event

FOREIGN = read_event("lifecycle/instance-running.json")["Records"][0]
MIXED = read_event("lifecycle/mixed-batch.json")["Records"]


def message(message_id: str, body: Any) -> dict[str, Any]:
    return {**FOREIGN, "messageId": message_id, "body": body if isinstance(body, str) else json.dumps(body)}


def state_change(message_id: str, instance_id: str, state: str) -> dict[str, Any]:
    envelope = json.loads(FOREIGN["body"])
    return message(message_id, {**envelope, "detail": {"instance-id": instance_id, "state": state}})


def cancel(message_id: str, run: Run) -> dict[str, Any]:
    envelope = {"source": "nightcrew", "detail-type": "Cancel Requested", "detail": {"run_id": run.run_id, "by": "ada"}}
    return message(message_id, envelope)


def failed(answer: Any) -> list[str]:
    return [item["itemIdentifier"] for item in answer["batchItemFailures"]]


@pytest.fixture
def run(functions: Functions) -> Run:
    """A run whose worker i-00000001 was launched and now runs."""
    world = functions.world
    started = world.launcher().tick(world.add_job(make_job())).run
    world.boot()
    world.calls.clear()
    return started


def test_an_event_of_a_foreign_instance_costs_one_read_of_the_table(functions: Functions) -> None:
    functions("lifecycle", {"Records": [FOREIGN]})

    assert functions.world.calls == ["runs.runs_of"]


def test_a_whole_batch_asks_once_whose_instances_they_are(functions: Functions) -> None:
    records = [state_change(f"m{n}", f"i-0000f00{n}", "stopped") for n in range(9)]

    functions("lifecycle", {"Records": records})

    assert functions.world.calls == ["runs.runs_of"]


def test_a_state_change_of_our_worker_reaches_its_run(functions: Functions, run: Run) -> None:
    answer = functions("lifecycle", {"Records": [state_change("m1", "i-00000001", "running")]})

    assert failed(answer) == []
    assert functions.world.runs_[run.run_id].status is RunStatus.RUNNING


def test_a_result_that_is_announced_ends_the_run(functions: Functions, run: Run) -> None:
    functions.world.finish("i-00000001")
    envelope = json.loads(read_event("lifecycle/result-created.json")["Records"][0]["body"])
    envelope["detail"]["object"]["key"] = f"workers/AROAROLE:i-00000001/{run.attempt.launch}/result.json"

    functions("lifecycle", {"Records": [message("m1", envelope)]})

    assert functions.world.runs_[run.run_id].outcome == "succeeded"


def test_a_message_that_cannot_be_parsed_fails_alone(functions: Functions, run: Run) -> None:
    records = [MIXED[1], state_change("m1", "i-00000001", "running"), *MIXED]

    answer = functions("lifecycle", {"Records": records})

    assert set(failed(answer)) == {MIXED[1]["messageId"]}
    assert functions.world.runs_[run.run_id].status is RunStatus.RUNNING


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("[]", id="a list"),
        pytest.param("null", id="null"),
        pytest.param("", id="nothing"),
        pytest.param('"text"', id="a text"),
        pytest.param("[" * 200_000, id="deeper than any parser goes"),
    ],
)
def test_what_is_no_envelope_fails_alone(functions: Functions, run: Run, body: str) -> None:
    records = [message("bad", body), state_change("good", "i-00000001", "running")]

    answer = functions("lifecycle", {"Records": records})

    assert failed(answer) == ["bad"]
    assert functions.world.runs_[run.run_id].status is RunStatus.RUNNING


@pytest.mark.parametrize("entities", [None, 5, ["i-00000001"], [{"entityValue": {}}]])
def test_a_health_event_of_an_unexpected_shape_is_nothing_to_us_and_stops_nobody(
    functions: Functions, run: Run, entities: Any
) -> None:
    envelope = json.loads(read_event("lifecycle/health-two-instances.json")["Records"][0]["body"])
    envelope["detail"]["affectedEntities"] = entities
    records = [message("odd", envelope), state_change("good", "i-00000001", "running")]

    answer = functions("lifecycle", {"Records": records})

    assert failed(answer) == []
    assert functions.world.runs_[run.run_id].status is RunStatus.RUNNING


def test_a_message_that_cannot_be_handled_now_is_returned_and_the_others_are_not(
    functions: Functions, run: Run
) -> None:
    functions.world.unreadable = {"workers.describe"}
    records = [state_change("later", "i-00000001", "running"), cancel("done", run)]

    answer = functions("lifecycle", {"Records": records})

    assert failed(answer) == ["later"]
    assert functions.world.runs_[run.run_id].cancelled_by == "ada"


def test_why_a_message_failed_is_in_the_log(functions: Functions, run: Run) -> None:
    functions.world.unreadable = {"workers.describe"}

    functions("lifecycle", {"Records": [state_change("later", "i-00000001", "running"), FOREIGN]})

    assert any("workers.describe cannot be read" in line.get("exception", "") for line in functions.log)


def test_a_batch_of_which_nothing_could_be_handled_fails_as_a_whole(functions: Functions) -> None:
    with pytest.raises(BatchProcessingError, match="JSONDecodeError"):
        functions("lifecycle", {"Records": [MIXED[1]]})


def test_nothing_of_a_batch_is_lost_when_the_table_cannot_be_read(functions: Functions) -> None:
    functions.world.unreadable = {"runs.runs_of"}

    with pytest.raises(Exception, match=r"runs\.runs_of cannot be read"):
        functions("lifecycle", {"Records": MIXED})


def test_a_termination_without_a_result_is_never_a_success(functions: Functions, run: Run) -> None:
    world = functions.world
    world.instances["i-00000001"] = replace(world.instances["i-00000001"], state=WorkerState.TERMINATED)

    functions("lifecycle", {"Records": [state_change("m1", "i-00000001", "terminated")]})

    assert world.runs_[run.run_id].attempts[0].outcome == "lost"
