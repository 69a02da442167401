"""Messages that we send: to the launcher, and to people."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_sns import SNSClient

# SNS refuses longer subjects, and control characters in them.
_SUBJECT_LIMIT = 100


@dataclass(frozen=True, slots=True)
class LambdaLaunchRequests:
    client: LambdaClient
    function: str

    def request(self, run_id: str) -> None:
        payload = json.dumps({"resume": run_id}).encode()
        self.client.invoke(FunctionName=self.function, InvocationType="Event", Payload=payload)


@dataclass(frozen=True, slots=True)
class SnsNotifier:
    client: SNSClient
    topic: str

    def send(self, subject: str, text: str) -> None:
        self.client.publish(TopicArn=self.topic, Subject=subject[:_SUBJECT_LIMIT], Message=text)
