"""The launch plan: which pools a run may use, in which order, and the exact request for each step."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from nightcrew.domain import tags as tag
from nightcrew.domain.job import CapacityType, Job

# AWS allows 50 launch template configurations and bounds the body of the request; one configuration with
# this many overrides stays far below both.
MAX_POOLS_PER_STEP = 60


@dataclass(frozen=True, slots=True)
class Subnet:
    subnet_id: str
    zone: str


@dataclass(frozen=True, slots=True)
class Image:
    """An AMI and the name of its root device, which a disk size has to be attached to."""

    image_id: str
    root_device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """The stack's launch template, pinned: `$Latest` would make a repeated request a different one."""

    template_id: str
    version: str


@dataclass(frozen=True, slots=True)
class Pool:
    instance_type: str
    subnet_id: str
    zone: str


@dataclass(frozen=True, slots=True)
class PlanStep:
    """One CreateFleet call: every pool of one capacity type at once."""

    capacity_type: CapacityType
    pools: tuple[Pool, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchPlan:
    """Everything a launch depends on, frozen in the run record before the first call."""

    template: Template
    image: Image
    disk_gib: int | None
    steps: tuple[PlanStep, ...]


class RefusalKind(StrEnum):
    """What a refused launch means for what we do next."""

    CAPACITY = "capacity"
    QUOTA = "quota"
    THROTTLED = "throttled"
    CONFIGURATION = "configuration"
    PERMISSION = "permission"
    WORKER_GONE = "worker_gone"

    @property
    def tries_next_step(self) -> bool:
        """Whether another capacity type may do better: full pools and quotas are counted per capacity type."""
        return self in {RefusalKind.CAPACITY, RefusalKind.QUOTA}


@dataclass(frozen=True, slots=True)
class Refusal:
    """What one pool answered, kept so that a run can say which pools were tried."""

    pool: str
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchRequest:
    """One CreateFleet call, complete: built only from the record, so that repeating it repeats it exactly."""

    client_token: str
    launch: str
    template: Template
    image: Image
    disk_gib: int | None
    step: PlanStep
    tags: tuple[tuple[str, str], ...]
    count: int = 1


_STEPS: Mapping[CapacityType, tuple[CapacityType, ...]] = {
    CapacityType.SPOT: (CapacityType.SPOT,),
    CapacityType.ON_DEMAND: (CapacityType.ON_DEMAND,),
    CapacityType.SPOT_THEN_ON_DEMAND: (CapacityType.SPOT, CapacityType.ON_DEMAND),
}


def make_plan(job: Job, *, template: Template, image: Image, subnets: tuple[Subnet, ...]) -> LaunchPlan:
    """Return the plan for a run of this job: all its instance types in one subnet of each zone.

    EC2 refuses a fleet that spans two subnets of one zone, so the first subnet of each zone is taken.
    """
    by_zone: dict[str, Subnet] = {}
    for subnet in subnets:
        by_zone.setdefault(subnet.zone, subnet)
    pools = tuple(
        Pool(instance_type, subnet.subnet_id, subnet.zone)
        for instance_type in job.compute.instance_types
        for subnet in by_zone.values()
    )[:MAX_POOLS_PER_STEP]
    steps = tuple(PlanStep(capacity_type, pools) for capacity_type in _STEPS[job.compute.capacity_type])
    return LaunchPlan(template=template, image=image, disk_gib=job.compute.disk_gib, steps=steps)


def client_token(stack: str, run_id: str, attempt: int, step: int, repeats: int = 0) -> str:
    """Return the ClientToken of one launch: at most 64 ASCII characters, a new one for each attempt and step.

    The attempt is in it because a token outlives its instance (a repeated one returns the dead worker), the
    step because a changed request under one token is refused, and `repeats` because a fleet that was throttled
    empty would be the answer to its token for ever. The nonce is not in it: even if every record is lost, a
    redelivered tick cannot launch a second worker.
    """
    again = f"/{repeats}" if repeats else ""
    return hashlib.sha256(f"{stack}/{run_id}/{attempt}/{step}{again}".encode()).hexdigest()


def worker_tags(
    job: Job, *, stack: str, run_id: str, attempt: int, launch: str, deadline: datetime
) -> tuple[tuple[str, str], ...]:
    """Return every tag of a worker, its disk and its network interface; ours win over the job's own."""
    own = {
        "Name": run_id,
        tag.STACK: stack,
        tag.JOB: job.name,
        tag.RUN: run_id,
        tag.ATTEMPT: str(attempt),
        tag.LAUNCH: launch,
        tag.DEADLINE: tag.format_time(deadline),
        tag.ON_FINISH: job.on_finish.value,
    }
    return tuple(sorted({**job.tags, **own}.items()))
