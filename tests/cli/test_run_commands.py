"""run, cancel, ps, runs: beginning a run, waiting for its end, and the story it leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from nightcrew.domain.lifecycle import (
    CancelRequested,
    Launched,
    Refused,
    ResultWritten,
    WorkerEnding,
    WorkerRunning,
    decide,
    ended_run,
)
from nightcrew.domain.plan import Refusal, RefusalKind
from nightcrew.domain.run import Outcome, Run, RunStatus, Trigger
from nightcrew_cli.exits import ExitCode, of_command, of_run
from tests.builders import LIMITS, NOW, launched, make_job, make_result, make_run, make_worker, running
from tests.cli.stage import Stage

Compare = Callable[[str, str], None]
WORKER = make_worker("i-00000001", private_address="10.0.0.7")
RUN_ID = "nightly-report-20260116T023000Z-manual"


@pytest.fixture
def applied(stage: Stage) -> Stage:
    stage.jobs.applied["nightly-report"] = make_job(retry=replace(make_job().retry, attempts=1))
    return stage


def play(stage: Stage, outcome: Outcome, exit_code: int | None, message: str = "") -> None:
    """Let the next run be launched, run, write its result, and lose its worker, one step at each wait."""

    def result(run: Run) -> ResultWritten:
        return ResultWritten(WORKER.instance_id, make_result(run, outcome, exit_code, message))

    stage.clock.script = [
        stage.happens(RUN_ID, lambda run: Launched(1, WORKER)),
        stage.happens(RUN_ID, lambda run: WorkerRunning(WORKER)),
        stage.happens(RUN_ID, result),
        stage.happens(RUN_ID, lambda run: WorkerEnding(WORKER.instance_id, is_final=False)),
    ]


def test_run_prints_the_id_alone_and_what_can_be_done_with_it(applied: Stage) -> None:
    result = applied("run", "nightly")

    assert (result.exit_code, result.stdout) == (0, f"{RUN_ID}\n")
    assert f"nightcrew logs -f {RUN_ID}" in result.stderr


def test_run_waits_until_no_worker_is_left(applied: Stage) -> None:
    play(applied, Outcome.SUCCEEDED, 0)

    result = applied("run", "nightly-report", "--wait")

    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        "LAUNCHING",
        "STARTING on i-00000001 (m7g.large)",
        "RUNNING on i-00000001 (m7g.large)",
        "STOPPING on i-00000001 (m7g.large)",
        f"✔ SUCCEEDED  {RUN_ID}  4s",
    ]


@pytest.mark.parametrize(
    ("outcome", "exit_code", "code", "own_code"),
    [
        (Outcome.SUCCEEDED, 0, 0, 0),
        (Outcome.FAILED, 7, ExitCode.RUN_FAILED, 7),
        (Outcome.START_FAILED, None, ExitCode.RUN_FAILED, ExitCode.RUN_FAILED),
        (Outcome.TIMED_OUT, None, ExitCode.TIMED_OUT, ExitCode.TIMED_OUT),
        (Outcome.DEADLINE_EXCEEDED, 143, ExitCode.TIMED_OUT, 143),
    ],
)
def test_the_exit_code_says_how_the_run_ended(
    applied: Stage, outcome: Outcome, exit_code: int | None, code: int, own_code: int
) -> None:
    play(applied, outcome, exit_code)
    waited = applied("run", "nightly-report", "--wait")
    applied.clock.time = NOW
    play(applied, outcome, exit_code)

    assert (waited.exit_code, applied("run", "nightly-report", "--exit-status").exit_code) == (code, own_code)


def finished(outcome: Outcome) -> Run:
    return ended_run(
        make_job(),
        stack="nightcrew",
        scheduled_at=NOW,
        trigger=Trigger.SCHEDULE,
        now=NOW,
        outcome=outcome,
        message="why",
    )


@pytest.mark.parametrize(
    ("run", "code"),
    [
        (finished(Outcome.CANCELLED), ExitCode.CANCELLED),
        (finished(Outcome.MISSED), ExitCode.NOT_STARTED),
        (replace(finished(Outcome.FAILED), status=RunStatus.SKIPPED), ExitCode.NOT_STARTED),
        (finished(Outcome.NO_CAPACITY), ExitCode.NO_CAPACITY),
        (finished(Outcome.QUOTA_EXCEEDED), ExitCode.NO_CAPACITY),
        (finished(Outcome.LOST), ExitCode.RUN_FAILED),
        (finished(Outcome.LAUNCH_FAILED), ExitCode.RUN_FAILED),
        (make_run(), ExitCode.STILL_RUNNING),
    ],
)
def test_every_end_has_its_exit_code(run: Run, code: ExitCode) -> None:
    assert (of_run(run), of_command(run)) == (code, code)


def test_every_outcome_has_an_exit_code_and_only_success_is_zero() -> None:
    codes = {outcome: of_run(finished(outcome)) for outcome in Outcome}

    assert [outcome for outcome, code in codes.items() if code is ExitCode.OK] == [Outcome.SUCCEEDED]


def test_waiting_for_another_attempt_says_why_and_until_when(applied: Stage) -> None:
    applied.jobs.applied["nightly-report"] = make_job()
    play(applied, Outcome.FAILED, 3, "exited with 3")
    applied.clock.script[3:] = [lambda: None]

    result = applied("run", "nightly-report", "--wait-timeout", "4s")

    told = "failed: exited with 3"
    assert f"RETRYING: {told}; next attempt at 2026-01-16 02:31:03Z" in result.stderr
    assert f"↻ RETRYING  {RUN_ID}  4s  {told}" in result.stderr
    assert told in applied("ps").stdout


def test_follow_prints_each_line_of_the_log_once_and_nothing_else_on_stdout(applied: Stage) -> None:
    play(applied, Outcome.SUCCEEDED, 0)

    def write(data: bytes) -> None:
        attempt = applied.runs.kept[RUN_ID].attempts[0]
        applied.exchange.write(attempt, "log/00001.txt", data)

    steps = applied.clock.script
    applied.clock.script = [
        steps[0],
        lambda: (steps[1](), write(b"one\ntw")),  # type: ignore[func-returns-value,list-item]
        lambda: (steps[2](), write(b"one\ntwo\n\x1b]0;owned\x07three")),  # type: ignore[func-returns-value,list-item]
        steps[3],
    ]

    result = applied("run", "nightly-report", "--follow")

    assert result.stdout.splitlines() == [RUN_ID, "one", "two", "three"]


def test_ctrl_c_stops_the_waiting_and_says_that_the_run_goes_on(applied: Stage) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    applied.clock.script = [interrupt]

    result = applied("run", "nightly-report", "--wait")

    assert result.exit_code == ExitCode.STILL_RUNNING
    assert f"detached: {RUN_ID} goes on" in result.stderr
    assert applied.cancelled == []


def test_wait_timeout_ends_the_waiting(applied: Stage) -> None:
    applied.clock.script = [lambda: None] * 3

    result = applied("run", "nightly-report", "--wait-timeout", "2s")

    assert result.exit_code == ExitCode.STILL_RUNNING


def test_wait_timeout_needs_a_duration(applied: Stage) -> None:
    assert applied("run", "nightly-report", "--wait-timeout", "30").exit_code == ExitCode.USAGE


def test_run_as_json_is_the_record_without_its_nonce(applied: Stage) -> None:
    play(applied, Outcome.SUCCEEDED, 0)

    record = json.loads(applied("run", "nightly-report", "--wait", "-o", "json").stdout)

    assert (record["run_id"], record["status"]) == (RUN_ID, "SUCCEEDED")
    assert "nonce" not in record


def test_running_an_unknown_job_is_102(applied: Stage) -> None:
    assert applied("run", "weekly").exit_code == ExitCode.NOT_FOUND


def test_cancel_asks_in_the_callers_name(applied: Stage) -> None:
    applied.runs.add(launched(make_run()))

    result = applied("cancel", "@last")

    assert (result.exit_code, applied.cancelled) == (0, [("nightly-report-20260116T023000Z", "user/ann")])


def test_cancel_with_wait_ends_when_no_worker_is_left(applied: Stage) -> None:
    run = launched(make_run())
    applied.runs.add(run)
    applied.clock.script = [
        applied.happens(run.run_id, lambda _: CancelRequested("ann")),
        applied.happens(run.run_id, lambda _: WorkerEnding(WORKER.instance_id, is_final=True)),
    ]

    result = applied("cancel", "nightly-report", "--wait")

    assert result.exit_code == 0
    assert "is cancelled, no worker is left" in result.stderr


def test_cancelling_what_has_ended_is_an_error(applied: Stage) -> None:
    applied.runs.add(finished(Outcome.MISSED))

    result = applied("cancel", "@last")

    assert (result.exit_code, applied.cancelled) == (1, [])
    assert "has already ended (MISSED)" in result.stderr


def eventful() -> Run:
    """No Spot capacity, then a worker, an interruption, a second worker, and success."""
    run = make_run()
    refusals = (Refusal("m7g.large/eu-west-1a/spot", "InsufficientInstanceCapacity", "no capacity \x1b[31m"),)
    run = decide(run, Refused(1, 0, RefusalKind.CAPACITY, refusals), NOW, LIMITS).run
    at = NOW + timedelta(seconds=3)
    run = running(run, WORKER, at)
    at += timedelta(minutes=10)
    run = decide(run, WorkerEnding(WORKER.instance_id, is_final=True, message="the host failed"), at, LIMITS).run
    second = make_worker("i-00000002", capacity_type="spot", public_address="203.0.113.9", private_address="10.0.0.8")
    at += timedelta(minutes=1)
    attempt = replace(run.attempts[0], number=2, worker=None, outcome=None, ended_at=None, launched_at=None)
    attempt = replace(attempt, running_at=None, created_at=at, refusals=(), message="", worker_ended=False)
    run = replace(run, status=RunStatus.LAUNCHING, attempts=(*run.attempts, attempt), retry_at=None)
    run = running(run, second, at + timedelta(seconds=2))
    at += timedelta(minutes=30)
    run = decide(run, ResultWritten(second.instance_id, make_result(run, message="exited with 0")), at, LIMITS).run
    return decide(run, WorkerEnding(second.instance_id, is_final=False), at, LIMITS).run


def test_runs_show_tells_the_whole_story(applied: Stage, snapshot_of: Compare) -> None:
    applied.runs.add(eventful())
    applied.clock.time = NOW + timedelta(hours=2)

    result = applied("runs", "show", "@last")

    assert result.exit_code == 0
    snapshot_of("runs_show", result.stdout)


def test_runs_show_of_a_missed_tick_needs_no_worker(applied: Stage, snapshot_of: Compare) -> None:
    applied.runs.add(finished(Outcome.MISSED))

    snapshot_of("runs_show_missed", applied("runs", "show", "@last").stdout)


def test_ps_shows_open_runs_first(applied: Stage, snapshot_of: Compare) -> None:
    later = NOW + timedelta(hours=3)
    done = replace(finished(Outcome.NO_CAPACITY), run_id="nightly-report-later", created_at=later, ended_at=later)
    applied.runs.add(running(make_run(), WORKER), done)
    applied.clock.time = NOW + timedelta(hours=4)

    snapshot_of("ps", applied("ps").stdout)


def test_ps_counts_what_it_leaves_out(applied: Stage) -> None:
    for number in range(15):
        at = NOW + timedelta(days=number)
        applied.runs.add(
            replace(finished(Outcome.MISSED), run_id=f"nightly-report-{number}", created_at=at, scheduled_at=at)
        )

    few, many = applied("ps"), applied("ps", "-a")

    assert "5 older runs are not shown: nightcrew ps -a" in few.stderr
    assert (len(few.stdout.splitlines()), len(many.stdout.splitlines())) == (11, 16)


def test_ps_watch_needs_a_terminal(applied: Stage) -> None:
    assert applied("ps", "--watch").exit_code == ExitCode.USAGE


def test_runs_list_filters_by_status(applied: Stage) -> None:
    applied.runs.add(finished(Outcome.MISSED), replace(make_run(), run_id="nightly-report-open"))

    listed = json.loads(applied("runs", "list", "--status", "missed", "-o", "json").stdout)

    assert [run["status"] for run in listed] == ["MISSED"]
    assert applied("runs", "list", "--status", "MISED").exit_code == ExitCode.USAGE


def test_runs_of_a_job_that_was_taken_off_are_listed(applied: Stage) -> None:
    applied.runs.add(make_run(make_job(name="gone"), run_id="gone-1"))

    assert "gone-1" in applied("runs", "list", "gone").stdout


def test_outputs_are_listed_and_downloaded(applied: Stage, tmp_path: Path) -> None:
    run = eventful()
    applied.runs.add(run)
    applied.exchange.write(run.attempts[-1], "outputs/sub/report.html", b"<h1>hi</h1>")

    listed = applied("runs", "outputs", "@last")
    applied("runs", "outputs", "@last", "--download", str(tmp_path / "out"))

    assert "sub/report.html  11 B" in listed.stdout
    assert (tmp_path / "out" / "sub" / "report.html").read_bytes() == b"<h1>hi</h1>"


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/evil", "a\\..\\evil", "a\x1b[31m", "", ".."])
def test_an_output_whose_name_leads_elsewhere_is_refused_before_anything_is_written(
    applied: Stage, tmp_path: Path, name: str
) -> None:
    run = eventful()
    applied.runs.add(run)
    applied.exchange.write(run.attempts[-1], "outputs/good", b"good")
    applied.exchange.write(run.attempts[-1], f"outputs/{name}", b"evil")

    result = applied("runs", "outputs", "@last", "-d", str(tmp_path / "out"))

    assert result.exit_code == 1
    assert list(tmp_path.iterdir()) == []


def test_a_link_in_the_folder_is_not_followed(applied: Stage, tmp_path: Path) -> None:
    run = eventful()
    applied.runs.add(run)
    applied.exchange.write(run.attempts[-1], "outputs/sub/evil", b"evil")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").symlink_to(tmp_path / "elsewhere")

    result = applied("runs", "outputs", "@last", "-d", str(tmp_path / "out"))

    assert result.exit_code == 1
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_outputs_of_a_run_without_a_worker_are_102(applied: Stage) -> None:
    applied.runs.add(finished(Outcome.MISSED))

    assert applied("runs", "outputs", "@last").exit_code == ExitCode.NOT_FOUND
