"""The command line on a stage: in-memory stores, a clock that only moves when somebody waits, and its audience."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from typer.testing import CliRunner, Result

from nightcrew.adapters.operator_requests import Started
from nightcrew.domain.job import Job
from nightcrew.domain.lifecycle import Decision, Event, WorkerEnding, decide, new_run
from nightcrew.domain.plan import Image, Subnet
from nightcrew.domain.run import Attempt, Run, Trigger
from nightcrew.usecases.operate import Operate, ScheduleRecord, ScheduleTarget
from nightcrew_cli.main import app
from tests.builders import LIMITS, NOW, SUBNETS, TEMPLATE, make_plan_of

TARGET = ScheduleTarget(launcher="arn:launcher", role="arn:role", dead_letters="arn:dlq")


@dataclass
class StageClock:
    """Time passes by sleeping; what is to happen meanwhile happens one step at each sleep."""

    time: datetime = NOW
    script: list[Callable[[], None]] = field(default_factory=list)

    def now(self) -> datetime:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)
        if not self.script:
            raise AssertionError("the command waits for something that never happens")
        self.script.pop(0)()


@dataclass
class MemoryJobs:
    applied: dict[str, Job] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    def current(self, name: str) -> Job | None:
        return self.applied.get(name)

    def all_current(self) -> list[Job]:
        return [self.applied[name] for name in sorted(self.applied)]

    def put(self, job: Job, now: datetime) -> None:
        self.log.append(f"record {job.name}")
        self.applied[job.name] = job

    def remove(self, name: str) -> None:
        self.log.append(f"remove record {name}")
        self.applied.pop(name, None)


@dataclass
class MemoryRuns:
    kept: dict[str, Run] = field(default_factory=dict)

    def add(self, *runs: Run) -> None:
        self.kept.update({run.run_id: run for run in runs})

    def get(self, run_id: str) -> Run | None:
        return self.kept.get(run_id)

    def open(self) -> list[Run]:
        return [run for run in self.kept.values() if not run.status.is_terminal]

    def recent(self, job_name: str, limit: int) -> list[Run]:
        found = [run for run in self.kept.values() if run.job.name == job_name]
        return sorted(found, key=lambda run: run.scheduled_at, reverse=True)[:limit]


@dataclass
class MemorySchedules:
    log: list[str]
    kept: dict[str, ScheduleRecord] = field(default_factory=dict)

    def get(self, name: str) -> ScheduleRecord | None:
        return self.kept.get(name)

    def put(self, schedule: ScheduleRecord, *, exists: bool) -> None:
        self.log.append(f"schedule {schedule.name}")
        self.kept[schedule.name] = schedule

    def remove(self, name: str) -> None:
        self.log.append(f"remove schedule {name}")
        self.kept.pop(name, None)


@dataclass
class MemoryExchange:
    log: list[str]
    files: dict[str, bytes] = field(default_factory=dict)
    written: dict[str, bytes] = field(default_factory=dict)

    def prefix(self, attempt: Attempt) -> str:
        assert attempt.worker is not None
        return f"workers/ROLE:{attempt.worker.instance_id}/{attempt.launch}/"

    def write(self, attempt: Attempt, path: str, data: bytes) -> None:
        self.written[self.prefix(attempt) + path] = data

    def has(self, key: str) -> bool:
        return key in self.files

    def put_files(self, key: str, data: bytes) -> None:
        self.log.append("files")
        self.files[key] = data

    def log_parts(self, attempt: Attempt, after: str = "") -> list[tuple[str, int, datetime]]:
        prefix = f"{self.prefix(attempt)}log/"
        keys = sorted(key for key in self.written if key.startswith(prefix) and key >= after)
        return [(key, len(self.written[key]), NOW) for key in keys]

    def read(self, key: str, start: int = 0) -> bytes:
        return self.written[key][start:]

    def outputs(self, attempt: Attempt) -> list[tuple[str, int]]:
        prefix = f"{self.prefix(attempt)}outputs/"
        return [(key.removeprefix(prefix), len(data)) for key, data in self.written.items() if key.startswith(prefix)]

    def download(self, attempt: Attempt, path: str) -> Iterator[bytes]:
        yield self.written[f"{self.prefix(attempt)}outputs/{path}"]

    def output_uri(self, attempt: Attempt) -> str:
        return f"s3://exchange/{self.prefix(attempt)}outputs/"


@dataclass(frozen=True)
class StageSettings:
    template = TEMPLATE
    subnets = ("subnet-a", "subnet-b")


class StageInputs:
    def image(self, image: str) -> Image:
        return Image("ami-12345678", "/dev/xvda")

    def subnets(self, subnet_ids: tuple[str, ...]) -> tuple[Subnet, ...]:
        return SUBNETS


@dataclass
class Stage:
    """A connection to a stack that is only memory, and the program that talks to it."""

    stack: str = "nightcrew"
    region: str = "eu-west-1"
    endpoint: str | None = None
    is_local: bool = False
    outputs: Any = None
    launcher_settings: Any = field(default_factory=StageSettings)
    launch_inputs: Any = field(default_factory=StageInputs)
    clock: StageClock = field(default_factory=StageClock)
    jobs: MemoryJobs = field(default_factory=MemoryJobs)
    runs: MemoryRuns = field(default_factory=MemoryRuns)
    options: Any = None
    cancelled: list[tuple[str, str]] = field(default_factory=list)
    workers: list[tuple[str, str, datetime]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.log = self.jobs.log
        self.schedules = MemorySchedules(self.log)
        self.exchange = MemoryExchange(self.log)
        self.launcher = self
        self.cancellations = self

    def operate(self, clock: Any) -> Operate:
        return Operate(jobs=self.jobs, schedules=self.schedules, files=self.exchange, target=TARGET, clock=self.clock)

    def caller(self) -> str:
        return "user/ann"

    def cancel(self, run_id: str, by: str) -> None:
        self.cancelled.append((run_id, by))

    def workers_of_stack(self) -> list[tuple[str, str, datetime]]:
        return self.workers

    def start(self, job: str, revision: str, now: datetime) -> Started:
        """The launcher's part: begin the run."""
        applied = self.jobs.applied[job]
        run = new_run(
            applied,
            stack=self.stack,
            scheduled_at=now,
            trigger=Trigger.MANUAL,
            nonce="0" * 32,
            now=now,
            plan=make_plan_of(applied),
        )
        self.runs.add(run)
        return Started(run.run_id, run.status.value, "")

    def happens(self, run_id: str, event: Callable[[Run], Event]) -> Callable[[], None]:
        """Return a step of the script: this event reaches the run."""

        def step() -> None:
            self.runs.add(self.after(self.runs.kept[run_id], event))

        return step

    def after(self, run: Run, event: Callable[[Run], Event]) -> Run:
        return decide(run, event(run), self.clock.now(), LIMITS).run

    def __call__(self, *arguments: str, **environment: str) -> Result:
        """Run the program."""
        return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "100", "NO_COLOR": "1", **environment})


def ended(run: Run, decision: Callable[[Run], Decision]) -> Run:
    """The run after its last event, and after its worker is gone."""
    run = decision(run).run
    while run.unended_workers:
        worker = run.unended_workers[0].worker
        assert worker is not None
        run = decide(run, WorkerEnding(worker.instance_id, is_final=True), run.updated_at, LIMITS).run
    return run
