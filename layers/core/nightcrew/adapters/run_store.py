"""Runs and their worker rows in the table; every write is conditional on the version that was read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import islice
from typing import Any

from botocore.exceptions import ClientError

from nightcrew.adapters import aws_errors
from nightcrew.adapters.codec import decode, encode
from nightcrew.adapters.table import DUE, DUE_INDEX, JOB_INDEX, Item, Table, run_key, worker_key
from nightcrew.domain.run import Attempt, Limits, Run, due_at
from nightcrew.usecases.errors import StaleRunError, UnreadableError

KEEP_HISTORY = timedelta(days=90)
# Rises when a reader of the former format would misunderstand the record, not when something is added: see
# docs/compatibility.md.
FORMAT = 1


@dataclass(frozen=True, slots=True)
class DynamoRuns:
    table: Table
    limits: Limits

    def create(self, run: Run) -> bool:
        try:
            self.table.client.put_item(
                TableName=self.table.name, Item=self._item(run), ConditionExpression="attribute_not_exists(pk)"
            )
        except ClientError as error:
            if aws_errors.code_of(error) in aws_errors.CONDITION_FAILED:
                return False
            raise
        return True

    def get(self, run_id: str) -> Run | None:
        item = self.table.get(run_key(run_id))
        return _run(item) if item else None

    def get_many(self, run_ids: Iterable[str]) -> Mapping[str, Run | None]:
        found: dict[str, Run | None] = dict.fromkeys(run_ids)
        for item in self.table.batch_get(run_key(run_id) for run_id in list(found)):
            run_id = item["pk"]["S"].removeprefix("RUN#")
            try:
                found[run_id] = _run(item)
            except (AttributeError, KeyError, TypeError, ValueError, UnreadableError):
                # Unknown, which is not the same as absent, and no reason to leave all the others unread.
                del found[run_id]
        return found

    def save(self, run: Run) -> Run:
        """Write the run and, in the same transaction, the row of a worker that was just launched."""
        saved = replace(run, version=run.version + 1)
        put = {
            "TableName": self.table.name,
            "Item": self._item(saved),
            "ConditionExpression": "version = :version",
            "ExpressionAttributeValues": {":version": {"N": str(run.version)}},
        }
        worker = _new_worker(saved, self.table.name)
        try:
            if worker is None:
                self.table.client.put_item(**put)  # type: ignore[arg-type]
            else:
                self.table.client.transact_write_items(TransactItems=[{"Put": put}, {"Put": worker}])  # type: ignore[typeddict-item]
        except ClientError as error:
            if aws_errors.code_of(error) in aws_errors.CONDITION_FAILED:
                raise StaleRunError(f"run {run.run_id}: version {run.version} is not the newest any more") from error
            raise
        return saved

    def restore(self, run: Run) -> bool:
        """Write a lost record and the rows of its living workers; False, and nothing written, when there is one."""
        put = {
            "TableName": self.table.name,
            "Item": self._item(run),
            "ConditionExpression": "attribute_not_exists(pk)",
        }
        rows = [_worker_row(run, attempt, self.table.name) for attempt in run.attempts if not attempt.worker_ended]
        try:
            self.table.client.transact_write_items(
                TransactItems=[{"Put": put}, *({"Put": row} for row in rows if row)]  # type: ignore[list-item, typeddict-item]
            )
        except ClientError as error:
            if aws_errors.code_of(error) in aws_errors.CONDITION_FAILED and self.get(run.run_id) is not None:
                return False
            raise
        return True

    def runs_of(self, instance_ids: Iterable[str]) -> Mapping[str, str]:
        keys = (worker_key(instance_id) for instance_id in instance_ids)
        rows = self.table.batch_get(keys, attributes="pk, run_id")
        return {row["pk"]["S"].removeprefix("WORKER#"): row["run_id"]["S"] for row in rows}

    def open(self) -> list[Run]:
        rows = self.table.query(
            IndexName=DUE_INDEX,
            KeyConditionExpression="due = :due",
            ExpressionAttributeValues={":due": {"S": DUE}},
        )
        run_ids = [row["pk"]["S"].removeprefix("RUN#") for row in rows if row["pk"]["S"].startswith("RUN#")]
        return [run for run in self.get_many(run_ids).values() if run is not None]

    def recent(self, job_name: str, limit: int) -> list[Run]:
        """Return the newest runs of a job, newest first."""
        rows = self.table.query(
            IndexName=JOB_INDEX,
            KeyConditionExpression="job = :job",
            ExpressionAttributeValues={":job": {"S": job_name}},
            ScanIndexForward=False,
            Limit=limit,
        )
        run_ids = [row["pk"]["S"].removeprefix("RUN#") for row in islice(rows, limit)]
        found = self.get_many(run_ids)
        return [run for run_id in run_ids if (run := found.get(run_id)) is not None]

    def _item(self, run: Run) -> Item:
        item: dict[str, Any] = {
            **run_key(run.run_id),
            "format": {"N": str(FORMAT)},
            "version": {"N": str(run.version)},
            "status": {"S": run.status.value},
            "job": {"S": run.job.name},
            "scheduled_at": {"S": encode(run.scheduled_at)},
            "record": {"S": json.dumps(encode(run), separators=(",", ":"))},
        }
        due = due_at(run, self.limits)
        if due is not None:
            item |= {"due": {"S": DUE}, "due_at": {"S": encode(due)}}
        elif run.ended_at is not None:
            item["expires"] = {"N": str(int((run.ended_at + KEEP_HISTORY).timestamp()))}
        return item


def _run(item: Item) -> Run:
    written = int(item["format"]["N"]) if "format" in item else 1
    if written > FORMAT:
        run_id = item["pk"]["S"].removeprefix("RUN#")
        raise UnreadableError(
            f"run {run_id}: its record has format {written}, this version reads up to {FORMAT}: "
            "deploy the newer version again"
        )
    return decode(Run, json.loads(item["record"]["S"]))


def _new_worker(run: Run, table_name: str) -> dict[str, Any] | None:
    """The row of a worker that was just launched; written when the worker enters the record."""
    attempt = run.attempt
    if attempt is None or attempt.launched_at != run.updated_at:
        return None
    return _worker_row(run, attempt, table_name)


def _worker_row(run: Run, attempt: Attempt, table_name: str) -> dict[str, Any] | None:
    """The row by which an event of this attempt's worker finds its run."""
    if attempt.worker is None:
        return None
    expires = int((run.deadline + KEEP_HISTORY).timestamp())
    item = {
        **worker_key(attempt.worker.instance_id),
        "run_id": {"S": run.run_id},
        "attempt": {"N": str(attempt.number)},
        "task": {"N": "0"},
        "expires": {"N": str(expires)},
    }
    return {"TableName": table_name, "Item": item}
