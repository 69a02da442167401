"""Find and end processes by the marker in their environment, whatever became of their parents and sessions."""

import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

from nightcrew_cli.local import clock


def marked(name: str, value: str) -> list[int]:
    """Return the processes whose environment holds name=value, and all below them; our own is left out.

    Those below count because a worker gives its job's command an environment without our marker. Only Linux tells us
    another process's environment. Elsewhere the answer is empty and the supervisor's process group has to be enough.
    """
    wanted = f"{name}={value}".encode()
    found = {pid for pid, environment in _environments() if wanted in environment.split(b"\0")}
    return sorted((found | below(found)) - {os.getpid()}) if found else []


def below(roots: Iterable[int]) -> set[int]:
    """Return every living process that descends from these, themselves left out."""
    parents = dict(_parents())
    known, found = set(roots), set[int]()
    while more := {pid for pid, parent in parents.items() if parent in known} - known:
        known |= more
        found |= more
    return found


def _parents() -> Iterator[tuple[int, int]]:
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = file.read_text(errors="replace").rpartition(")")[2].split()[:2]
        except (OSError, ValueError):
            continue
        if state not in "ZX":
            yield int(file.parent.name), int(parent)


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


def end_tree(root: int, *, tries: int = 50) -> None:
    """Kill a process and all below it: itself last, because it adopts those whose parents die."""
    for _ in range(tries):
        left = below([root])
        if not left:
            break
        for pid in left:
            send(pid, signal.SIGKILL)
    send(root, signal.SIGKILL)


def send(pid: int, what: signal.Signals) -> None:
    """Signal a process; one that is gone already is no error."""
    try:
        os.kill(pid, what)
    except (ProcessLookupError, PermissionError):
        return
