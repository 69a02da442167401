"""A worker as a real process tree: what a running instance is on this machine."""

import asyncio
import base64
import binascii
import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nightcrew_cli.local import processes
from nightcrew_cli.local.settings import ENVIRONMENT, MARKER, HostSettings, base_python

INSTANCE_MARKER = "NIGHTCREW_LOCAL_INSTANCE"
PASSED_ON = ("LANG", "LC_ALL", "TZ", "SSL_CERT_FILE")
"""All a worker sees of our own environment besides PATH: no credentials, no profile, no proxies of ours."""

SWITCH = """#!/bin/sh
# Stands in for the machine's own command; the guest's supervisor reads the other end.
set -- {arguments} "$@"
for word in "$@"; do
  case "$word" in
    -*|now|+[0-9]*|[0-9]*) ;;
    *) break ;;
  esac
done
printf '%s\\n' "$*" > "{switch}"
"""


@dataclass(frozen=True, slots=True)
class GuestReport:
    """What a guest tells the host: started, exited, power_off_armed, poweroff, gone …"""

    instance_id: str
    event: str
    fields: dict[str, Any] = field(default_factory=dict)


def decode_user_data(text: str) -> bytes:
    """Return user data as the guest sees it; the API carries it in base64, some templates as plain text."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return text.encode()


class WorkerProcess:
    """One guest: its folder, its supervisor, its console."""

    def __init__(self, instance_id: str, settings: HostSettings, report: Callable[[GuestReport], None]) -> None:
        self.instance_id = instance_id
        self.settings = settings
        self.report = report
        self.folder = Path(settings.home) / "instances" / instance_id
        self.pid: int | None = None
        self.exit_code: int | None = None
        self.power_off_in: float | None = None
        self._supervisor: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def supervisor_pid(self) -> int | None:
        return self._supervisor.pid if self._supervisor and self._supervisor.returncode is None else None

    @property
    def is_alive(self) -> bool:
        return self._task is not None and not self._task.done()

    def boot(self, user_data: bytes) -> None:
        """Start the guest; the answer arrives as reports."""
        self._task = asyncio.get_running_loop().create_task(self._run(self._prepare(user_data)))

    def stop(self, grace: float) -> None:
        """Shut the guest down as the hypervisor's power button does: politely first."""
        if not self.is_alive:
            self._tell("gone")
        elif self._supervisor and self._supervisor.stdin:
            processes.send(self._supervisor.pid, signal.SIGCONT)
            with contextlib.suppress(OSError):
                self._supervisor.stdin.write(json.dumps({"grace": grace}).encode() + b"\n")
            asyncio.get_running_loop().call_later(grace + 3.0, self.kill)
        else:
            self.kill()

    def kill(self) -> None:
        """End the guest at once, as pulling the plug does."""
        if not self.is_alive:
            return
        if self._supervisor:
            processes.end_tree(self._supervisor.pid)

    def freeze(self) -> None:
        """Let every process of the guest hang: it is there and does nothing, timers included."""
        for pid in processes.marked(INSTANCE_MARKER, self.instance_id):
            processes.send(pid, signal.SIGSTOP)

    def console(self) -> str:
        """Return the newest 64 KB, as much as EC2 keeps."""
        try:
            return (self.folder / "console.txt").read_bytes()[-65536:].decode(errors="replace")
        except OSError:
            return ""

    def discard(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def environment(self) -> dict[str, str]:
        """Return the environment user data runs in."""
        commands = str(self.folder / "bin")
        return {
            **{name: ENVIRONMENT[name] for name in PASSED_ON if name in ENVIRONMENT},
            "PATH": os.pathsep.join([commands, ENVIRONMENT.get("PATH", "/usr/local/bin:/usr/bin:/bin")]),
            "HOME": str(self.folder / "root"),
            "TMPDIR": str(self.folder / "tmp"),
            "NIGHTCREW_HOME": str(self.folder / "nightcrew"),
            "AWS_ENDPOINT_URL": self.settings.endpoint,
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"{self.settings.endpoint}/_nightcrew/imds/{self.instance_id}",
            INSTANCE_MARKER: self.instance_id,
            MARKER: self.settings.home,
        }

    def _prepare(self, user_data: bytes) -> dict[str, Any]:
        for name in ("bin", "root", "tmp", "nightcrew"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        switch = self.folder / "switch"
        switch.unlink(missing_ok=True)
        os.mkfifo(switch)
        for name, arguments in (("shutdown", ""), ("poweroff", "-P now"), ("halt", "-P now"), ("reboot", "-r now")):
            script = self.folder / "bin" / name
            script.write_text(SWITCH.format(arguments=arguments, switch=switch))
            script.chmod(0o755)
        for name in ("python3", "python"):
            link = self.folder / "bin" / name
            link.unlink(missing_ok=True)
            # The interpreter of our virtual environment would hide that a real machine lacks our packages.
            link.symlink_to(base_python())
        script = self.folder / "user-data"
        script.write_bytes(user_data)
        script.chmod(0o700)
        return {
            "switch": str(switch),
            "console": str(self.folder / "console.txt"),
            "cwd": str(self.folder / "root"),
            "user_data": _command_of(script, user_data),
            "env": self.environment(),
            "grace": self.settings.shutdown_grace,
            "minute": self.settings.minute,
        }

    async def _run(self, order: dict[str, Any]) -> None:
        guest = str(Path(__file__).with_name("guest.py"))
        self._supervisor = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            guest,
            json.dumps(order),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={"PATH": ENVIRONMENT.get("PATH", ""), INSTANCE_MARKER: self.instance_id, MARKER: self.settings.home},
            start_new_session=True,
        )
        reports = self._supervisor.stdout
        while reports and (line := await reports.readline()):
            fields = json.loads(line)
            self._note(fields.pop("event"), fields)
        await self._supervisor.wait()
        # Whatever escaped a supervisor that was killed itself.
        await asyncio.to_thread(processes.end_marked, INSTANCE_MARKER, self.instance_id)
        asyncio.get_running_loop().call_soon(self._tell, "gone")

    def _note(self, event: str, fields: dict[str, Any]) -> None:
        match event:
            case "started":
                self.pid = fields["pid"]
            case "exited":
                self.exit_code = fields["code"]
            case "power_off_armed":
                self.power_off_in = fields["seconds"]
            case "power_off_cancelled":
                self.power_off_in = None
        self._tell(event, **fields)

    def _tell(self, event: str, **fields: Any) -> None:
        self.report(GuestReport(self.instance_id, event, fields))


def _command_of(script: Path, user_data: bytes) -> list[str]:
    """Return how to run the user data; like cloud-init we run scripts only, which start with #!."""
    if not user_data.startswith(b"#!"):
        return []
    if b"sh" in user_data.splitlines()[0]:
        return [shutil.which("bash") or "/bin/bash", str(script)]
    return [str(script)]
