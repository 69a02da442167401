"""The exchange bucket: rosters for workers, and what workers write under the prefix that only they can write."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from nightcrew.adapters import aws_errors
from nightcrew.adapters.codec import encode
from nightcrew.domain.result import Result, parse_result
from nightcrew.domain.run import Attempt, Run, Worker
from nightcrew.domain.tags import format_time
from nightcrew.usecases.errors import UnreadableError
from nightcrew.worker import program_source

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ROSTER_VERSION = 1
# A result is a few hundred bytes and a list of outputs; more than this was not written by our program.
RESULT_LIMIT = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class S3Exchange:
    """`role_id` is the worker role's unique id: with the instance id it is the worker's `aws:userid`."""

    client: S3Client
    bucket: str
    role_id: str

    def put_roster(self, run: Run, attempt: Attempt, worker: Worker) -> None:
        body = json.dumps(_roster(run, attempt, worker), sort_keys=True).encode()
        self.client.put_object(
            Bucket=self.bucket,
            Key=f"launches/{attempt.launch}/roster.json",
            Body=body,
            ContentType="application/json",
        )

    def result(self, attempt: Attempt) -> Result | None:
        try:
            answer = self.client.get_object(Bucket=self.bucket, Key=f"{self.prefix(attempt)}result.json")
            return _result(answer["Body"].read(RESULT_LIMIT))
        except ClientError as error:
            if aws_errors.code_of(error) in aws_errors.NOT_FOUND:
                return None
            raise UnreadableError(f"result of {attempt.launch}: {aws_errors.message_of(error)}") from error
        except (BotoCoreError, ResponseParserError) as error:
            raise UnreadableError(f"result of {attempt.launch}: {error}") from error

    def prefix(self, attempt: Attempt) -> str:
        """Return where this attempt's worker writes. Raises ValueError when it has none."""
        if attempt.worker is None:
            raise ValueError(f"attempt {attempt.number} has no worker")
        return f"workers/{self.role_id}:{attempt.worker.instance_id}/{attempt.launch}/"

    # ---- For people: reading what workers left behind ------------------------------------------------------

    def log_parts(self, attempt: Attempt, after: str = "") -> list[tuple[str, int, datetime]]:
        """Return key, size in bytes and time of each log part, in order, from the part `after` (a key) on.

        The last part may still grow, so the part named by `after` is in the answer again.
        """
        prefix = f"{self.prefix(attempt)}log/"
        return [item for item in self._list(prefix) if item[0] >= after]

    def outputs(self, attempt: Attempt) -> list[tuple[str, int]]:
        """Return path and size in bytes of each output."""
        prefix = f"{self.prefix(attempt)}outputs/"
        return [(key.removeprefix(prefix), size) for key, size, _ in self._list(prefix)]

    def output_uri(self, attempt: Attempt) -> str:
        return f"s3://{self.bucket}/{self.prefix(attempt)}outputs/"

    def read(self, key: str, start: int = 0) -> bytes:
        """Return an object's content from a byte on; empty when it has no more."""
        request: dict[str, Any] = {"Bucket": self.bucket, "Key": key}
        if start:
            request["Range"] = f"bytes={start}-"
        try:
            return self.client.get_object(**request)["Body"].read()
        except ClientError as error:
            if aws_errors.code_of(error) in aws_errors.PAST_THE_END:
                return b""
            raise

    def download(self, attempt: Attempt, path: str) -> Iterator[bytes]:
        answer = self.client.get_object(Bucket=self.bucket, Key=f"{self.prefix(attempt)}outputs/{path}")
        yield from answer["Body"].iter_chunks(1024 * 1024)

    def put_files(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=data)

    def has(self, key: str) -> bool:
        try:
            self.client.head_object(Bucket=self.bucket, Key=key)
        except ClientError as error:
            if aws_errors.code_of(error) in aws_errors.NOT_FOUND:
                return False
            raise
        return True

    def _list(self, prefix: str) -> list[tuple[str, int, datetime]]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [
            (item["Key"], item["Size"], item["LastModified"]) for page in pages for item in page.get("Contents", [])
        ]


def _result(content: bytes) -> Result | None:
    """Return the result, or None for anything else: a worker is the user's machine and may write what it likes."""
    try:
        document = json.loads(content)
        return parse_result(document) if isinstance(document, dict) else None
    except (RecursionError, TypeError, ValueError):
        return None


def _roster(run: Run, attempt: Attempt, worker: Worker) -> dict[str, Any]:
    job = run.job
    return {
        "version": ROSTER_VERSION,
        "launch": attempt.launch,
        "run": run.run_id,
        "job": job.name,
        "revision": job.revision,
        "attempt": attempt.number,
        "scheduled_time": format_time(run.scheduled_at),
        "deadline": format_time(run.deadline),
        "timeout": int(job.timeout.total_seconds()),
        "on_finish": job.on_finish.value,
        "command": job.command,
        "env": dict(job.env),
        "files": job.files.to_json() if job.files else None,
        "tasks": {worker.instance_id: 0},
        "program": program_source(),
        # For the day on which the table is lost: all that is needed to write the record again. Without the nonce,
        # from which the launch ids of later attempts could be told.
        "record": encode(replace(run, nonce="", version=1)),
    }
