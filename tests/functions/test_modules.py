"""The handler modules themselves: thin, and without effect when they are imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.functions.handlers import NAMES, ROOT, handler_module

# In a process of its own: no variable of ours is set, no client can be made, no connection opened.
IMPORT = """
import runpy, sys
import boto3.session
def refuse(*arguments, **options):
    raise AssertionError("a client was made")
boto3.session.Session.client = boto3.session.Session.resource = refuse
def hook(event, arguments):
    if event.startswith(("socket.connect", "socket.getaddrinfo", "subprocess.")):
        raise AssertionError(event)
sys.addaudithook(hook)
module = runpy.run_path(sys.argv[1], run_name="app")
assert callable(module["lambda_handler"])
"""


@pytest.mark.parametrize("name", NAMES)
def test_a_handler_is_imported_without_any_effect(name: str) -> None:
    app = ROOT / "functions" / name / "app.py"
    empty = {"PATH": os.defpath, "PYTHONPATH": str(ROOT / "layers" / "core")}

    done = subprocess.run(
        [sys.executable, "-c", IMPORT, app], capture_output=True, text=True, env=empty, timeout=60, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# The same for what is printed: loggers keep the stdout that they were made with.
DECIDE = """
from tests.functions.handlers import Context, handler_module, read_event
from tests.builders import make_job
from tests.usecases.world import World
world, launcher, tick = World(), handler_module("launcher"), read_event("launcher/tick.json")
world.jobs_[tick["job"], tick["revision"]] = make_job()
launcher.use_case = world.launcher
launcher.lambda_handler(tick, Context())
"""


def test_a_decision_is_one_line_of_the_log_with_its_run() -> None:
    environment = {"PATH": os.defpath, "PYTHONPATH": f"{ROOT / 'layers' / 'core'}:{ROOT}"}

    done = subprocess.run(
        [sys.executable, "-c", DECIDE], capture_output=True, text=True, env=environment, timeout=60, check=False
    )

    assert done.stderr == ""
    (line,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert "worker i-00000001 launched" in line["message"]
    assert line["run_id"] == "nightly-report-20260116T023000Z"
    assert line["status"] == "STARTING"
    assert (line["service"], line["function_request_id"]) == ("launcher", "0a1b2c3d-0000-4000-8000-000000000000")


@pytest.mark.parametrize("name", NAMES)
def test_a_handler_stays_under_sixty_lines(name: str) -> None:
    lines = (ROOT / "functions" / name / "app.py").read_text(encoding="utf-8").splitlines()

    assert len(lines) < 60


@pytest.mark.parametrize("name", NAMES)
def test_a_function_without_its_variables_says_which_one_is_missing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in list(os.environ):
        if variable.startswith("NIGHTCREW_"):
            monkeypatch.delenv(variable)
    module = handler_module(name)
    build = module.sweeps if name == "reaper" else module.use_case

    with pytest.raises(Exception, match=r"NIGHTCREW_[A-Z_]+ is not set") as raised:
        build()

    assert raised.typename == "SettingsError"
