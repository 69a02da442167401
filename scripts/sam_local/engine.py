"""The container engine: finds one that runs, or installs and starts Docker by hand on a bare Debian machine."""

# ruff: noqa: TID251 - a command waits for a daemon and hands its environment on

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sam_local import shell
from sam_local.errors import NotPossibleHereError, SamLocalError

SECONDS_TO_START = 60
SECONDS_TO_STOP = 30
PACKAGES = {"dockerd": "docker.io", "docker": "docker.io", "debootstrap": "debootstrap"}


@contextmanager
def running_engine(log: Path, *, may_install: bool) -> Iterator[None]:
    """Hold a container engine for the length of the block; what was started here is stopped here."""
    if _answers():
        yield
        return
    if not may_install:
        raise NotPossibleHereError(
            "no container engine answers `docker info`. Start Docker (or Finch, or Podman with a Docker socket); "
            "on a Debian machine, as root, --install does it for you"
        )
    if os.geteuid() != 0 or not Path("/etc/debian_version").exists():
        raise NotPossibleHereError("no container engine answers, and only root on Debian can have one installed")
    install_missing("dockerd", "docker")
    daemon = _start(log)
    try:
        yield
    finally:
        daemon.terminate()
        try:
            daemon.wait(SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            daemon.kill()


def install_missing(*programs: str) -> None:
    packages = sorted({PACKAGES[program] for program in programs if shutil.which(program) is None})
    if packages:
        quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        shell.run(["apt-get", "update", "-q"], env=quiet)
        shell.run(["apt-get", "install", "-q", "-y", "--no-install-recommends", *packages], env=quiet)


def bridge_address() -> str:
    """Return the address under which containers on the default bridge reach this machine."""
    networks = json.loads(shell.run(["docker", "network", "inspect", "bridge"]))
    for config in networks[0]["IPAM"]["Config"]:
        if "Gateway" in config:
            return str(config["Gateway"])
    return "172.17.0.1"


def _answers() -> bool:
    return shell.succeeds(["docker", "info", "--format", "{{.ServerVersion}}"], timeout=20)


def _start(log: Path) -> subprocess.Popen[bytes]:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        # A session of its own: Ctrl-C ends us first, and we end the daemon after the containers.
        daemon = subprocess.Popen(
            ["dockerd", "--storage-driver", "overlay2"], stdout=output, stderr=output, start_new_session=True
        )
    give_up = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < give_up and daemon.poll() is None:
        if _answers():
            return daemon
        time.sleep(0.5)
    daemon.terminate()
    raise SamLocalError(f"dockerd did not start; its log is {log}")
