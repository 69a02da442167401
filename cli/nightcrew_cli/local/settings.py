"""Where the local stack lives and how it behaves: its folder, its state file, its delays."""

import json
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

DEFAULT_PORT = 4580
DEFAULT_REGION = "us-east-1"
ACCOUNT = "000000000000"
MARKER = "NIGHTCREW_LOCAL_MARKER"
"""Environment variable that every process of one local stack carries, so that none can be missed when it ends."""

ENVIRONMENT: Mapping[str, str] = os.environ  # noqa: TID251 - the command line's own environment, read in one place


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """How the host behaves. Delays are seconds; they are short because nothing real has to boot."""

    home: str
    port: int = DEFAULT_PORT
    region: str = DEFAULT_REGION
    pending: float = 0.3
    stopping: float = 0.3
    shutting_down: float = 0.3
    shutdown_grace: float = 2.0
    minute: float = 60.0
    """Length of one minute of a guest's own `shutdown +N`."""
    interruption_notice: float = 120.0
    terminated_retention: float = 3600.0
    """AWS shows a terminated instance for about an hour."""
    log_level: str = "INFO"

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "HostSettings":
        return cls(**json.loads(text))

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningHost:
    """What the state file says of the host that is up."""

    pid: int
    port: int
    home: str
    region: str
    started_at: str
    stack: str = ""

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def local_home(environment: Mapping[str, str] = ENVIRONMENT) -> Path:
    """Return the folder of the local stack: NIGHTCREW_LOCAL_HOME, else one under XDG_STATE_HOME."""
    chosen = environment.get("NIGHTCREW_LOCAL_HOME")
    if chosen:
        return Path(chosen).absolute()
    state = environment.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "nightcrew"


def state_file(home: Path) -> Path:
    return home / "local.json"


def read_state(home: Path) -> RunningHost | None:
    """Return what the state file says, or None when there is none or it cannot be read."""
    try:
        return RunningHost(**json.loads(state_file(home).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def write_state(home: Path, host: RunningHost) -> None:
    home.mkdir(parents=True, exist_ok=True)
    draft = state_file(home).with_suffix(".new")
    draft.write_text(json.dumps(asdict(host), indent=2) + "\n")
    draft.replace(state_file(home))


def free_port(preferred: int) -> int:
    """Return the preferred port, or another one when it is taken."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            # A port in TIME_WAIT can be bound by the server, so it has to count as free here too.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no free port on 127.0.0.1")


def base_python() -> str:
    """Return the interpreter without the virtual environment: what a machine of its own would have."""
    return os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return False
