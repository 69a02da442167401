"""What the exchange bucket still tells when the records are lost: the rosters of past launches, and the results."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from nightcrew.adapters import aws_errors
from nightcrew.adapters.codec import decode
from nightcrew.adapters.exchange import S3Exchange
from nightcrew.domain.rebuild import BrokenRoster, PastResult, Roster
from nightcrew.domain.run import Attempt, Run
from nightcrew.usecases.errors import UnreadableError
from nightcrew.usecases.rebuild import PastLaunch

_KEY = re.compile(r"launches/([0-9a-f]{32})/roster\.json")


@dataclass(frozen=True, slots=True)
class S3Archive:
    exchange: S3Exchange

    def launches(self, since: datetime) -> list[PastLaunch]:
        """Return the launches whose roster was written since then, newest first. Raises UnreadableError."""
        client, bucket = self.exchange.client, self.exchange.bucket
        found = []
        try:
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="launches/"):
                for item in page.get("Contents", []):
                    key = _KEY.fullmatch(item["Key"])
                    if key and item["LastModified"] >= since:
                        found.append(PastLaunch(key[1], item["LastModified"]))
        except (BotoCoreError, ClientError) as error:
            raise UnreadableError(f"rosters: {aws_errors.message_of(error)}") from error
        return sorted(found, key=lambda launch: launch.at, reverse=True)

    def roster(self, launch: str) -> Roster | BrokenRoster | None:
        client, bucket = self.exchange.client, self.exchange.bucket
        try:
            answer = client.get_object(Bucket=bucket, Key=f"launches/{launch}/roster.json")
            content = answer["Body"].read()
        except ClientError as error:
            if aws_errors.code_of(error) in aws_errors.NOT_FOUND:
                return None
            raise UnreadableError(f"roster of {launch}: {aws_errors.message_of(error)}") from error
        except BotoCoreError as error:
            raise UnreadableError(f"roster of {launch}: {error}") from error
        return read_roster(content, answer["LastModified"])

    def result(self, attempt: Attempt) -> PastResult | None:
        result = self.exchange.result(attempt)
        if result is None:
            return None
        key = f"{self.exchange.prefix(attempt)}result.json"
        try:
            written = self.exchange.client.head_object(Bucket=self.exchange.bucket, Key=key)["LastModified"]
        except (BotoCoreError, ClientError) as error:
            raise UnreadableError(f"result of {attempt.launch}: {aws_errors.message_of(error)}") from error
        return PastResult(result, written)


def read_roster(content: bytes, written_at: datetime) -> Roster | BrokenRoster:
    """Return the roster with the record it holds, or why it holds none that this version can read."""
    run_id = ""
    try:
        document: Mapping[str, Any] = json.loads(content)
        run_id = str(document.get("run", ""))
        if "record" not in document:
            return BrokenRoster(run_id, "its roster was written by a version that kept no record in it")
        return Roster(
            launch=document["launch"],
            run=decode(Run, document["record"]),
            instance_ids=tuple(document["tasks"]),
            written_at=written_at,
        )
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        return BrokenRoster(run_id, f"its roster cannot be read: {error!r}")
