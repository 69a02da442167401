"""Start, find and end the local stack from another process: `up`, `status` and `down`."""

import contextlib
import fcntl
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nightcrew_cli.local import clock, processes
from nightcrew_cli.local.client import LocalError, LocalHost
from nightcrew_cli.local.settings import (
    DEFAULT_PORT,
    DEFAULT_REGION,
    ENVIRONMENT,
    MARKER,
    HostSettings,
    RunningHost,
    free_port,
    is_alive,
    local_home,
    read_state,
    state_file,
    write_state,
)

Progress = Callable[[str, str], None]
SCRATCH = "scratch"
DATA = ("instances", SCRATCH, "function-runtime", "host.log")
HEALTHY_WITHIN = 60.0


@dataclass(frozen=True, slots=True)
class Host:
    """A running local stack: where it is, and its control API."""

    running: RunningHost
    control: LocalHost
    started: bool = False
    """False when it was up already."""
    environment: dict[str, str] = field(default_factory=dict)
    """What any AWS client needs in its environment to talk to it as administrator."""


def status(home: Path | None = None) -> Host | None:
    """Return the stack that is up, or None."""
    running = read_state(home or local_home())
    if running is None or not is_alive(running.pid):
        return None
    control = LocalHost(running.endpoint)
    try:
        if control.status()["home"] != running.home:
            return None
    except LocalError:
        return None
    return Host(running, control, environment=client_environment(running))


def up(
    *,
    home: Path | None = None,
    port: int = DEFAULT_PORT,
    region: str = "",
    settings: Mapping[str, Any] | None = None,
    progress: Progress = lambda _phase, _detail: None,
) -> Host:
    """Start the host and wait until it answers; return the running one when it is up already.

    `settings` overrides fields of HostSettings (delays and the like).
    """
    home = (home or local_home()).absolute()
    with _alone(home):
        if known := status(home):
            progress("host", f"already up at {known.running.endpoint}")
            return known
        # The data too: an earlier end may have been cut short in the middle of removing it.
        left = any((home / name).exists() for name in (*DATA, state_file(home).name))
        if left or processes.marked(MARKER, str(home)):
            progress("clean", "removing what an earlier host left behind")
            _clean(home)
        chosen = HostSettings(home=str(home), port=free_port(port), region=region or _region(), **(settings or {}))
        progress("host", f"starting the emulator and the EC2 host at {chosen.endpoint}")
        running = _start(home, chosen)
        progress("host", f"up at {running.endpoint}, process {running.pid}")
        return Host(running, LocalHost(running.endpoint), started=True, environment=client_environment(running))


def down(home: Path | None = None, *, progress: Progress = lambda _phase, _detail: None) -> bool:
    """End every process of the stack and remove its data; False when nothing was there."""
    home = (home or local_home()).absolute()
    running, left = read_state(home), processes.marked(MARKER, str(home))
    if running is None and not left and not state_file(home).exists():
        return False
    progress("down", f"ending {len(left)} processes")
    with _alone(home):
        _clean(home)
    progress("down", "all processes ended, data removed")
    return True


def client_environment(running: RunningHost) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": running.endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": running.region,
        "AWS_REGION": running.region,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def note_stack(home: Path, stack: str) -> None:
    """Remember the name of the stack that was deployed."""
    running = read_state(home)
    if running:
        write_state(home, replace(running, stack=stack))


def _start(home: Path, settings: HostSettings) -> RunningHost:
    (home / SCRATCH).mkdir(parents=True, exist_ok=True)
    log = home / "host.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "nightcrew_cli.local.host", settings.to_json()],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=home,
            env=_host_environment(settings),
            start_new_session=True,
        )
    control = LocalHost(settings.endpoint, timeout=2.0)

    def answers() -> bool:
        if process.poll() is not None:
            return True
        with contextlib.suppress(LocalError):
            return int(control.status()["pid"]) == process.pid
        return False

    healthy = clock.wait_until(answers, HEALTHY_WITHIN, every=0.1)
    if not healthy or process.poll() is not None:
        text = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        _clean(home)
        raise LocalError(f"the local host did not start. Its last words:\n{text}")
    process.returncode = 0  # it outlives us on purpose; nothing is to wait for it
    running = RunningHost(
        pid=process.pid,
        port=settings.port,
        home=str(home),
        region=settings.region,
        started_at=clock.stamp(clock.now()),
    )
    write_state(home, running)
    return running


def _host_environment(settings: HostSettings) -> dict[str, str]:
    """Return an environment in which neither the user's AWS account nor their Docker can be reached."""
    passed = {name: ENVIRONMENT[name] for name in ("PATH", "HOME", "LANG", "LC_ALL", "TZ") if name in ENVIRONMENT}
    return passed | {
        MARKER: settings.home,
        "TMPDIR": f"{settings.home}/{SCRATCH}",
        "AUTH": "true",
        "GATEWAY_PORT": str(settings.port),
        "MINISTACK_REGION": settings.region,
        "LOG_LEVEL": settings.log_level,
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        "DOCKER_HOST": "unix:///nonexistent/docker.sock",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": settings.region,
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
        "PYTHONUNBUFFERED": "1",
    }


def _clean(home: Path) -> None:
    """End what is left and remove the data. The host goes first: it ends its guests in good order."""
    running = read_state(home)
    left = processes.marked(MARKER, str(home))
    # A number in an old file may belong to somebody else by now; where we can see the marker, it decides.
    if running and (running.pid in left or (not Path("/proc/self").exists() and status(home))):
        processes.send(running.pid, signal.SIGTERM)
        clock.wait_until(lambda: not is_alive(running.pid), 5.0)
        if is_alive(running.pid):
            processes.send(running.pid, signal.SIGKILL)
    if not processes.end_marked(MARKER, str(home)):
        raise LocalError(f"some processes of {home} do not end: {processes.marked(MARKER, str(home))}")
    state_file(home).unlink(missing_ok=True)
    for name in DATA:
        path = home / name
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Hold the folder: two `up` at once must not start two hosts."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _region() -> str:
    return ENVIRONMENT.get("AWS_REGION") or ENVIRONMENT.get("AWS_DEFAULT_REGION") or DEFAULT_REGION
