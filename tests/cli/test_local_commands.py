"""local and demo: thin over the local host, and honest about what is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nightcrew.domain.lifecycle import Launched, ResultWritten, WorkerEnding, WorkerRunning, new_run
from nightcrew.domain.run import Outcome, Trigger
from nightcrew_cli.commands.local import find_project
from nightcrew_cli.exits import ExitCode
from nightcrew_cli.failures import CommandError
from tests.builders import NOW, make_plan_of, make_result, make_worker
from tests.cli.stage import Stage

WORKER = make_worker("i-00000001")
PID = 4242
JOB = "name: nightly-report\ncommand: echo hello\ntimeout: 1h\ndeadline: 2h\nretry: {attempts: 1}\n"
RUN_ID = "nightly-report-20260116T023000Z"


RUNNING = SimpleNamespace(endpoint="http://127.0.0.1:4580", stack="nightcrew", region="us-east-1", pid=1, home="/home")


@dataclass
class FakeHost:
    """The local host as the commands see it."""

    stage: Stage
    alive: set[int] = field(default_factory=set)
    asked: list[Any] = field(default_factory=list)
    delivered: str = "true"

    running = RUNNING

    @property
    def control(self) -> FakeHost:
        return self

    def tick(self, name: str, scheduled_time: datetime | None = None) -> dict[str, str]:
        self.asked.append((name, scheduled_time))
        if name in self.stage.jobs.applied:
            self._begin(name)
        return {"delivered": self.delivered, "reason": "role may not", "scheduled_time": "2026-01-16T02:30:00Z"}

    def interrupt(self, instance_id: str, *, notice: float | None) -> Any:
        self.asked.append((instance_id, notice))
        return self.instance(instance_id)

    def instances(self) -> list[Any]:
        return [self.instance(WORKER.instance_id)]

    def instance(self, instance_id: str) -> Any:
        return SimpleNamespace(
            instance_id=instance_id,
            state="running",
            instance_type="t4g.small",
            zone="us-east-1a",
            capacity_type="spot",
            pid=PID,
        )

    def _begin(self, name: str) -> None:
        job = self.stage.jobs.applied[name]
        run = new_run(
            job,
            stack="nightcrew",
            scheduled_at=NOW,
            trigger=Trigger.SCHEDULE,
            nonce="0",
            now=NOW,
            plan=make_plan_of(job),
        )
        self.stage.runs.add(run)


@pytest.fixture
def host(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    host = FakeHost(stage)
    project = tmp_path / "project"
    (project / "jobs").mkdir(parents=True)
    (project / "template.yaml").write_text("")
    (project / "jobs" / "nightly-report.yaml").write_text(JOB)
    monkeypatch.chdir(project)
    monkeypatch.setattr("nightcrew_cli.commands.demo.start", lambda invocation, folder: (host, None))
    monkeypatch.setattr("nightcrew_cli.local.status", lambda: None)
    monkeypatch.setattr("nightcrew_cli.local.down", lambda **_: host.asked.append("down") or True)
    monkeypatch.setattr("nightcrew_cli.local.settings.is_alive", lambda pid: pid in host.alive)
    return host


def play(stage: Stage, outcome: Outcome = Outcome.SUCCEEDED) -> None:
    def result() -> None:
        run = stage.runs.kept[RUN_ID]
        stage.exchange.write(run.attempts[0], "log/00001.txt", b"hello\n")
        stage.exchange.write(run.attempts[0], "outputs/report.html", b"<h1>report</h1>")
        stage.happens(RUN_ID, lambda run: ResultWritten(WORKER.instance_id, make_result(run, outcome)))()

    stage.clock.script = [
        stage.happens(RUN_ID, lambda run: Launched(1, WORKER)),
        stage.happens(RUN_ID, lambda run: WorkerRunning(WORKER)),
        result,
        stage.happens(RUN_ID, lambda run: WorkerEnding(WORKER.instance_id, is_final=False)),
    ]
    stage.workers = [(WORKER.instance_id, "terminated", NOW)]


def test_the_demo_ends_well_only_with_outputs_and_without_a_worker(host: FakeHost, stage: Stage) -> None:
    play(stage)

    result = stage("demo")

    assert result.exit_code == 0
    assert "hello" in result.stdout
    assert f".nightcrew/demo/{RUN_ID}/report.html" in result.stdout
    assert f"process {PID} of i-00000001 existed and is gone" in result.stdout
    assert Path(f".nightcrew/demo/{RUN_ID}/report.html").read_text() == "<h1>report</h1>"
    assert host.asked[-1] == "down"


def test_the_demo_can_leave_the_stack_up(host: FakeHost, stage: Stage) -> None:
    play(stage)

    stage("demo", "--keep")

    assert "down" not in host.asked


def leave_instance(host: FakeHost, stage: Stage) -> None:
    stage.workers = [(WORKER.instance_id, "running", NOW)]


def leave_process(host: FakeHost, stage: Stage) -> None:
    host.alive.add(PID)


def leave_no_trace(host: FakeHost, stage: Stage) -> None:
    stage.workers = []


@pytest.mark.parametrize("leave", [leave_instance, leave_process, leave_no_trace])
def test_the_demo_fails_when_it_cannot_prove_that_no_worker_is_left(
    host: FakeHost, stage: Stage, leave: Callable[[FakeHost, Stage], None]
) -> None:
    play(stage)
    leave(host, stage)
    stage.clock.script += [lambda: None] * 200

    result = stage("demo")

    assert result.exit_code == ExitCode.WORKER_LEFT
    assert host.asked[-1] == "down"


def test_the_demo_fails_as_its_run_fails(host: FakeHost, stage: Stage) -> None:
    play(stage, Outcome.FAILED)

    assert stage("demo").exit_code == ExitCode.RUN_FAILED


def test_the_demo_takes_the_stack_down_when_the_tick_is_not_delivered(host: FakeHost, stage: Stage) -> None:
    host.delivered = "false"

    result = stage("demo")

    assert (result.exit_code, host.asked[-1]) == (1, "down")
    assert "the tick was not delivered: role may not" in result.stderr


@pytest.fixture
def up(host: FakeHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeHost:
    monkeypatch.setattr("nightcrew_cli.local.status", lambda: host)
    monkeypatch.setenv("NIGHTCREW_LOCAL_HOME", str(tmp_path / "none"))
    return host


def test_tick_fires_the_schedule_at_the_time_that_is_given(up: FakeHost, stage: Stage) -> None:
    result = stage("local", "tick", "nightly-report", "--at", "2026-11-23T02:30:00Z")

    assert (result.exit_code, result.stdout) == (0, f"{RUN_ID}\n")
    assert up.asked == [("nightly-report", datetime(2026, 11, 23, 2, 30, tzinfo=UTC))]


def test_tick_at_no_time_is_wrong_usage(up: FakeHost, stage: Stage) -> None:
    assert stage("local", "tick", "nightly-report", "--at", "soon").exit_code == ExitCode.USAGE


def test_interrupt_passes_on_the_notice(up: FakeHost, stage: Stage) -> None:
    stage("local", "interrupt", "i-00000001", "--notice", "5")

    assert up.asked == [("i-00000001", 5.0)]


def test_status_shows_the_stack_and_its_instances(up: FakeHost, stage: Stage) -> None:
    page = stage("local", "status").stdout

    assert "http://127.0.0.1:4580" in page
    assert "i-00000001  running  t4g.small" in page


@pytest.mark.parametrize("arguments", [["status"], ["tick", "x"], ["interrupt", "i-1"]])
def test_without_a_stack_each_says_how_to_get_one(host: FakeHost, stage: Stage, arguments: list[str]) -> None:
    result = stage("local", *arguments, NIGHTCREW_LOCAL_HOME="/nonexistent")

    assert result.exit_code == 1
    assert "nightcrew local up" in result.stderr


def test_down_twice_is_no_error(host: FakeHost, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nightcrew_cli.local.down", lambda **_: False)

    result = stage("local", "down")

    assert (result.exit_code, result.stdout) == (0, "the local stack was not up\n")


def test_the_project_is_found_from_below(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Path.cwd()
    monkeypatch.chdir("jobs")

    assert find_project(None) == project


def test_a_project_without_a_template_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"no template\.yaml"):
        find_project(tmp_path)
