"""What the use cases need of the world. Every port says what absence means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from nightcrew.domain.job import Job
from nightcrew.domain.plan import Image, LaunchRequest, Refusal, RefusalKind, Subnet
from nightcrew.domain.result import Result
from nightcrew.domain.run import Attempt, Run, Worker
from nightcrew.domain.sweep import LeftOver, SeenWorker


class Clock(Protocol):
    def now(self) -> datetime: ...


class Nonces(Protocol):
    def draw(self) -> str:
        """Return a text that nobody can guess."""
        ...


class JobStore(Protocol):
    def get(self, name: str, revision: str) -> Job | None:
        """Return the job as it was applied under this revision, or None when there is no such record."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedJob:
    """A scheduled job and the tick by which a run of it must exist, or be recorded as missed."""

    job: Job
    tick: datetime


class JobWatch(Protocol):
    def advance(self, watched: WatchedJob) -> None:
        """Expect the tick after this one; does nothing when the job was changed or removed meanwhile."""
        ...


@dataclass(frozen=True, slots=True)
class Due:
    """What wants attention now, the longest due first."""

    run_ids: tuple[str, ...] = ()
    jobs: tuple[WatchedJob, ...] = ()
    unreadable_jobs: tuple[str, ...] = ()


class DueList(Protocol):
    def due(self, now: datetime) -> Due:
        """Return what is due, by one query. Raises UnreadableError."""
        ...


class RunStore(Protocol):
    def create(self, run: Run) -> bool:
        """Write the first version; return False when a run of this id already exists."""
        ...

    def get(self, run_id: str) -> Run | None:
        """Return the run, strongly consistent, or None when there is none."""
        ...

    def get_many(self, run_ids: Iterable[str]) -> Mapping[str, Run | None]:
        """Return an answer for each id that could be read; None is "no record". Unreadable ids are left out."""
        ...

    def save(self, run: Run) -> Run:
        """Write the run if its version is unchanged, and return it with the new one. Raises StaleRunError."""
        ...

    def runs_of(self, instance_ids: Iterable[str]) -> Mapping[str, str]:
        """Return the run id for each instance that is a worker of ours; foreign ones are left out."""
        ...

    def open(self) -> Sequence[Run]:
        """Return every run that is not closed."""
        ...


@dataclass(frozen=True, slots=True)
class LaunchRefused:
    """Nothing was launched, for certain. A spent token would be answered so for ever."""

    kind: RefusalKind
    refusals: tuple[Refusal, ...]
    is_token_spent: bool = False


class Fleet(Protocol):
    def launch(self, request: LaunchRequest) -> Worker | LaunchRefused:
        """Launch one worker. Raises AmbiguousLaunchError when it may have been launched unseen."""
        ...


class LaunchInputs(Protocol):
    def image(self, image: str) -> Image:
        """Resolve `ami-…` or `ssm:/path`. Raises LaunchInputError."""
        ...

    def subnets(self, subnet_ids: Sequence[str]) -> tuple[Subnet, ...]:
        """Return these subnets, or the default ones of the default VPC for none. Raises LaunchInputError."""
        ...


class Exchange(Protocol):
    """The bucket through which launcher and workers talk."""

    def put_roster(self, run: Run, attempt: Attempt, worker: Worker) -> None: ...

    def result(self, attempt: Attempt) -> Result | None:
        """Return what this attempt's own worker wrote, or None when there is no (valid) result."""
        ...


class EndStatus(StrEnum):
    ENDED = "ended"
    DENIED = "denied"
    PROTECTED = "protected"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class EndReport:
    status: EndStatus
    message: str = ""


class Workers(Protocol):
    def describe(self, instance_ids: Sequence[str]) -> Mapping[str, SeenWorker]:
        """Return what AWS knows of these; unknown ids are left out. Raises UnreadableError."""
        ...

    def of_launch(self, launch: str) -> SeenWorker | None:
        """Return the living worker that carries this launch tag, or None. Raises UnreadableError."""
        ...

    def all_ours(self) -> Sequence[SeenWorker]:
        """Return every worker of this stack that is not terminated. Raises UnreadableError."""
        ...

    def terminate(self, instance_ids: Sequence[str]) -> Mapping[str, EndReport]:
        """End these workers; one that is gone already has ended. Every id gets its report."""
        ...

    def stop(self, instance_ids: Sequence[str]) -> Mapping[str, EndReport]: ...


class LeftOvers(Protocol):
    """Unattached volumes and network interfaces that carry our stack's tag."""

    def find(self) -> Sequence[LeftOver]:
        """Raises UnreadableError."""
        ...

    def delete(self, resource_id: str) -> EndReport: ...


class LaunchRequests(Protocol):
    def request(self, run_id: str) -> None:
        """Have the launcher carry on with this run, soon and at least once."""
        ...


class Notifier(Protocol):
    def send(self, subject: str, text: str) -> None: ...
