"""The guest of one local worker: runs its user data, owns its processes and its power switch.

Started by the host as a program of its own (standard library only). It reads commands as JSON lines on standard
input and answers on standard output. When standard input ends, the host is dead: everything is killed. So a killed
host leaves no worker behind.
"""

import ctypes
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
HAS_PROC = os.path.isdir("/proc/self")
DELAY = re.compile(r"\+?(\d+)")


def prctl(option: int, value: int) -> None:
    """Ask the kernel; on systems without prctl the guest is held together by its process group alone."""
    try:
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
    except (OSError, AttributeError):
        return


def descendants(root: int) -> list[int]:
    """Return every process below root; orphans count, because root is their subreaper."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except (OSError, ValueError):
            continue
        if state != "Z":
            parents[int(folder.name)] = int(parent)
    found = {root}
    while True:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        if not more:
            return sorted(found - {root})
        found |= more


class Guest:
    """A machine's processes, and the timer of its `shutdown`."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.order = order
        self.init: subprocess.Popen[bytes] | None = None
        self.power_off_at: float | None = None
        self.selector = selectors.DefaultSelector()
        self.unread = b""

    def run(self) -> None:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        wakeup, waker = os.pipe()
        os.set_blocking(wakeup, False)
        os.set_blocking(waker, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: None)
        switch = os.open(self.order["switch"], os.O_RDWR | os.O_NONBLOCK)
        self.selector.register(0, selectors.EVENT_READ, self.read_host)
        self.selector.register(switch, selectors.EVENT_READ, lambda: self.read_switch(switch))
        self.selector.register(wakeup, selectors.EVENT_READ, lambda: self.reap(wakeup))
        self.start()
        while True:
            for key, _ in self.selector.select(self.seconds_left()):
                action: Callable[[], None] = key.data
                action()
            if self.power_off_at is not None and time.monotonic() >= self.power_off_at:
                self.end(self.order["grace"], "poweroff")

    def start(self) -> None:
        console = open(self.order["console"], "ab", buffering=0)  # noqa: SIM115 - belongs to the child from here on
        if self.order["user_data"]:
            self.init = subprocess.Popen(
                self.order["user_data"],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env=self.order["env"],
                cwd=self.order["cwd"],
                start_new_session=True,
                preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
            )
        tell("started", pid=self.init.pid if self.init else None)

    def seconds_left(self) -> float | None:
        return None if self.power_off_at is None else max(0.0, self.power_off_at - time.monotonic())

    def read_host(self) -> None:
        data = os.read(0, 65536)
        if not data:
            self.end(0.0, "orphaned")
        self.unread += data
        while b"\n" in self.unread:
            line, self.unread = self.unread.split(b"\n", 1)
            command = json.loads(line)
            self.end(command["grace"], "stopped")

    def read_switch(self, switch: int) -> None:
        for line in os.read(switch, 65536).decode(errors="replace").splitlines():
            self.obey(line.split())

    def obey(self, words: list[str]) -> None:
        """Do what `shutdown` was asked for, as systemd does: without a time, in one minute."""
        flags = {word for word in words if word.startswith("-")}
        if "-c" in flags:
            self.power_off_at = None
            tell("power_off_cancelled")
            return
        when = next((word for word in words if not word.startswith("-")), "+1")
        delay = DELAY.fullmatch(when)
        minutes = int(delay.group(1)) if delay else 0
        if "-r" in flags and not delay:
            self.end_processes(self.order["grace"])
            tell("rebooted")
            return
        self.power_off_at = time.monotonic() + minutes * self.order["minute"]
        tell("power_off_armed", seconds=minutes * self.order["minute"])

    def reap(self, wakeup: int) -> None:
        os.read(wakeup, 4096)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self.init and pid == self.init.pid:
                self.init.returncode = os.waitstatus_to_exitcode(status)
                tell("exited", code=self.init.returncode)

    def end(self, grace: float, why: str) -> None:
        self.end_processes(grace)
        tell(why)
        sys.exit(0)

    def end_processes(self, grace: float) -> None:
        """SIGTERM to all, a short wait, SIGKILL until none is left."""
        deadline = time.monotonic() + grace
        if grace:
            self.signal_all(signal.SIGTERM)
        while self.alive() and time.monotonic() < deadline:
            self.collect()
            time.sleep(0.02)  # noqa: TID251 - waits for processes, and has nothing else to do
        while self.alive():
            self.signal_all(signal.SIGKILL)
            self.collect()
            time.sleep(0.005)  # noqa: TID251 - as above

    def alive(self) -> bool:
        if HAS_PROC:
            return bool(descendants(os.getpid()))
        return self.init is not None and self.init.poll() is None

    def signal_all(self, what: signal.Signals) -> None:
        for pid in descendants(os.getpid()):
            try:
                os.kill(pid, what)
            except ProcessLookupError:
                continue
        if self.init and not HAS_PROC:
            try:
                os.killpg(self.init.pid, what)
            except (ProcessLookupError, PermissionError):
                return

    @staticmethod
    def collect() -> None:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return


def tell(event: str, **fields: object) -> None:
    try:
        os.write(1, json.dumps({"event": event, **fields}).encode() + b"\n")
    except OSError:
        return  # the host is gone; there is nobody to tell


if __name__ == "__main__":
    Guest(json.loads(sys.argv[1])).run()
