"""Find and end processes by the marker in their environment, whatever became of their parents and sessions."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

from nightcrew_cli.local import clock


def marked(name: str, value: str) -> list[int]:
    """Return the processes whose environment holds name=value; our own is left out.

    Only Linux tells us another process's environment. Elsewhere the answer is empty and the supervisor's process
    group has to be enough.
    """
    wanted = f"{name}={value}".encode()
    return [pid for pid, environment in _environments() if wanted in environment.split(b"\0")]


def _environments() -> Iterator[tuple[int, bytes]]:
    own = os.getpid()
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        if pid == own:
            continue
        try:
            environment = (folder / "environ").read_bytes()
        except OSError:
            continue
        if environment:  # a zombie has none
            yield pid, environment


def end_marked(name: str, value: str, *, seconds: float = 5.0) -> bool:
    """Kill every marked process until none is left; a process may fork while we look, hence the loop."""

    def none_left() -> bool:
        left = marked(name, value)
        for pid in left:
            send(pid, signal.SIGKILL)
        return not left

    return clock.wait_until(none_left, seconds, every=0.02)


def send(pid: int, what: signal.Signals) -> None:
    """Signal a process; one that is gone already is no error."""
    try:
        os.kill(pid, what)
    except (ProcessLookupError, PermissionError):
        return
