"""The compiled job: what the CLI writes, what a run freezes, and its canonical JSON and revision."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any

VERSION = 1


class JobFormatError(ValueError):
    """The JSON is not a compiled job this version can read."""


class CapacityType(StrEnum):
    """How the machine is bought."""

    SPOT = "spot"
    ON_DEMAND = "on-demand"
    SPOT_THEN_ON_DEMAND = "spot-then-on-demand"


class OnFinish(StrEnum):
    """What becomes of the worker when its attempt has ended."""

    TERMINATE = "terminate"
    STOP = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSchedule:
    """When the job runs; the expressions are EventBridge Scheduler's (see schedule.py)."""

    expressions: tuple[str, ...]
    timezone: str = "UTC"
    enabled: bool = True
    start_within: timedelta = timedelta(minutes=30)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "JobSchedule":
        return cls(
            expressions=tuple(data["expressions"]),
            timezone=data["timezone"],
            enabled=bool(data["enabled"]),
            start_within=timedelta(seconds=data["start_within"]),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "expressions": list(self.expressions),
            "timezone": self.timezone,
            "enabled": self.enabled,
            "start_within": _seconds(self.start_within),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """The machine. `image` is `ssm:/path` or `ami-…`; `disk_gib` None keeps the image's own size."""

    image: str
    instance_types: tuple[str, ...]
    capacity_type: CapacityType = CapacityType.ON_DEMAND
    disk_gib: int | None = None
    subnets: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Compute":
        return cls(
            image=data["image"],
            instance_types=tuple(data["instance_types"]),
            capacity_type=CapacityType(data["capacity_type"]),
            disk_gib=None if data["disk_gib"] is None else int(data["disk_gib"]),
            subnets=tuple(data["subnets"]),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "image": self.image,
            "instance_types": list(self.instance_types),
            "capacity_type": self.capacity_type.value,
            "disk_gib": self.disk_gib,
            "subnets": list(self.subnets),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long to wait before a retry."""

    initial: timedelta = timedelta(minutes=1)
    factor: int = 2
    max: timedelta = timedelta(minutes=15)

    def delay(self, retry: int) -> timedelta:
        """Return the wait before the given retry, counted from 1."""
        delay = self.initial
        # Step by step: factor ** retry would build a number of any size before max cuts it.
        for _ in range(retry - 1):
            if delay >= self.max or self.factor <= 1:
                break
            delay *= self.factor
        return min(delay, self.max)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Backoff":
        return cls(
            initial=timedelta(seconds=data["initial"]),
            factor=int(data["factor"]),
            max=timedelta(seconds=data["max"]),
        )

    def to_json(self) -> dict[str, Any]:
        return {"initial": _seconds(self.initial), "factor": self.factor, "max": _seconds(self.max)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Two budgets: all attempts at the job's own failures, and the interruptions forgiven on top of them."""

    attempts: int = 1
    interruptions: int = 3
    backoff: Backoff = field(default_factory=Backoff)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Retry":
        return cls(
            attempts=int(data["attempts"]),
            interruptions=int(data["interruptions"]),
            backoff=Backoff.from_json(data["backoff"]),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "attempts": self.attempts,
            "interruptions": self.interruptions,
            "backoff": self.backoff.to_json(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The archive that is unpacked in the work directory, as a key of the exchange bucket."""

    key: str
    sha256: str

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Files":
        return cls(key=data["key"], sha256=data["sha256"])

    def to_json(self) -> dict[str, Any]:
        return {"key": self.key, "sha256": self.sha256}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be run. `timeout` limits an attempt; `deadline` the run, counted from its tick."""

    name: str
    command: str
    compute: Compute
    timeout: timedelta
    deadline: timedelta
    description: str = ""
    owner: str = ""
    schedule: JobSchedule | None = None
    env: Mapping[str, str] = field(default_factory=dict, hash=False)
    files: Files | None = None
    retry: Retry = field(default_factory=Retry)
    on_finish: OnFinish = OnFinish.TERMINATE
    tags: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def revision(self) -> str:
        """Twelve hex digits that change when anything in the job changes."""
        return hashlib.sha256(canonical_json(self).encode()).hexdigest()[:12]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Job":
        """Read a compiled job; keys we do not know are left out, a version we do not know is an error."""
        _check_version(data)
        name = data.get("name", "?")
        try:
            return cls._from_json(data)
        except KeyError as error:
            raise JobFormatError(f"compiled job {name!r} lacks the key {error}; apply it again") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise JobFormatError(f"compiled job {name!r} is damaged: {error}; apply it again") from error

    @classmethod
    def _from_json(cls, data: Mapping[str, Any]) -> "Job":
        return cls(
            name=data["name"],
            description=data["description"],
            owner=data["owner"],
            schedule=None if data["schedule"] is None else JobSchedule.from_json(data["schedule"]),
            command=data["command"],
            env=dict(data["env"]),
            files=None if data["files"] is None else Files.from_json(data["files"]),
            compute=Compute.from_json(data["compute"]),
            timeout=timedelta(seconds=data["timeout"]),
            deadline=timedelta(seconds=data["deadline"]),
            retry=Retry.from_json(data["retry"]),
            on_finish=OnFinish(data["on_finish"]),
            tags=dict(data["tags"]),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "name": self.name,
            "description": self.description,
            "owner": self.owner,
            "schedule": None if self.schedule is None else self.schedule.to_json(),
            "command": self.command,
            "env": dict(self.env),
            "files": None if self.files is None else self.files.to_json(),
            "compute": self.compute.to_json(),
            "timeout": _seconds(self.timeout),
            "deadline": _seconds(self.deadline),
            "retry": self.retry.to_json(),
            "on_finish": self.on_finish.value,
            "tags": dict(self.tags),
        }


def canonical_json(job: Job) -> str:
    """The one spelling of a job, so that equal jobs have equal revisions."""
    return json.dumps(job.to_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _check_version(data: Mapping[str, Any]) -> None:
    version = data.get("version")
    name = data.get("name", "?")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise JobFormatError(f"compiled job {name!r} has no valid version (found {version!r}); apply it again")
    if version > VERSION:
        raise JobFormatError(
            f"compiled job {name!r} has version {version}, this stack reads up to {VERSION}: upgrade the stack"
        )


def _seconds(duration: timedelta) -> int:
    seconds, rest = divmod(duration, timedelta(seconds=1))
    if rest:
        raise JobFormatError(f"{duration} is not a whole number of seconds")
    return seconds
