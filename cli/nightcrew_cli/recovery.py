"""What doctor and redrive work with, put together over a connection. Nothing is called before it is needed.

A stack that is half there is what these commands are for: whatever needs an output of it is made inside the check
that needs it, so that only that check fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from nightcrew.adapters import operator_health
from nightcrew.adapters.clock import SecretNonces
from nightcrew.adapters.operator_archive import S3Archive
from nightcrew.adapters.operator_queues import SqsDeadLetters
from nightcrew.adapters.operator_schedules import ScheduleGroup
from nightcrew.adapters.run_store import DynamoRuns
from nightcrew.adapters.table import Table
from nightcrew.adapters.workers import Ec2Workers
from nightcrew.domain.run import Limits
from nightcrew.usecases import diagnosis, doctor
from nightcrew.usecases.diagnosis import Finding, Health
from nightcrew.usecases.doctor import Check
from nightcrew.usecases.rebuild import Rebuild, Survey
from nightcrew.usecases.redrive import DeadLetterQueue, Redrive

if TYPE_CHECKING:
    from nightcrew_cli.clock import Clock
    from nightcrew_cli.session import Connection

T = TypeVar("T")


def redrive(connection: Connection) -> Redrive:
    return Redrive(letters=_dead_letters(connection))


def rebuild(connection: Connection, clock: Clock) -> Rebuild:
    # The stack's own limits: a record that is written says when the sweep is to look at it.
    table = Table(connection.client("dynamodb"), connection.outputs.table)
    return Rebuild(
        stack=connection.stack,
        workers=_workers(connection),
        runs=DynamoRuns(table, connection.launcher_settings.limits),
        jobs=connection.jobs,
        schedules=ScheduleGroup(connection.schedules),
        archive=S3Archive(connection.exchange),
        nonces=SecretNonces(),
        clock=clock,
        limits=connection.launcher_settings.limits,
    )


def checks(connection: Connection, clock: Clock, *, version: str, window: timedelta) -> list[Check]:
    """Return every check of this stack, in the order in which one would look for a cause."""
    return _Checks(connection, clock, version, window).all()


def _dead_letters(connection: Connection) -> SqsDeadLetters:
    return SqsDeadLetters(
        sqs=connection.client("sqs"),
        functions=connection.client("lambda"),
        lifecycle_queue=connection.outputs.lifecycle_queue,
        undelivered=connection.outputs.scheduler_dead_letters,
        launcher=connection.outputs.launcher,
    )


def _workers(connection: Connection) -> Ec2Workers:
    return Ec2Workers(connection.client("ec2"), connection.stack)


@dataclass
class _Checks:
    connection: Connection
    clock: Clock
    version: str
    window: timedelta

    def all(self) -> list[Check]:
        found = {
            "identity": self._identity,
            "stack": lambda: diagnosis.stack(self.connection.stack, self._stack, self._deploy),
            "version": lambda: diagnosis.version(self.version, self._stack, self._deploy),
            "table": self._table,
            "bucket": self._bucket,
            "reaper": lambda: self._sweep("due"),
            "reaper (inventory)": lambda: self._sweep("inventory"),
            "alarms": self._alarms,
            "dead letters": self._dead_letters,
            "schedules": self._schedules,
            "workers": self._workers,
            "runs": lambda: doctor.open_runs(self.connection.runs, self.clock.now()),
            "records": lambda: doctor.lost_records(self._survey, int(self.window.total_seconds() // 3600)),
        }
        return [Check(name, make) for name, make in found.items()]

    @cached_property
    def _stack(self) -> diagnosis.StackState | None:
        return operator_health.stack(self.connection.client("cloudformation"), self.connection.stack)

    @cached_property
    def _survey(self) -> Survey:
        return rebuild(self.connection, self.clock).survey(window=self.window, thorough=False)

    @property
    def _deploy(self) -> str:
        return "nightcrew local up" if self.connection.is_local else "sam build && sam deploy"

    @property
    def _aws(self) -> str:
        endpoint = f" --endpoint-url {self.connection.endpoint}" if self.connection.is_local else ""
        return f"aws{endpoint} --region {self.connection.region}"

    def _identity(self) -> Iterable[Finding]:
        sts = self.connection.client("sts")
        return diagnosis.identity(operator_health.identity(sts, self.connection.region, self.clock.now))

    def _table(self) -> Iterable[Finding]:
        name = self.connection.outputs.table
        return diagnosis.table(name, operator_health.table(self.connection.client("dynamodb"), name), self._aws)

    def _bucket(self) -> Iterable[Finding]:
        name = self.connection.outputs.bucket
        self.connection.client("s3").head_bucket(Bucket=name)
        return [Finding(check="bucket", health=Health.OK, text=f"{name} can be reached")]

    def _sweep(self, name: str) -> Iterable[Finding]:
        now, reaper = self.clock.now(), f"{self.connection.stack}-reaper"
        seen = operator_health.sweep(
            self.connection.client("cloudwatch"),
            self.connection.client("logs"),
            name,
            stack=self.connection.stack,
            reaper=reaper,
            now=now,
        )
        stack = _or_none(lambda: self._stack)
        log = f"{self._aws} logs tail /aws/lambda/{reaper} --since 1h"
        return diagnosis.sweep(seen, now, stack.created_at if stack else None, log)

    def _alarms(self) -> Iterable[Finding]:
        formation, metrics = self.connection.client("cloudformation"), self.connection.client("cloudwatch")
        return diagnosis.alarms(operator_health.alarms(formation, metrics, self.connection.stack))

    def _dead_letters(self) -> Iterable[Finding]:
        letters = _dead_letters(self.connection)
        return diagnosis.dead_letters({queue.value: letters.depth(queue) for queue in DeadLetterQueue})

    def _schedules(self) -> Iterable[Finding]:
        survey = _or_none(lambda: self._survey)
        restorable = frozenset(job.name for job in survey.jobs) if survey else frozenset()
        found = ScheduleGroup(self.connection.schedules).all()
        return doctor.schedules(found, self.connection.jobs, self.connection.outputs.schedule_target, restorable)

    def _workers(self) -> Iterable[Finding]:
        # Before the records, and before the survey, which reads them, too.
        seen = _workers(self.connection).all_ours()
        survey, settings = _or_none(lambda: self._survey), _or_none(lambda: self.connection.launcher_settings)
        rebuildable = frozenset(lost.instance_id for lost in survey.runs) if survey else frozenset()
        return doctor.workers(
            seen,
            lambda: self.connection.runs,
            rebuildable,
            now=self.clock.now(),
            limits=settings.limits if settings else Limits(),
            aws=self._aws,
        )


def _or_none(look: Callable[[], T]) -> T | None:
    """What a check can do without; the check that is about it says why it cannot be told."""
    try:
        return look()
    except Exception:
        return None
