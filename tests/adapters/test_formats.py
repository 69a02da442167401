"""What was written once is read for ever: the files in formats/ show every format as it stands outside.

A file is not changed after a release. When a test here says that today's code writes otherwise, docs/compatibility.md
tells what may be done: the change goes, or the format gets its next number and a file of its own beside the old one.
"""

from __future__ import annotations

import inspect
import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from nightcrew.adapters.codec import decode
from nightcrew.adapters.envelopes import parse_tick
from nightcrew.adapters.exchange import S3Exchange
from nightcrew.adapters.job_store import DynamoJobs, current_key, job_key
from nightcrew.adapters.run_store import FORMAT, DynamoRuns
from nightcrew.adapters.table import Table, run_key, worker_key
from nightcrew.domain.job import CapacityType, Job, OnFinish
from nightcrew.domain.result import Result
from nightcrew.domain.run import Attempt, Outcome, Run, RunStatus, Trigger
from nightcrew.usecases.errors import UnreadableError
from nightcrew.usecases.launch import Tick
from nightcrew.worker import bootstrap, program, program_source
from tests.adapters.conftest import BUCKET, ROLE, item_of
from tests.builders import NOW, launched, make_run

FORMATS = Path(__file__).parent / "formats"
# Derived from what stands beside them by rules that may change: that they are there is the format.
DERIVED = ("due_at", "expires")


def read(name: str) -> Any:
    return json.loads((FORMATS / name).read_text(encoding="utf-8"))


def every(kind: str) -> list[Any]:
    """Every shape in every format of this kind that was ever written."""
    return [
        pytest.param(shape, content, id=f"{path.stem}: {shape}")
        for path in sorted(FORMATS.glob(f"{kind}-*.json"))
        for shape, content in read(path.name).items()
    ]


def newest(kind: str, number: int = 1) -> list[Any]:
    return [pytest.param(content, id=shape) for shape, content in read(f"{kind}-{number}.json").items()]


def with_more_in_it(value: Any) -> Any:
    """The value as a newer version may write it: with keys that we do not know, except among names of the user's."""
    if isinstance(value, list):
        return [with_more_in_it(item) for item in value]
    if not isinstance(value, dict):
        return value
    known = {key: item if key in {"env", "tags", "tasks"} else with_more_in_it(item) for key, item in value.items()}
    return known | {"of_the_future": {"colour": ["red", None]}}


def item_for(written: dict[str, Any]) -> dict[str, Any]:
    """The table's item; in the files its record is not a text, so that people can read it."""
    return written | {"record": {"S": json.dumps(written["record"])}}


def as_written(item: dict[str, Any]) -> dict[str, Any]:
    return comparable(item | {"record": json.loads(item["record"]["S"])})


def comparable(item: dict[str, Any]) -> dict[str, Any]:
    return item | {name: list(item[name]) for name in DERIVED if name in item}


def put(table: Table, *items: dict[str, Any]) -> None:
    for item in items:
        table.client.put_item(TableName=table.name, Item=item)


# ---- Runs --------------------------------------------------------------------------------------------------


def gist(run: Run) -> tuple[Any, ...]:
    """What everything else rests on."""
    tries = [(a.outcome, a.exit_code, a.worker and a.worker.instance_id, len(a.refusals)) for a in run.attempts]
    return run.status, run.outcome, tries, bool(run.retry_at), bool(run.notice)


GISTS = {
    "launching": (RunStatus.LAUNCHING, None, [(None, None, None, 0)], False, False),
    "starting, cancelled meanwhile": (RunStatus.STARTING, None, [(None, None, "i-00000001", 0)], False, False),
    "retrying with refusals": (RunStatus.RETRYING, None, [(Outcome.QUOTA_EXCEEDED, None, None, 4)], True, False),
    "closed with history": (
        RunStatus.FAILED,
        Outcome.FAILED,
        [(Outcome.LOST, None, "i-00000001", 0), (Outcome.FAILED, 3, "i-00000002", 0)],
        False,
        False,
    ),
    "missed, notice still to be sent": (RunStatus.MISSED, Outcome.MISSED, [], False, True),
    "by hand, of a job with everything": (RunStatus.LAUNCHING, None, [(None, None, None, 0)], False, False),
}


@pytest.mark.parametrize(("shape", "written"), every("run"))
def test_a_run_of_any_format_is_read(runs: DynamoRuns, table: Table, shape: str, written: dict[str, Any]) -> None:
    put(table, item_for(written))

    run = runs.get(written["record"]["run_id"])

    assert run is not None
    assert gist(run) == GISTS[shape]
    assert run.deadline == run.scheduled_at + run.job.deadline
    assert run.trigger is (Trigger.MANUAL if shape.startswith("by hand") else Trigger.SCHEDULE)


@pytest.mark.parametrize("written", newest("run", FORMAT))
def test_a_run_is_written_in_the_newest_format(runs: DynamoRuns, table: Table, written: dict[str, Any]) -> None:
    runs.create(decode(Run, written["record"]))

    item = item_of(table, run_key(written["record"]["run_id"]))

    assert as_written(item) == comparable(written)


@pytest.mark.parametrize(("shape", "written"), every("run"))
def test_a_run_of_a_newer_version_with_more_in_it_is_read(
    runs: DynamoRuns, table: Table, shape: str, written: dict[str, Any]
) -> None:
    newer = written | {"record": with_more_in_it(written["record"]), "of_the_future": {"S": "x"}}
    put(table, item_for(newer))

    assert runs.get(written["record"]["run_id"]) == decode(Run, written["record"])


def test_a_run_without_a_number_is_of_the_first_format(runs: DynamoRuns, table: Table) -> None:
    item = item_for(read("run-1.json")["launching"])
    del item["format"]
    put(table, item)

    assert runs.get(make_run().run_id) == make_run()


def test_a_run_of_a_newer_format_is_unreadable_and_says_what_to_do(runs: DynamoRuns, table: Table) -> None:
    shapes = read("run-1.json")
    readable, newer = shapes["launching"], shapes["missed, notice still to be sent"]
    put(table, item_for(readable), item_for(newer) | {"format": {"N": str(FORMAT + 1)}})
    readable_id, newer_id = readable["record"]["run_id"], newer["record"]["run_id"]

    with pytest.raises(UnreadableError, match=f"{newer_id}.* format {FORMAT + 1}.*deploy the newer version"):
        runs.get(newer_id)

    assert set(runs.get_many([newer_id, readable_id])) == {readable_id}, "unknown, which is not absent"


@pytest.mark.parametrize(("shape", "written"), every("worker"))
def test_the_row_of_a_worker_leads_to_its_run(
    runs: DynamoRuns, table: Table, shape: str, written: dict[str, Any]
) -> None:
    put(table, written)

    assert runs.runs_of(["i-00000001"]) == {"i-00000001": make_run().run_id}


def test_the_row_of_a_worker_is_written_in_the_newest_format(runs: DynamoRuns, table: Table) -> None:
    runs.create(make_run())
    runs.save(launched(make_run()))

    row = item_of(table, worker_key("i-00000001"))

    assert comparable(row) == comparable(read("worker-1.json")["first attempt"])


# ---- Jobs and ticks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "written"), every("job"))
def test_a_job_of_any_format_is_read_under_the_revision_it_was_written_with(
    jobs: DynamoJobs, table: Table, shape: str, written: dict[str, Any]
) -> None:
    """Schedules name the revision: a job whose revision changes by being read is applied anew for no reason."""
    put(table, item_for(written["revision"]), item_for(written["current"]))
    revision = written["revision"]["sk"]["S"].removeprefix("REV#")
    name = written["revision"]["record"]["name"]

    job = jobs.get(name, revision)

    assert job is not None
    assert job == jobs.current(name)
    assert job.revision == revision
    assert [watched.job for watched in jobs.due(NOW + timedelta(days=8)).jobs] == [job] * ("tick" in written["current"])


def test_everything_in_a_job_is_read() -> None:
    job = Job.from_json(read("job-1.json")["everything"]["revision"]["record"])

    assert job.schedule is not None
    assert job.files is not None
    assert (job.schedule.timezone, job.schedule.enabled, len(job.schedule.expressions)) == ("Europe/Berlin", False, 2)
    assert (job.compute.capacity_type, job.compute.disk_gib) == (CapacityType.ON_DEMAND, None)
    assert (job.on_finish, job.files.sha256, job.tags) == (OnFinish.STOP, "00ff", {"team": "data"})
    assert job.env == {"GREETING": "Grüß dich", "EMPTY": ""}


@pytest.mark.parametrize("written", newest("job"))
def test_a_job_is_written_in_the_newest_format(jobs: DynamoJobs, table: Table, written: dict[str, Any]) -> None:
    job = Job.from_json(written["revision"]["record"])

    jobs.put(job, NOW)

    assert as_written(item_of(table, job_key(job.name, job.revision))) == comparable(written["revision"])
    assert as_written(item_of(table, current_key(job.name))) == comparable(written["current"])


@pytest.mark.parametrize(("shape", "written"), every("job"))
def test_a_job_of_a_newer_version_with_more_in_it_is_read(shape: str, written: dict[str, Any]) -> None:
    record = written["revision"]["record"]

    assert Job.from_json(with_more_in_it(record)) == Job.from_json(record)


@pytest.mark.parametrize(("shape", "payload"), every("tick"))
def test_the_input_of_a_schedule_is_understood(shape: str, payload: dict[str, Any]) -> None:
    """It stands in EventBridge Scheduler until the job is applied again, which may be never."""
    trigger = Trigger.MANUAL if shape == "by hand" else Trigger.SCHEDULE

    assert parse_tick(with_more_in_it(payload)) == Tick("nightly-report", payload["revision"], NOW, trigger)


# ---- Rosters and who reads them ----------------------------------------------------------------------------


@pytest.mark.parametrize("written", newest("roster"))
def test_a_roster_is_written_in_the_newest_format(exchange: S3Exchange, written: dict[str, Any]) -> None:
    """Its reader, the first stage, stands in the launch template that the run was frozen with: perhaps an old one."""
    run = decode(Run, written["record"])
    attempt = run.attempts[-1]
    assert attempt.worker is not None

    exchange.put_roster(run, attempt, attempt.worker)

    roster = json.loads(exchange.read(f"launches/{written['launch']}/roster.json"))
    assert roster.pop("program") == program_source()
    assert roster == {name: value for name, value in written.items() if name != "program"}


@pytest.mark.parametrize(("shape", "written"), every("roster"))
def test_the_first_stage_accepts_a_roster_of_any_format(shape: str, written: dict[str, Any]) -> None:
    tags = {"launch": written["launch"], "run": written["run"], "attempt": "1"}

    bootstrap.check_roster(with_more_in_it(written), tags, "i-00000001")


@pytest.mark.parametrize(("shape", "written"), every("roster"))
def test_the_record_in_a_roster_of_any_format_is_read(shape: str, written: dict[str, Any]) -> None:
    run = decode(Run, with_more_in_it(written["record"]))

    assert (run.run_id, run.job.revision) == (written["run"], written["revision"])
    assert [attempt.launch for attempt in run.attempts] == [written["launch"]]


def test_the_first_stage_offers_the_second_what_it_always_did() -> None:
    """A retry after a deploy runs the new program on the first stage of the launch template it was frozen with."""
    offered = {
        "say": bootstrap.say,
        "parse_time": bootstrap.parse_time,
        "clock.now": bootstrap.Clock.now,
        "metadata.get": bootstrap.Metadata.get,
        "bucket.send": bootstrap.Bucket.send,
    }
    surface = {
        "functions": {name: list(inspect.signature(function).parameters) for name, function in offered.items()},
        "attributes": {"metadata": ["renew_at"]},
        "worker": list(bootstrap.Worker._fields),
        "network errors": [error.__name__ for error in bootstrap.NETWORK_ERRORS],
    }

    assert surface == read("first-stage-1.json")
    assert hasattr(bootstrap.Metadata(), "renew_at")


# ---- Results -----------------------------------------------------------------------------------------------


class Drawer:
    """Stands in for the bucket, and keeps what the program sends."""

    def __init__(self) -> None:
        self.sent: dict[str, Any] = {}

    def send(self, _method: str, key: str, _query: str = "", body: Any = None, _headers: Any = None) -> io.BytesIO:
        self.sent[key] = json.loads(body)
        return io.BytesIO()


def seconds(text: str | None) -> float | None:
    return datetime.fromisoformat(text).astimezone(UTC).timestamp() if text else None


@pytest.mark.parametrize("written", newest("result"))
def test_a_result_is_written_in_the_newest_format(written: dict[str, Any]) -> None:
    """Every field that a test can give is given; the rest is what the program makes of the roster."""
    drawer, roster = Drawer(), read("roster-1.json")["plain"]
    worker: Any = bootstrap.Worker(
        written["instance_id"], seconds(written["booted_at"]), seconds(roster["deadline"]), None, drawer, "p/", roster
    )
    attempt = program.Attempt(worker)
    attempt._started_at, attempt._ended_at = seconds(written["started_at"]), seconds(written["ended_at"])
    attempt._uploads.done += [program.Output(it["path"], "/tmp", it["bytes"]) for it in written["outputs"]]
    ending = program.Ending(**{name: written[name] for name in program.Ending._fields})

    attempt._write_result(ending)

    assert drawer.sent == {"p/result.json": written}


@pytest.mark.parametrize(("shape", "written"), every("result"))
def test_a_result_of_any_format_is_read(exchange: S3Exchange, shape: str, written: dict[str, Any]) -> None:
    """A worker that was launched before a deploy reports after it."""
    attempt = attempt_of_the_rosters()
    body = json.dumps(with_more_in_it(written)).encode()
    exchange.client.put_object(Bucket=BUCKET, Key=f"workers/{ROLE}:i-00000001/{attempt.launch}/result.json", Body=body)

    result = exchange.result(attempt)

    assert result == Result(
        launch=attempt.launch,
        outcome=RESULTS[shape][0],
        exit_code=RESULTS[shape][1],
        message=written["message"],
    )


RESULTS = {
    "succeeded": (Outcome.SUCCEEDED, 0),
    "killed": (Outcome.FAILED, 137),
    "interrupted": (Outcome.INTERRUPTED, None),
    "never started": (Outcome.START_FAILED, None),
}


def attempt_of_the_rosters() -> Attempt:
    attempt = launched(make_run()).attempt
    assert attempt is not None
    return replace(attempt, launch=read("roster-1.json")["plain"]["launch"])
