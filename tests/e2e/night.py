"""What a person does with a stack, for the end-to-end tests: the command line, ticks, faults, and looking."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import boto3

from nightcrew.adapters.exchange import S3Exchange
from nightcrew.adapters.run_store import DynamoRuns
from nightcrew.adapters.table import Table
from nightcrew.domain.run import Attempt, Limits, Run, RunStatus
from nightcrew_cli.local import Host, processes
from nightcrew_cli.local.settings import MARKER

ROOT = Path(__file__).parent.parent.parent
T = TypeVar("T")


def quick_parameters() -> dict[str, str]:
    """A night in which nobody waits for minutes: otherwise the stack is as it would be on AWS."""
    return {"CheckInterval": "4", "GraceSeconds": "6"}


def wait_for(what: str, look: Callable[[], T | None], *, seconds: float = 60) -> T:
    """Return what `look` finds, or fail naming what was waited for."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds} s: {what}")


@dataclass(frozen=True)
class Cli:
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Night:
    host: Host
    outputs: dict[str, str]
    home: Path

    # ---- acting ------------------------------------------------------------------------------------------------

    def cli(self, *arguments: str, timeout: float = 120) -> Cli:
        environment = {
            **os.environ,
            "NIGHTCREW_LOCAL_HOME": str(self.home),
            "NIGHTCREW_LOCAL": "1",
            "NO_COLOR": "1",
            "COLUMNS": "140",
        }
        command = [sys.executable, "-m", "nightcrew_cli.main", *arguments]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=timeout, cwd=ROOT, check=False
        )
        return Cli(done.returncode, done.stdout, done.stderr)

    def apply(self, folder: Path, name: str, command: str, **fields: Any) -> str:
        """Write a job file as its user would, and apply it."""
        return self.apply_all(folder, {name: command}, **fields)[0]

    def apply_all(self, folder: Path, commands: Mapping[str, str], **fields: Any) -> list[str]:
        """Write a job file for each command and apply them together."""
        paths = [self._write_job(folder, name, command, dict(fields)) for name, command in commands.items()]
        done = self.cli("apply", *map(str, paths))
        assert done.code == 0, done.out + done.err
        return list(commands)

    @staticmethod
    def _write_job(folder: Path, name: str, command: str, fields: dict[str, Any]) -> Path:
        job = {
            "name": name,
            "command": command,
            "schedule": {"cron": "30 2 * * *"},
            "compute": {
                "image": "al2023",
                "instance_types": ["m7g.large"],
                "capacity_type": fields.pop("capacity_type", "on-demand"),
                "disk": "20GiB",
            },
            "timeout": "5m",
            "deadline": "30m",
            "retry": {"attempts": 1, "interruptions": 2, "backoff": {"initial": "1s", "factor": 1, "max": "1s"}},
            **fields,
        }
        path = folder / f"{name}.yaml"
        path.write_text(json.dumps(job), encoding="utf-8")  # JSON is YAML
        return path

    def tick(self, name: str, at: datetime | None = None) -> str:
        """Fire the schedule as Scheduler would; return the run's id."""
        at = (at or datetime.now(UTC)).replace(microsecond=0)
        self.host.control.tick(name, at)
        return f"{name}-{at:%Y%m%dT%H%M%SZ}"

    def invoke(self, function: str, payload: dict[str, Any]) -> dict[str, Any]:
        answer = self.client("lambda").invoke(FunctionName=self.outputs[function], Payload=json.dumps(payload))
        body = json.loads(answer["Payload"].read())
        assert "FunctionError" not in answer, body
        return dict(body)

    def kill_function(self, name: str) -> int:
        """SIGKILL every process that runs this function; return how many there were."""
        doomed = processes.marked("AWS_LAMBDA_FUNCTION_NAME", f"nightcrew-{name}")
        ours = set(doomed) & set(processes.marked(MARKER, str(self.home)))
        for pid in ours:
            processes.send(pid, signal.SIGKILL)
        return len(ours)

    def sweep(self, name: str = "due") -> dict[str, Any]:
        return self.invoke("ReaperName", {"sweep": name})

    def drop_all_events(self) -> None:
        self.host.control.faults(events=[{"action": "drop"}])

    # ---- looking -----------------------------------------------------------------------------------------------

    def client(self, service: str) -> Any:
        return boto3.Session(
            aws_access_key_id="test", aws_secret_access_key="test", region_name=self.host.running.region
        ).client(service, endpoint_url=self.host.running.endpoint)

    @property
    def runs(self) -> DynamoRuns:
        return DynamoRuns(Table(self.client("dynamodb"), self.outputs["TableName"]), Limits())

    @property
    def exchange(self) -> S3Exchange:
        return S3Exchange(self.client("s3"), self.outputs["BucketName"], self.outputs["WorkerRoleId"])

    def run(self, run_id: str) -> Run:
        return wait_for(f"a record of {run_id}", lambda: self.runs.get(run_id))

    def until(
        self, run_id: str, question: Callable[[Run], bool], *, seconds: float = 60, sweeping: bool = False
    ) -> Run:
        def look() -> Run | None:
            if sweeping:
                self.sweep()
            run = self.runs.get(run_id)
            return run if run is not None and question(run) else None

        try:
            return wait_for(f"{run_id}", look, seconds=seconds)
        except AssertionError as error:
            run = self.runs.get(run_id)
            story = "\n".join(f"{entry.at} {entry.text}" for entry in run.history) if run else "no record"
            raise AssertionError(f"{error}: {run.status if run else ''}\n{story}") from error

    def until_closed(self, run_id: str, *, seconds: float = 60, sweeping: bool = False) -> Run:
        return self.until(run_id, lambda run: run.status.is_terminal, seconds=seconds, sweeping=sweeping)

    def until_running(self, run_id: str) -> Attempt:
        run = self.until(run_id, lambda run: run.status is RunStatus.RUNNING)
        assert run.attempt is not None
        return run.attempt

    def until_log_says(self, run_id: str, text: str) -> None:
        wait_for(f"{text!r} in the log of {run_id}", lambda: text in self.log(run_id))

    def log(self, run_id: str) -> str:
        attempt = self.run(run_id).attempt
        if attempt is None or attempt.worker is None:
            return ""
        parts = self.exchange.log_parts(attempt)
        return b"".join(self.exchange.read(key) for key, _, _ in parts).decode()

    def workers_of(self, run_id: str) -> list[dict[str, Any]]:
        """Every instance EC2 knows of this run, whatever its state."""
        answer = self.client("ec2").describe_instances(Filters=[{"Name": "tag:nightcrew:run", "Values": [run_id]}])
        return [instance for reservation in answer["Reservations"] for instance in reservation["Instances"]]

    def states_of(self, run_id: str) -> list[str]:
        return [worker["State"]["Name"] for worker in self.workers_of(run_id)]

    def until_no_worker_lives(self, run_id: str, *, seconds: float = 30) -> None:
        wait_for(
            f"the end of all workers of {run_id}",
            lambda: all(state == "terminated" for state in self.states_of(run_id)),
            seconds=seconds,
        )
