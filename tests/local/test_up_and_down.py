"""The host as a process: it starts once, is found again, and leaves nothing behind however it ends."""

import base64
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightcrew_cli.local import Deployment, Host, LocalError, clock, down, processes, status, up
from nightcrew_cli.local.settings import MARKER, is_alive, state_file
from nightcrew_cli.local.stack import find_sam
from tests.local.local_stack import LocalStack

pytestmark = pytest.mark.local

RUNAWAY = """#!/bin/bash
trap '' TERM
(setsid bash -c 'trap "" TERM; while true; do sleep 0.1; done' &)
echo ready
while true; do sleep 0.1; done
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "host"
    down(tmp_path / "host")


def start_runaway(host: Host) -> str:
    """Launch a worker whose processes ignore SIGTERM and leave their session; return its id."""
    stack = LocalStack(host, Deployment(stack="", outputs={}, seconds={}))
    data = {
        "UserData": base64.b64encode(RUNAWAY.encode()).decode(),
        "InstanceType": "m7g.large",
        "ImageId": "ami-12345678",
    }
    ec2 = stack.client("ec2")
    ec2.create_launch_template(LaunchTemplateName="runaway", LaunchTemplateData=data)
    reference = {"LaunchTemplateName": "runaway", "Version": "1"}
    instance_id = stack.launch_one(LaunchTemplateConfigs=[{"LaunchTemplateSpecification": reference}])
    stack.wait_for_console(instance_id, "ready")
    return instance_id


def test_a_second_up_finds_the_first(home: Path) -> None:
    first = up(home=home, port=0)

    second = up(home=home, port=0)

    assert (first.started, second.started) == (True, False)
    assert second.running == first.running
    found = status(home)
    assert found is not None
    assert found.running.pid == first.running.pid


def test_down_ends_every_process_and_removes_the_data(home: Path) -> None:
    host = up(home=home, port=0)
    start_runaway(host)
    assert len(processes.marked(MARKER, str(home))) >= 4

    ended = down(home)

    assert ended
    assert not processes.marked(MARKER, str(home))
    assert {path.name for path in home.iterdir()} == {"lock"}
    assert not down(home)
    with pytest.raises(LocalError, match="nightcrew local up"):
        host.control.status()


def test_a_killed_host_leaves_no_worker_behind(home: Path) -> None:
    host = up(home=home, port=0)
    start_runaway(host)

    os.kill(host.running.pid, signal.SIGKILL)

    assert clock.wait_until(lambda: not processes.marked(MARKER, str(home)), 10.0)


def test_up_cleans_after_a_host_that_died(home: Path) -> None:
    first = up(home=home, port=0)
    instance_id = start_runaway(first)
    os.kill(first.running.pid, signal.SIGKILL)

    second = up(home=home, port=0)

    assert second.started
    assert second.running.pid != first.running.pid
    assert second.control.instances() == []
    assert not (home / "instances" / instance_id).exists()


def test_a_killed_supervisor_takes_its_guest_along(home: Path) -> None:
    host = up(home=home, port=0)
    instance_id = start_runaway(host)
    worker = host.control.instance(instance_id)
    assert worker is not None
    assert worker.pid is not None
    assert worker.supervisor_pid is not None

    os.kill(worker.supervisor_pid, signal.SIGKILL)

    assert clock.wait_until(lambda: not host.control.instance(instance_id).guest_alive, 10.0)  # type: ignore[union-attr]
    assert not is_alive(worker.pid)
    assert host.control.instance(instance_id).state == "running"  # type: ignore[union-attr]


def test_a_damaged_state_file_does_not_stop_up(home: Path) -> None:
    home.mkdir()
    state_file(home).write_text("{")

    host = up(home=home, port=0)

    assert host.control.status()["home"] == str(home)


def test_sam_is_looked_for_where_it_belongs(tmp_path: Path) -> None:
    own = tmp_path / ".tools" / "sam" / "bin" / "sam"
    with pytest.raises(LocalError, match="pip install aws-sam-cli"):
        find_sam(tmp_path, {"PATH": ""})
    own.parent.mkdir(parents=True)
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)

    assert find_sam(tmp_path, {"PATH": ""}) == own
    chosen = tmp_path / "other"
    chosen.write_text("#!/bin/sh\n")
    chosen.chmod(0o755)
    assert find_sam(tmp_path, {"PATH": "", "NIGHTCREW_SAM": str(chosen)}) == chosen
