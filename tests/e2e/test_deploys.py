"""A deploy in the middle of a night: other code, another environment, another launch template, and nothing lost."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from nightcrew.domain.run import Outcome, RunStatus
from nightcrew_cli import local
from nightcrew_cli.local.stack import find_sam
from tests.e2e.night import ROOT, Night, quick_parameters, wait_for

pytestmark = [pytest.mark.local, pytest.mark.chaos, pytest.mark.timeout(240)]

OLD_HOURS, NEW_HOURS = 168, 100  # no worker lives longer: stands in the launch template and in every function


def deploy(night: Night, project: Path, **parameters: str) -> None:
    deployed = local.deploy(night.host, project=project, parameters=quick_parameters() | parameters)
    changed = {name for name, value in deployed.outputs.items() if night.outputs[name] != value}
    assert changed <= {"LaunchTemplateVersion"}, "a deploy replaces neither table nor bucket nor queue"


@pytest.fixture(scope="module")
def restore(night) -> Iterator[Callable[[], None]]:
    """Brings back the stack that all other tests use, once."""
    restored: list[bool] = []

    def restore() -> None:
        if not restored:
            deploy(night, ROOT)
            restored.append(True)

    yield restore
    restore()


@pytest.fixture
def next_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project with one line changed, in the layer that all functions share."""
    monkeypatch.setenv("NIGHTCREW_SAM", str(find_sam(ROOT)))
    project = tmp_path / "next"
    for name in ("functions", "layers"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "template.yaml", project)
    module = project / "layers/core/nightcrew/domain/lifecycle.py"
    line = 'reason = f"attempt {attempt.number} begins"'
    assert module.read_text().count(line) == 1
    module.write_text(module.read_text().replace(line, line[:-1] + ', after the deploy"'))
    return project


def ceiling_of(night: Night, instance_id: str) -> int:
    """The longest life that the worker's own user data allows it, in hours."""
    instance = night.host.control.instance(instance_id)
    text = (Path(instance.folder) / "user-data").read_text()
    return int(text.partition("NIGHTCREW_CEILING=$((")[2].partition(" * 60))")[0])


def test_a_deploy_in_the_middle_of_a_night_loses_nothing(night, restore, next_version, tmp_path):
    gate = tmp_path / "gate"
    wait = f"echo started; until test -e {gate}; do sleep 0.2; done"
    twice: dict[str, Any] = {"retry": {"attempts": 2, "interruptions": 0, "backoff": {"initial": "1s", "max": "1s"}}}
    night.apply_all(tmp_path, {"over-the-deploy": wait, "steady": "true"})
    night.apply(tmp_path, "retried-after", f'{wait}; test "$NIGHTCREW_ATTEMPT" = 2', **twice)
    at = datetime.now(UTC)
    over, retried = night.tick("over-the-deploy", at), night.tick("retried-after", at)
    for run_id in (over, retried):
        night.until_log_says(run_id, "started")
    ticking = Ticking(night, "steady", at)

    with ticking:
        deploy(night, next_version, MaxWorkerHours=str(NEW_HOURS))
    gate.touch()
    fresh = night.tick("over-the-deploy", at + timedelta(minutes=1))

    closed = {run_id: night.until_closed(run_id, sweeping=True) for run_id in (over, retried, fresh, *ticking.runs)}
    outcomes = {run_id: [attempt.outcome for attempt in run.attempts] for run_id, run in closed.items()}
    assert outcomes.pop(retried) == [Outcome.FAILED, Outcome.SUCCEEDED]
    assert all(outcome == [Outcome.SUCCEEDED] for outcome in outcomes.values()), outcomes
    for run_id, run in closed.items():
        assert len(night.workers_of(run_id)) == len(run.attempts)
        night.until_no_worker_lives(run_id)
    assert len(ticking.runs) >= 3, "ticks fell into the deploy"

    first, second = (attempt.worker.instance_id for attempt in closed[retried].attempts)
    newest = closed[fresh].attempts[0].worker.instance_id
    assert any("begins, after the deploy" in entry.text for entry in closed[retried].history), "by the new code"
    assert ceiling_of(night, first) == ceiling_of(night, second) == OLD_HOURS, "from the plan it was frozen with"
    assert ceiling_of(night, newest) == NEW_HOURS
    assert int(closed[fresh].plan.template.version) > int(closed[retried].plan.template.version)


class Ticking:
    """Fires a job's schedule again and again while something else happens."""

    def __init__(self, night: Night, name: str, at: datetime) -> None:
        self._night, self._name, self._at = night, name, at
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._tick)
        self.runs: list[str] = []

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _tick(self) -> None:
        while not self._stop.wait(2.0):
            self.runs.append(self._night.tick(self._name, self._at - timedelta(seconds=1 + len(self.runs))))


def test_functions_that_are_replaced_during_a_launch_launch_once(night, restore, tmp_path):
    """The worker is there, its launcher waits for the answer, and the deploy takes the launcher away."""
    name = night.apply(tmp_path, "replaced", "true")
    night.host.control.faults(calls=[{"call": "ec2:CreateFleet", "mode": "delay", "seconds": 90}])
    run_id = night.tick(name)
    wait_for("the worker", lambda: night.workers_of(run_id))
    assert night.run(run_id).status is RunStatus.LAUNCHING

    restore()

    run = night.until_closed(run_id, sweeping=True)
    assert [attempt.outcome for attempt in run.attempts] == [Outcome.SUCCEEDED]
    assert len(night.workers_of(run_id)) == 1
    night.until_no_worker_lives(run_id)
