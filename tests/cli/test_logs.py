"""logs: every line of every attempt, and nothing in it that a terminal would obey."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightcrew.domain.lifecycle import ResultWritten, WorkerEnding
from nightcrew.domain.run import Attempt, Outcome, Run
from nightcrew_cli.exits import ExitCode
from nightcrew_cli.view.clean import Lines, clean
from nightcrew_cli.watch import LogReader
from tests.builders import NOW, launched, make_job, make_result, make_run, make_worker, running
from tests.cli.stage import MemoryExchange, Stage


@pytest.fixture
def logged(stage: Stage) -> Stage:
    stage.jobs.applied["nightly-report"] = make_job()
    stage.runs.add(running(make_run()))
    stage.exchange.write(attempt_of(stage), "log/00001.txt", b"one\ntwo\n")
    stage.exchange.write(attempt_of(stage), "log/00002.txt", b"three\nfour")
    return stage


def run_of(stage: Stage) -> Run:
    return next(iter(stage.runs.kept.values()))


def attempt_of(stage: Stage) -> Attempt:
    return run_of(stage).attempts[0]


def test_logs_prints_all_parts(logged: Stage) -> None:
    result = logged("logs", "@last")

    assert (result.exit_code, result.stdout) == (0, "one\ntwo\nthree\nfour\n")


@pytest.mark.parametrize(("count", "lines"), [("3", "two\nthree\nfour\n"), ("0", ""), ("9", "one\ntwo\nthree\nfour\n")])
def test_tail_prints_the_last_lines(logged: Stage, count: str, lines: str) -> None:
    assert logged("logs", "@last", "--tail", count).stdout == lines


def test_raw_is_every_byte(logged: Stage) -> None:
    logged.exchange.write(attempt_of(logged), "log/00003.txt", b"\x1b[31m\xff\r")

    assert logged("logs", "@last", "--raw").stdout_bytes == b"one\ntwo\nthree\nfour\x1b[31m\xff\r"


def test_raw_with_follow_is_wrong_usage(logged: Stage) -> None:
    assert logged("logs", "@last", "--raw", "-f").exit_code == ExitCode.USAGE


def test_an_attempt_that_never_was_is_102_with_those_that_were(logged: Stage) -> None:
    result = logged("logs", "@last", "--attempt", "2")

    assert result.exit_code == ExitCode.NOT_FOUND
    assert "there are: 1" in result.stderr


def test_a_run_without_a_worker_has_no_log_and_says_why(stage: Stage) -> None:
    stage.jobs.applied["nightly-report"] = make_job()
    stage.runs.add(make_run())

    result = stage("logs", "nightly-report")

    assert (result.exit_code, result.stdout) == (0, "")
    assert "no worker was launched" in result.stderr


def test_follow_goes_on_until_the_run_has_ended_and_tells_how(logged: Stage) -> None:
    run_id = run_of(logged).run_id
    failed = logged.happens(
        run_id, lambda run: ResultWritten("i-00000001", make_result(run, Outcome.TIMED_OUT, None, "too slow"))
    )
    logged.runs.add(replace(run_of(logged), job=make_job(retry=replace(make_job().retry, attempts=1))))
    logged.clock.script = [
        lambda: logged.exchange.write(attempt_of(logged), "log/00002.txt", b"three\nfour\nfive\n"),
        failed,
        logged.happens(run_id, lambda run: WorkerEnding("i-00000001", is_final=False)),
    ]

    result = logged("logs", "-f", "@last")

    assert result.stdout == "one\ntwo\nthree\nfour\nfive\n"
    assert result.exit_code == ExitCode.TIMED_OUT


def test_follow_goes_on_to_the_next_attempt(logged: Stage) -> None:
    run = run_of(logged)
    over = replace(run.attempts[0], outcome=Outcome.LOST, ended_at=NOW, worker_ended=True)
    second = replace(run.attempts[0], number=2, launch="b" * 32, worker=make_worker("i-00000002"))
    retried = replace(run, attempts=(over, second))
    logged.runs.add(retried)
    logged.exchange.write(second, "log/00001.txt", b"again\n")
    logged.clock.script = [
        logged.happens(run.run_id, lambda run: ResultWritten("i-00000002", make_result(run))),
        logged.happens(run.run_id, lambda run: WorkerEnding("i-00000002", is_final=False)),
    ]

    result = logged("logs", "-f", "@last")

    assert result.stdout == "one\ntwo\nthree\nfour\nagain\n"
    assert "── attempt 2, worker i-00000002" in result.stderr


def test_follow_of_an_ended_run_prints_it_and_exits_as_it_ended(logged: Stage) -> None:
    run = logged.after(run_of(logged), lambda run: ResultWritten("i-00000001", make_result(run)))
    logged.runs.add(logged.after(run, lambda _: WorkerEnding("i-00000001", is_final=False)))

    result = logged("logs", "-f", "@last")

    assert (result.exit_code, result.stdout) == (0, "one\ntwo\nthree\nfour\n")


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        pytest.param("\x1b[31mred\x1b[0m", "red", id="colours"),
        pytest.param("\x1b]0;title\x07text", "text", id="window title"),
        pytest.param("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link", id="hyperlink"),
        pytest.param("\x1b]52;c;cm0gLXJm\x07", "", id="clipboard"),
        pytest.param("\x1bP$q\x1b\\x", "x", id="device control"),
        pytest.param("\x9b2Jgone", "gone", id="eight-bit control"),
        pytest.param("\x1bcreset", "reset", id="full reset"),
        pytest.param("secret\b\b\b\b\b\bpublic", "secretpublic", id="backspace"),
        pytest.param("10%\r20%\r\nend", "10%\n20%\nend", id="carriage returns"),
        pytest.param("a\u202eb", "ab", id="text direction"),
        pytest.param("tab\tstays\n", "tab\tstays\n", id="tab and newline"),
        pytest.param("grüße 日本 🌙", "grüße 日本 🌙", id="letters of all kinds"),
        pytest.param("\x1b[31", "", id="a sequence that is cut off"),
    ],
)
def test_clean(written: str, shown: str) -> None:
    assert clean(written) == shown


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_no_control_character_gets_through_wherever_the_parts_are_cut(parts: list[bytes]) -> None:
    lines = Lines()

    shown = [line for part in parts for line in lines.feed(part)] + lines.feed(b"", final=True)

    assert {unicodedata.category(c) for line in shown for c in line if c != "\t"} & {"Cc", "Zl", "Zp"} == set()


@given(st.text(alphabet=st.sampled_from("ab\x1b[]0;m\x07\\\r\n\x9b\tü"), max_size=60), st.integers(1, 7))
def test_lines_do_not_depend_on_where_the_bytes_are_cut(text: str, step: int) -> None:
    data = text.encode()
    whole, pieces = Lines(), Lines()

    at_once = whole.feed(data) + whole.feed(b"", final=True)
    bit_by_bit = [line for i in range(0, len(data), step) for line in pieces.feed(data[i : i + step])]

    assert bit_by_bit + pieces.feed(b"", final=True) == at_once


@given(st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=10), st.data())
def test_each_byte_of_a_growing_log_is_read_once(writes: list[bytes], data: st.DataObject) -> None:
    attempt = launched(make_run()).attempts[0]
    exchange = MemoryExchange([])
    reader, read, number, part = LogReader(exchange, attempt), b"", 1, b""
    for write in writes:
        part += write
        exchange.write(attempt, f"log/{number:05}.txt", part)
        if data.draw(st.booleans()):
            read += b"".join(reader.news())
        if data.draw(st.booleans()):
            number, part = number + 1, b""

    read += b"".join(reader.news())

    assert read == b"".join(writes)


def test_time_does_not_pass_by_reading(logged: Stage) -> None:
    logged("logs", "@last")

    assert logged.clock.time - NOW == timedelta()
