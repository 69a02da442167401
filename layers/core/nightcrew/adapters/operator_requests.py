"""What a person asks the stack's functions for: start a run now, cancel one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from nightcrew.domain.tags import format_time
from nightcrew.usecases.operate import OperatorError

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_sqs import SQSClient


@dataclass(frozen=True, slots=True)
class Started:
    run_id: str
    status: str
    reason: str


@dataclass(frozen=True, slots=True)
class LambdaLauncher:
    client: LambdaClient
    function: str

    def start(self, job: str, revision: str, now: datetime) -> Started:
        """Have the launcher begin a run by hand, and wait for its answer. Raises OperatorError when it fails."""
        tick = {"job": job, "revision": revision, "scheduled_time": format_time(now), "trigger": "manual"}
        answer = self.client.invoke(
            FunctionName=self.function, InvocationType="RequestResponse", Payload=json.dumps(tick).encode()
        )
        content = json.loads(answer["Payload"].read() or b"{}")
        if answer.get("FunctionError"):
            what = f"{content.get('errorType', 'error')}: {content.get('errorMessage', '')}"
            raise OperatorError(
                f"the launcher failed: {what}",
                f"sam logs -n {self.function} --tail shows more; a run that was begun is in nightcrew ps",
            )
        return Started(content["run_id"], content.get("status", ""), content.get("reason", ""))


@dataclass(frozen=True, slots=True)
class SqsCancellations:
    client: SQSClient
    queue: str

    def cancel(self, run_id: str, by: str) -> None:
        envelope = {"source": "nightcrew", "detail-type": "Cancel Requested", "detail": {"run_id": run_id, "by": by}}
        self.client.send_message(QueueUrl=self.queue, MessageBody=json.dumps(envelope))
