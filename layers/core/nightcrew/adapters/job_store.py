"""Applied jobs in the table: every revision for ever, which one is current, and which tick is expected next."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from botocore.exceptions import ClientError

from nightcrew.adapters import aws_errors
from nightcrew.adapters.codec import encode
from nightcrew.adapters.table import DUE, DUE_INDEX, JOB_INDEX, Item, Table, key
from nightcrew.domain import schedule
from nightcrew.domain.job import Job, canonical_json
from nightcrew.usecases.ports import Due, WatchedJob

# All current jobs stand together in the by-job index under this name, which no job can have.
_CATALOGUE = "#jobs"
# Scheduler fires within the minute; retries and the launcher's own start want some time, too.
_SLACK = timedelta(minutes=2)
_SWEEP_LIMIT = 500


def job_key(name: str, revision: str) -> Item:
    return key(f"JOB#{name}", f"REV#{revision}")


def current_key(name: str) -> Item:
    return key(f"JOB#{name}", "CURRENT")


@dataclass(frozen=True, slots=True)
class DynamoJobs:
    table: Table

    def get(self, name: str, revision: str) -> Job | None:
        return _job(self.table.get(job_key(name, revision)))

    def current(self, name: str) -> Job | None:
        return _job(self.table.get(current_key(name)))

    def all_current(self) -> list[Job]:
        """Return every applied job, by name."""
        rows = self.table.query(
            IndexName=JOB_INDEX,
            KeyConditionExpression="job = :jobs",
            ExpressionAttributeValues={":jobs": {"S": _CATALOGUE}},
        )
        names = [row["pk"]["S"].removeprefix("JOB#") for row in rows]
        items = self.table.batch_get(current_key(name) for name in names)
        jobs = (_job(item) for item in items)
        return sorted((job for job in jobs if job is not None), key=lambda job: job.name)

    def put(self, job: Job, now: datetime) -> None:
        """Write the revision, then make it the current one and expect its next tick."""
        self._put_revision(job)
        item = _current(job, now)
        before = self.table.get(current_key(job.name))
        if before is not None and "tick" in before and _is_still_expected(before, job, now):
            # A tick that has passed and was not checked yet must not be forgotten because the job was applied again.
            item |= {name: before[name] for name in ("tick", "due", "due_at")}
        self.table.client.put_item(TableName=self.table.name, Item=item)

    def restore(self, job: Job, now: datetime) -> bool:
        """Put a job whose record is lost; return False, and leave it, when one of its name is applied."""
        self._put_revision(job)
        try:
            self.table.client.put_item(
                TableName=self.table.name, Item=_current(job, now), ConditionExpression="attribute_not_exists(pk)"
            )
        except ClientError as error:
            if aws_errors.code_of(error) in aws_errors.CONDITION_FAILED:
                return False
            raise
        return True

    def _put_revision(self, job: Job) -> None:
        item = {**job_key(job.name, job.revision), "record": {"S": canonical_json(job)}}
        self.table.client.put_item(TableName=self.table.name, Item=item)

    def remove(self, name: str) -> None:
        """Take the job off; its revisions and runs stay readable."""
        self.table.client.delete_item(TableName=self.table.name, Key=current_key(name))

    def due(self, now: datetime) -> Due:
        rows = self.table.query(
            IndexName=DUE_INDEX,
            KeyConditionExpression="due = :due AND due_at <= :now",
            ExpressionAttributeValues={":due": {"S": DUE}, ":now": {"S": encode(now)}},
            Limit=_SWEEP_LIMIT,
        )
        partitions = [row["pk"]["S"] for row in islice(rows, _SWEEP_LIMIT)]
        run_ids = tuple(name.removeprefix("RUN#") for name in partitions if name.startswith("RUN#"))
        watched, unreadable = self._watched(name[len("JOB#") :] for name in partitions if name.startswith("JOB#"))
        return Due(run_ids, watched, unreadable)

    def _watched(self, names: Iterable[str]) -> tuple[tuple[WatchedJob, ...], tuple[str, ...]]:
        """The expected ticks of these jobs, and the names of those whose record is none that we can read."""
        watched, unreadable = [], []
        for item in self.table.batch_get(current_key(name) for name in names):
            try:
                job = _job(item)
                if job is not None and "tick" in item:
                    watched.append(WatchedJob(job=job, tick=datetime.fromisoformat(item["tick"]["S"])))
            except ValueError:
                unreadable.append(item["pk"]["S"].removeprefix("JOB#"))
        return tuple(watched), tuple(unreadable)

    def advance(self, watched: WatchedJob) -> None:
        expected = _expectation(watched.job, watched.tick)
        values: Item = {":old": {"S": encode(watched.tick)}}
        if expected:
            update = "SET tick = :tick, due_at = :due_at"
            values |= {":tick": expected["tick"], ":due_at": expected["due_at"]}
        else:
            update = "REMOVE tick, due_at, due"
        try:
            self.table.client.update_item(
                TableName=self.table.name,
                Key=current_key(watched.job.name),
                UpdateExpression=update,
                ConditionExpression="tick = :old",
                ExpressionAttributeValues=values,
            )
        except ClientError as error:
            if aws_errors.code_of(error) not in aws_errors.CONDITION_FAILED:
                raise


def _current(job: Job, now: datetime) -> Item:
    return {
        **current_key(job.name),
        "record": {"S": canonical_json(job)},
        "revision": {"S": job.revision},
        "job": {"S": _CATALOGUE},
        "scheduled_at": {"S": job.name},
        "applied_at": {"S": encode(now)},
        **_expectation(job, now),
    }


def _expectation(job: Job, after: datetime) -> Item:
    """The tick that must have a record next, and when to check; empty for jobs without a predictable tick.

    A rate is counted from the moment Scheduler took it, which only Scheduler knows.
    """
    if job.schedule is None or not job.schedule.enabled:
        return {}
    if any(expression.startswith("rate") for expression in job.schedule.expressions):
        return {}
    tick = schedule.parse(*job.schedule.expressions).next_tick(after, job.schedule.timezone)
    if tick is None:
        return {}
    due = tick + job.schedule.start_within + _SLACK
    return {"tick": {"S": encode(tick)}, "due": {"S": DUE}, "due_at": {"S": encode(due)}}


def _is_still_expected(before: Item, job: Job, now: datetime) -> bool:
    if job.schedule is None or datetime.fromisoformat(before["tick"]["S"]) > now:
        return False
    try:
        known = _job(before)
    except ValueError:
        return False
    return known is not None and known.schedule == job.schedule


def _job(item: Item | None) -> Job | None:
    return Job.from_json(json.loads(item["record"]["S"])) if item else None
