"""The text in the launch template: small enough, safe for Fn::Sub, and ending in power-off whatever is missing."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from nightcrew import worker
from tests.worker.cloud import Cloud, Machine

PYTHONS = sorted(Path.home().glob(".pyenv/versions/3.*/bin/python3"))
TOO_OLD = [python for python in PYTHONS if int(python.parts[-3].split(".")[1]) < 9]
SUPPORTED = [python for python in PYTHONS if int(python.parts[-3].split(".")[1]) >= 9]


def test_it_fits_with_room_to_spare() -> None:
    assert len(worker.user_data().encode()) < 14 * 1024


def test_fn_sub_finds_what_it_is_to_replace_and_no_more() -> None:
    assert set(re.findall(r"\$\{([^}]*)\}?", worker.user_data())) == {
        "MaxWorkerHours",
        "Bucket",
        "WorkerRole.RoleId",
        "AWS::Region",
    }
    assert "${" not in worker.bootstrap_source()
    assert "BOOTSTRAP" not in worker.bootstrap_source()


@pytest.mark.parametrize("python", SUPPORTED, ids=lambda python: python.parts[-3])
@pytest.mark.parametrize("name", ["bootstrap_source", "program_source"])
def test_every_supported_python_compiles_both_stages(name: str, python: Path, tmp_path: Path) -> None:
    source = tmp_path / "stage.py"
    source.write_text(getattr(worker, name)())

    compiled = subprocess.run([python, "-W", "error", "-m", "py_compile", source], capture_output=True, check=False)

    assert compiled.returncode == 0, compiled.stderr


@pytest.mark.parametrize("python", ["/nosuchpython", *map(str, TOO_OLD)])
def test_a_machine_without_a_python_that_will_do_powers_off(cloud: Cloud, machine: Machine, python: str) -> None:
    machine.python = python

    machine.run()

    assert machine.shutdowns == ["-P +15", "-P now"]


@pytest.mark.parametrize("works", [True, False])
def test_under_cloud_init_the_worker_gets_a_scope_of_its_own_if_it_can(
    cloud: Cloud, machine: Machine, works: bool
) -> None:
    log = machine.root / "systemd-run"
    run = 'while [[ $1 == --* ]]; do shift; done; exec "$@"' if works else "exit 1"
    machine.install("systemd-run", f'echo "$@" >>{log}; {run}')
    group = machine.root / "cgroup"
    group.write_text("0::/system.slice/cloud-final.service\n")
    cloud.write_roster()

    machine.boot(machine.user_data().replace("/proc/self/cgroup", os.fspath(group)))
    machine.wait()

    assert cloud.result()["outcome"] == "succeeded"
    calls = [line.split("network-online.target ")[1] for line in log.read_text().splitlines()]
    assert calls == (["true", "python3 -I -"] if works else ["true"])
