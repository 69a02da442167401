from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st

from nightcrew.adapters import exchange as module
from nightcrew.adapters.codec import encode
from nightcrew.adapters.exchange import S3Exchange
from nightcrew.domain.job import Files
from nightcrew.domain.lifecycle import ResultWritten, decide
from nightcrew.domain.result import Result
from nightcrew.domain.run import Attempt, Outcome, Run
from nightcrew.usecases.errors import UnreadableError
from nightcrew.worker import program_source
from tests.adapters.conftest import BUCKET, ROLE, steady
from tests.builders import LIMITS, NOW, make_job, make_run, make_worker, running

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=9,
)


@pytest.fixture
def run() -> Run:
    files = Files(key="files/00ff.tar.gz", sha256="00ff")
    return running(make_run(make_job(files=files, env={"B": "2", "A": "1"})))


@pytest.fixture
def attempt(run: Run) -> Attempt:
    assert run.attempt is not None
    return run.attempt


def written(attempt: Attempt, **changes: Any) -> dict[str, Any]:
    result = {"version": 1, "launch": attempt.launch, "outcome": "succeeded", "exit_code": 0, "message": "done"}
    return result | changes


def write(exchange: S3Exchange, key: str, content: Any) -> None:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    exchange.client.put_object(Bucket=BUCKET, Key=key, Body=body)


def roster_bytes(exchange: S3Exchange, attempt: Attempt) -> bytes:
    return exchange.read(f"launches/{attempt.launch}/roster.json")


# ---- Rosters -----------------------------------------------------------------------------------------------


def test_a_roster_holds_all_that_the_worker_needs(exchange: S3Exchange, run: Run, attempt: Attempt) -> None:
    exchange.put_roster(run, attempt, make_worker("i-00000001"))

    assert json.loads(roster_bytes(exchange, attempt)) == {
        "version": 1,
        "launch": attempt.launch,
        "run": "nightly-report-20260116T023000Z",
        "job": "nightly-report",
        "revision": run.job.revision,
        "attempt": 1,
        "scheduled_time": "2026-01-16T02:30:00Z",
        "deadline": "2026-01-16T07:30:00Z",
        "timeout": 3600,
        "on_finish": "terminate",
        "command": "echo hello",
        "env": {"A": "1", "B": "2"},
        "files": {"key": "files/00ff.tar.gz", "sha256": "00ff"},
        "tasks": {"i-00000001": 0},
        "program": program_source(),
        "record": encode(replace(run, nonce="", version=1)),
    }


def test_a_roster_gives_away_nothing_of_later_attempts(exchange: S3Exchange, run: Run, attempt: Attempt) -> None:
    exchange.put_roster(run, attempt, make_worker("i-00000001"))

    assert run.nonce.encode() not in roster_bytes(exchange, attempt)


def test_the_same_run_gives_the_same_bytes_however_its_job_was_spelled(
    exchange: S3Exchange, run: Run, attempt: Attempt
) -> None:
    exchange.put_roster(run, attempt, make_worker("i-00000001"))
    first = roster_bytes(exchange, attempt)
    other = replace(run, job=replace(run.job, env={"A": "1", "B": "2"}), version=9)

    exchange.put_roster(other, attempt, make_worker("i-00000001", private_address="10.0.0.9"))

    assert roster_bytes(exchange, attempt) == first


def test_a_roster_is_json_whatever_the_command_says(exchange: S3Exchange, run: Run, attempt: Attempt) -> None:
    command = "echo \"ünïcode\" \U0001f319\n\\x00 'quoted' </script>"

    exchange.put_roster(replace(run, job=replace(run.job, command=command)), attempt, make_worker())

    assert json.loads(roster_bytes(exchange, attempt))["command"] == command


# ---- Results -----------------------------------------------------------------------------------------------


def test_a_result_is_read_from_the_workers_own_prefix(exchange: S3Exchange, attempt: Attempt) -> None:
    key = f"workers/{ROLE}:i-00000001/{attempt.launch}/result.json"
    write(exchange, key, written(attempt, outcome="failed", exit_code=3, message="no\x1b[31m\ndisk"))

    assert exchange.result(attempt) == Result(
        launch=attempt.launch, outcome=Outcome.FAILED, exit_code=3, message="no [31m disk"
    )


@pytest.mark.parametrize(
    "prefix",
    [
        pytest.param(f"workers/{ROLE}:i-0f0f0f0f/{{launch}}/", id="another instance"),
        pytest.param("workers/AROAOTHER:i-00000001/{launch}/", id="another role"),
        pytest.param(f"workers/{ROLE}:i-00000001/{'0' * 32}/", id="another launch"),
        pytest.param("launches/{launch}/", id="the roster's place"),
    ],
)
def test_what_others_wrote_is_no_result(exchange: S3Exchange, attempt: Attempt, prefix: str) -> None:
    write(exchange, f"{prefix.format(launch=attempt.launch)}result.json", written(attempt))

    assert exchange.result(attempt) is None


def test_a_result_that_names_another_launch_ends_nothing(exchange: S3Exchange, run: Run, attempt: Attempt) -> None:
    write(exchange, f"{exchange.prefix(attempt)}result.json", written(attempt, launch="0" * 32))

    result = exchange.result(attempt)

    assert result is not None
    decision = decide(run, ResultWritten("i-00000001", result), NOW, LIMITS)
    assert decision.run == run
    assert "another launch" in decision.reason


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut off"),
        pytest.param(b"\xff\xfe\x00", id="no text"),
        pytest.param(b"[1]", id="a list"),
        pytest.param(b"null", id="null"),
        pytest.param(b"[" * 100_000, id="deeper than any parser goes"),
        pytest.param({"outcome": "succeeded"}, id="no launch"),
        pytest.param({"launch": "l", "outcome": "lost"}, id="an outcome that no worker reports"),
        pytest.param({"launch": "l", "outcome": ["succeeded"]}, id="an outcome that is a list"),
        pytest.param({"launch": "l", "outcome": "failed", "exit_code": "3"}, id="an exit code that is a text"),
        pytest.param({"launch": "l", "outcome": "failed", "exit_code": True}, id="an exit code that is a truth"),
    ],
)
def test_garbage_is_no_result_and_no_error(exchange: S3Exchange, attempt: Attempt, content: Any) -> None:
    write(exchange, f"{exchange.prefix(attempt)}result.json", content)

    assert exchange.result(attempt) is None


@steady
@given(json_values | st.fixed_dictionaries({"launch": json_values, "outcome": json_values, "exit_code": json_values}))
def test_no_json_at_all_breaks_the_reader(document: Any) -> None:
    assert module._result(json.dumps(document).encode()) is None


@steady
@given(st.binary(max_size=50))
def test_no_bytes_at_all_break_the_reader(content: bytes) -> None:
    assert module._result(content) is None


def test_an_oversized_result_is_read_up_to_the_limit_and_is_none(
    exchange: S3Exchange, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESULT_LIMIT", 200)
    write(exchange, f"{exchange.prefix(attempt)}result.json", written(attempt, message="x" * 200))

    assert exchange.result(attempt) is None


def test_no_result_yet_is_none(exchange: S3Exchange, attempt: Attempt) -> None:
    assert exchange.result(attempt) is None


@pytest.mark.parametrize("code", ["AccessDenied", "SlowDown", "InternalError", "NoSuchBucket"])
def test_a_result_that_cannot_be_read_is_unknown_and_not_absent(
    exchange: S3Exchange, attempt: Attempt, code: str
) -> None:
    with Stubber(exchange.client) as stub:
        stub.add_client_error("get_object", code)

        with pytest.raises(UnreadableError, match=code):
            exchange.result(attempt)


def test_a_connection_that_breaks_off_is_unknown_and_not_absent(exchange: S3Exchange, attempt: Attempt) -> None:
    class Breaking:
        def read(self, limit: int) -> bytes:
            raise ReadTimeoutError(endpoint_url="https://exchange")

    class Client:
        def get_object(self, **_: str) -> dict[str, Any]:
            return {"Body": Breaking()}

    broken: Any = Client()

    with pytest.raises(UnreadableError, match="exchange"):
        replace(exchange, client=broken).result(attempt)


def test_an_attempt_without_a_worker_has_no_prefix(exchange: S3Exchange) -> None:
    attempt = make_run().attempt

    with pytest.raises(ValueError, match="attempt 1 has no worker"):
        exchange.prefix(attempt)


# ---- What people read --------------------------------------------------------------------------------------


def test_log_parts_come_in_order_and_the_one_that_may_grow_comes_again(exchange: S3Exchange, attempt: Attempt) -> None:
    prefix = f"{exchange.prefix(attempt)}log/"
    for number in (2, 1, 3):
        write(exchange, f"{prefix}{number:05}.txt", b"x" * number)

    assert [(key, size) for key, size, _ in exchange.log_parts(attempt)] == [
        (f"{prefix}{number:05}.txt", number) for number in (1, 2, 3)
    ]
    assert [key for key, _, _ in exchange.log_parts(attempt, after=f"{prefix}00002.txt")] == [
        f"{prefix}00002.txt",
        f"{prefix}00003.txt",
    ]


def test_outputs_are_told_by_their_own_paths(exchange: S3Exchange, attempt: Attempt) -> None:
    write(exchange, f"{exchange.prefix(attempt)}outputs/charts/a.svg", b"<svg/>")

    assert exchange.outputs(attempt) == [("charts/a.svg", 6)]
    assert b"".join(exchange.download(attempt, "charts/a.svg")) == b"<svg/>"
    assert exchange.output_uri(attempt) == f"s3://exchange/{exchange.prefix(attempt)}outputs/"


def test_reading_on_from_the_end_gives_nothing(exchange: S3Exchange) -> None:
    exchange.put_files("files/a", b"12345")

    assert exchange.read("files/a", 3) == b"45"
    assert exchange.read("files/a", 5) == b""


def test_files_are_known_once_they_are_put(exchange: S3Exchange) -> None:
    assert not exchange.has("files/a")

    exchange.put_files("files/a", b"12345")

    assert exchange.has("files/a")
