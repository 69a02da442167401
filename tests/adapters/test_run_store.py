from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from botocore.stub import Stubber

from nightcrew.adapters.fleet import _refused_pools
from nightcrew.adapters.run_store import KEEP_HISTORY, DynamoRuns
from nightcrew.adapters.table import Table, run_key, worker_key
from nightcrew.domain.job import Retry
from nightcrew.domain.lifecycle import (
    InterruptionWarned,
    Refused,
    ResultWritten,
    WorkerEnding,
    begin_retry,
    decide,
    notice_sent,
)
from nightcrew.domain.plan import MAX_POOLS_PER_STEP, Pool
from nightcrew.domain.run import HISTORY_LIMIT, Outcome, Run, RunStatus
from nightcrew.usecases.errors import StaleRunError, UnreadableError
from tests.adapters.conftest import item_of, record_of
from tests.builders import LIMITS, NOW, launched, make_job, make_result, make_run, make_worker, running
from tests.usecases.world import World

# ---- The same of every store of runs, real and in memory ---------------------------------------------------


@pytest.fixture(params=["table", "memory"])
def store(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("runs") if request.param == "table" else World()


def test_a_run_is_created_once(store: Any) -> None:
    run = make_run()

    assert store.create(run) is True
    assert store.create(replace(run, message="another")) is False
    assert store.get(run.run_id) == run


def test_a_run_that_does_not_exist_is_none(store: Any) -> None:
    assert store.get("nightly-report-20200101T023000Z") is None
    assert store.get_many(["no-such-run"]) == {"no-such-run": None}


def test_a_saved_run_comes_back_with_the_next_version(store: Any) -> None:
    run = make_run()
    store.create(run)

    saved = store.save(replace(run, message="noted"))

    assert saved == replace(run, message="noted", version=run.version + 1)
    assert store.get(run.run_id) == saved


def test_who_read_an_older_version_cannot_save(store: Any) -> None:
    run = make_run()
    store.create(run)
    saved = store.save(replace(run, message="first"))

    with pytest.raises(StaleRunError, match=run.run_id):
        store.save(replace(run, message="second"))

    assert store.get(run.run_id) == saved


def test_a_launched_worker_leads_to_its_run_and_a_foreign_one_nowhere(store: Any) -> None:
    run = make_run()
    store.create(run)

    store.save(launched(run, make_worker("i-00000001")))

    assert store.runs_of(["i-00000001", "i-0f0f0f0f"]) == {"i-00000001": run.run_id}


def test_a_closed_run_that_owes_nothing_is_not_open(store: Any) -> None:
    closed = make_run(status=RunStatus.SUCCEEDED, outcome=Outcome.SUCCEEDED, ended_at=NOW)
    waiting = make_run(make_job(name="other-job"))
    store.create(closed)
    store.create(waiting)

    assert [run.run_id for run in store.open()] == [waiting.run_id]


# ---- The table ---------------------------------------------------------------------------------------------


def test_a_lost_race_leaves_no_row_of_the_losers_worker(runs: DynamoRuns) -> None:
    run = make_run()
    runs.create(run)
    runs.save(replace(run, message="somebody was faster"))

    with pytest.raises(StaleRunError):
        runs.save(launched(run, make_worker("i-00000002")))

    assert runs.runs_of(["i-00000002"]) == {}


def test_the_worker_of_every_attempt_leads_to_the_run(runs: DynamoRuns) -> None:
    run = make_run()
    runs.create(run)
    run = runs.save(launched(run, make_worker("i-00000001")))
    lost = decide(run, WorkerEnding("i-00000001", is_final=True), NOW, LIMITS).run
    assert lost.retry_at is not None
    run = runs.save(begin_retry(lost, lost.retry_at).run)

    runs.save(launched(run, make_worker("i-00000002"), now=lost.retry_at + timedelta(minutes=1)))

    assert runs.runs_of(["i-00000001", "i-00000002"]) == dict.fromkeys(["i-00000001", "i-00000002"], run.run_id)


def test_a_worker_row_expires_long_after_its_worker(runs: DynamoRuns, table: Table) -> None:
    run = make_run()
    runs.create(run)
    runs.save(launched(run, make_worker("i-00000001")))

    expires = int(item_of(table, worker_key("i-00000001"))["expires"]["N"])

    assert expires == int((run.deadline + KEEP_HISTORY).timestamp())


def test_many_ids_are_read_in_batches(runs: DynamoRuns) -> None:
    run = make_run()
    runs.create(run)
    ids = [f"no-such-run-{number}" for number in range(250)]

    found = runs.get_many([*ids, run.run_id])

    assert found == {**dict.fromkeys(ids), run.run_id: run}


def test_the_newest_runs_of_a_job_come_first_and_no_more_than_asked_for(runs: DynamoRuns) -> None:
    days = [make_run(run_id=f"run-{day}", scheduled_at=NOW + timedelta(days=day)) for day in (2, 0, 3, 1)]
    for run in (*days, make_run(make_job(name="other-job"), scheduled_at=NOW + timedelta(days=9))):
        runs.create(run)

    assert [run.run_id for run in runs.recent("nightly-report", 3)] == ["run-3", "run-2", "run-1"]


def test_a_long_history_is_trimmed_and_keeps_its_first_line(runs: DynamoRuns) -> None:
    run = make_run()
    for number in range(3 * HISTORY_LIMIT):
        run = run.noted(NOW, f"line {number}")
    runs.create(run)

    history = runs.get(run.run_id).history

    assert len(history) == HISTORY_LIMIT
    assert "accepted" in history[0].text
    assert history[-1].text == f"line {3 * HISTORY_LIMIT - 1}"


def ended(run: Run) -> Run:
    finished = decide(run, ResultWritten("i-00000001", make_result(run, Outcome.SUCCEEDED)), NOW, LIMITS).run
    return decide(finished, WorkerEnding("i-00000001", is_final=True), NOW, LIMITS).run


FINAL = make_job(retry=Retry(attempts=1, interruptions=0))


@pytest.mark.parametrize(
    ("run", "is_due", "expires"),
    [
        pytest.param(make_run(), True, False, id="launching"),
        pytest.param(launched(make_run()), True, False, id="starting"),
        pytest.param(running(make_run()), True, False, id="running"),
        pytest.param(
            decide(running(make_run()), InterruptionWarned("i-00000001", "stop"), NOW, LIMITS).run,
            True,
            False,
            id="interrupted",
        ),
        pytest.param(
            decide(launched(make_run()), WorkerEnding("i-00000001", is_final=True), NOW, LIMITS).run,
            True,
            False,
            id="waiting for a retry",
        ),
        pytest.param(ended(running(make_run())), False, True, id="succeeded"),
        pytest.param(
            decide(launched(make_run(FINAL)), WorkerEnding("i-00000001", is_final=True), NOW, LIMITS).run,
            True,
            False,
            id="failed, and nobody was told yet",
        ),
        pytest.param(
            notice_sent(decide(launched(make_run(FINAL)), WorkerEnding("i-00000001", is_final=True), NOW, LIMITS).run),
            False,
            True,
            id="failed, and told",
        ),
    ],
)
def test_a_record_is_due_or_expires_and_never_both(
    runs: DynamoRuns, table: Table, run: Run, is_due: bool, expires: bool
) -> None:
    runs.create(run)

    item = item_of(table, run_key(run.run_id))

    assert ("due" in item and "due_at" in item, "expires" in item) == (is_due, expires)
    if expires:
        assert int(item["expires"]["N"]) == int((run.ended_at + KEEP_HISTORY).timestamp())


def test_the_worst_run_that_a_job_may_have_fits_into_one_item(runs: DynamoRuns, table: Table) -> None:
    """DynamoDB takes 400 KB. 21 attempts, each refused by every pool of both steps, in EC2's own long words."""
    job = make_job(retry=Retry(attempts=10, interruptions=20), command="x" * 32_000, env={"BIG": "x" * 32_000})
    run = make_run(job)
    pools = tuple(Pool(f"m7gd.metal-{n}", f"subnet-0123456789abcde{n:02}", "eu-west-1a") for n in range(60))
    assert len(pools) == MAX_POOLS_PER_STEP
    steps = tuple(replace(step, pools=pools) for step in run.plan.steps)
    run = replace(run, plan=replace(run.plan, steps=steps), deadline=NOW + timedelta(days=7))
    said = [
        {
            "LaunchTemplateAndOverrides": {
                "Overrides": {"InstanceType": pool.instance_type, "SubnetId": pool.subnet_id}
            },
            "ErrorCode": "InsufficientInstanceCapacity",
            "ErrorMessage": f"We currently do not have sufficient {pool.instance_type} capacity. " * 5,
        }
        for pool in pools
    ]
    while run.status is not RunStatus.FAILED:
        if run.status is RunStatus.RETRYING:
            run = begin_retry(run, run.retry_at).run
        refused = _refused_pools(said)
        event = Refused(run.attempt.number, run.attempt.step, refused.kind, refused.refusals)
        run = decide(run, event, run.updated_at, LIMITS).run
    assert len(run.attempts) == 21

    runs.create(run)

    item = item_of(table, run_key(run.run_id))
    assert sum(len(name) + len(str(value)) for name, value in item.items()) < 400 * 1024


# ---- Records outlive the code that wrote them --------------------------------------------------------------


def rewrite(table: Table, run: Run, record: dict[str, Any] | str) -> None:
    item = item_of(table, run_key(run.run_id))
    text = record if isinstance(record, str) else json.dumps(record)
    table.client.put_item(TableName=table.name, Item={**item, "record": {"S": text}})


def test_a_record_without_newer_fields_and_with_unknown_ones_is_read(runs: DynamoRuns, table: Table) -> None:
    run = launched(make_run())
    runs.create(run)
    record = record_of(item_of(table, run_key(run.run_id)))
    for newer in ("cancelled_by", "notice", "retry_at", "history", "message"):
        del record[newer]
    del record["attempts"][0]["refusals"]
    del record["attempts"][0]["worker_ended"]
    del record["attempts"][0]["worker"]["public_address"]
    record["colour"] = {"of": ["the", "future"]}
    record["attempts"][0]["mood"] = "good"
    record["attempts"][0]["worker"]["moon"] = "full"
    record["plan"]["steps"][0]["pools"][0]["price"] = 1.5
    record["job"]["priority"] = 5
    rewrite(table, run, record)

    assert runs.get(run.run_id) == replace(run, history=())


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param("{", id="not JSON"),
        pytest.param("[]", id="not an object"),
        pytest.param("{}", id="nothing in it"),
        pytest.param({"status": "DREAMING"}, id="a status of the future"),
        pytest.param({"job": {"version": 99}}, id="a job of the future"),
        pytest.param({"attempts": 5}, id="attempts that are none"),
    ],
)
def test_a_damaged_record_is_unknown_and_not_absent_and_hides_no_other(
    runs: DynamoRuns, table: Table, damage: dict[str, Any] | str
) -> None:
    damaged, whole = make_run(), make_run(make_job(name="other-job"))
    runs.create(damaged)
    runs.create(whole)
    record = record_of(item_of(table, run_key(damaged.run_id)))
    rewrite(table, damaged, damage if isinstance(damage, str) else record | damage)

    found = runs.get_many([damaged.run_id, whole.run_id, "no-such-run"])

    assert found == {whole.run_id: whole, "no-such-run": None}
    assert runs.open() == [whole]
    assert runs.recent("nightly-report", 5) == []


# ---- What cannot be read -----------------------------------------------------------------------------------


def test_a_table_that_does_not_answer_is_unreadable_and_not_empty(runs: DynamoRuns) -> None:
    client = runs.table.client
    for operation, call in (
        ("get_item", lambda: runs.get("r")),
        ("batch_get_item", lambda: runs.get_many(["r"])),
        ("batch_get_item", lambda: runs.runs_of(["i-1"])),
        ("query", runs.open),
    ):
        with Stubber(client) as stub:
            stub.add_client_error(operation, "ProvisionedThroughputExceededException")
            with pytest.raises(UnreadableError, match="records: ProvisionedThroughputExceededException"):
                call()


def test_keys_that_were_left_unprocessed_are_asked_for_again(runs: DynamoRuns) -> None:
    request = {"Keys": [worker_key("i-1"), worker_key("i-2")], "ConsistentRead": True}
    request["ProjectionExpression"] = "pk, run_id"
    rest = {**request, "Keys": [worker_key("i-2")]}
    row = {"pk": {"S": "WORKER#i-1"}, "run_id": {"S": "run-1"}}
    other = {"pk": {"S": "WORKER#i-2"}, "run_id": {"S": "run-2"}}
    with Stubber(runs.table.client) as stub:
        stub.add_response(
            "batch_get_item",
            {"Responses": {"records": [row]}, "UnprocessedKeys": {"records": rest}},
            {"RequestItems": {"records": request}},
        )
        stub.add_response(
            "batch_get_item",
            {"Responses": {"records": [other]}, "UnprocessedKeys": {}},
            {"RequestItems": {"records": rest}},
        )

        assert runs.runs_of(["i-1", "i-2"]) == {"i-1": "run-1", "i-2": "run-2"}


def test_keys_that_stay_unprocessed_are_unknown_and_not_absent(runs: DynamoRuns) -> None:
    waiting: Any = {"records": {"Keys": [run_key("r")], "ConsistentRead": True}}
    with Stubber(runs.table.client) as stub:
        for _ in range(8):
            stub.add_response("batch_get_item", {"Responses": {}, "UnprocessedKeys": waiting})

        with pytest.raises(UnreadableError, match="unprocessed"):
            runs.get_many(["r"])


def test_a_query_of_many_pages_is_read_to_its_end(runs: DynamoRuns) -> None:
    page = {"Items": [run_key("r1")], "LastEvaluatedKey": run_key("r1")}
    with Stubber(runs.table.client) as stub:
        stub.add_response("query", page)
        stub.add_response("query", {"Items": [run_key("r2")]})

        rows = list(runs.table.query(IndexName="due"))

    assert rows == [run_key("r1"), run_key("r2")]
