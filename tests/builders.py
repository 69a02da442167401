"""Whole, valid values for tests; a test names only what it is about."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from nightcrew.domain.job import CapacityType, Compute, Job, Retry
from nightcrew.domain.lifecycle import Launched, WorkerRunning, decide, new_run
from nightcrew.domain.plan import Image, LaunchPlan, Subnet, Template, make_plan
from nightcrew.domain.result import Result
from nightcrew.domain.run import Limits, Outcome, Run, Trigger, Worker

NOW = datetime(2026, 1, 16, 2, 30, tzinfo=UTC)
LIMITS = Limits()
TEMPLATE = Template(template_id="lt-0123456789abcdef0", version="3")
SUBNETS = (Subnet("subnet-a", "eu-west-1a"), Subnet("subnet-b", "eu-west-1b"))


def make_job(**changes: Any) -> Job:
    compute = Compute(
        image="ami-12345678",
        instance_types=("m7g.large", "m6g.large"),
        capacity_type=changes.pop("capacity_type", CapacityType.SPOT_THEN_ON_DEMAND),
        disk_gib=changes.pop("disk_gib", 30),
    )
    job = Job(
        name="nightly-report",
        command="echo hello",
        compute=compute,
        timeout=timedelta(hours=1),
        deadline=timedelta(hours=5),
        retry=Retry(attempts=2, interruptions=2),
    )
    return replace(job, **changes)


def make_plan_of(job: Job) -> LaunchPlan:
    return make_plan(job, template=TEMPLATE, image=Image("ami-12345678", "/dev/xvda"), subnets=SUBNETS)


def make_run(job: Job | None = None, *, now: datetime = NOW, **changes: Any) -> Run:
    """A run that was just accepted: LAUNCHING, attempt 1, step 0."""
    job = job or make_job()
    run = new_run(
        job,
        stack="nightcrew",
        scheduled_at=NOW,
        trigger=Trigger.SCHEDULE,
        nonce="0" * 32,
        now=now,
        plan=make_plan_of(job),
    )
    return replace(run, **changes)


def make_worker(instance_id: str = "i-00000001", **changes: Any) -> Worker:
    return replace(
        Worker(instance_id=instance_id, instance_type="m7g.large", capacity_type="on-demand", zone="eu-west-1a"),
        **changes,
    )


def launched(run: Run, worker: Worker | None = None, now: datetime = NOW) -> Run:
    assert run.attempt is not None
    return decide(run, Launched(run.attempt.number, worker or make_worker()), now, LIMITS).run


def running(run: Run, worker: Worker | None = None, now: datetime = NOW) -> Run:
    worker = worker or make_worker()
    return decide(launched(run, worker, now), WorkerRunning(worker), now, LIMITS).run


def make_result(run: Run, outcome: Outcome = Outcome.SUCCEEDED, exit_code: int | None = 0, message: str = "") -> Result:
    assert run.attempt is not None
    return Result(launch=run.attempt.launch, outcome=outcome, exit_code=exit_code, message=message)
