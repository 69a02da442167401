"""The dead-letter queues: what lies in them, read into letters, and the ways back to where each belongs.

SQS can move dead letters itself (StartMessageMoveTask), but only to a queue: a tick belongs to a function. And it
tells how many it moved, not what became of which.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from nightcrew.adapters import operator_errors
from nightcrew.domain.result import one_line
from nightcrew.usecases.operate import OperatorError
from nightcrew.usecases.redrive import DeadLetterQueue, Letter, LetterKind, Target

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_sqs import SQSClient

_BATCH = 10
# Long enough for a whole pass: a letter that shows up again in the middle of it would be sent twice.
_HIDDEN_SECONDS = 300
# A wait above zero makes SQS ask all its servers: without one an answer may be empty while letters are there.
_WAIT_SECONDS = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SqsDeadLetters:
    """`lifecycle_queue` is a URL and knows its own dead-letter queue; `undelivered` is an ARN."""

    sqs: SQSClient
    functions: LambdaClient
    lifecycle_queue: str
    undelivered: str
    launcher: str
    _urls: dict[DeadLetterQueue, str] = field(default_factory=dict)

    def depth(self, queue: DeadLetterQueue) -> int:
        """Return how many letters there are, hidden ones included."""
        try:
            answer = self.sqs.get_queue_attributes(
                QueueUrl=self._url(queue),
                AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
            )
        except (BotoCoreError, ClientError) as error:
            raise _explained(error) from error
        return sum(int(count) for count in answer["Attributes"].values())

    def receive(self, queue: DeadLetterQueue) -> Sequence[Letter]:
        try:
            answer = self.sqs.receive_message(
                QueueUrl=self._url(queue),
                MaxNumberOfMessages=_BATCH,
                VisibilityTimeout=_HIDDEN_SECONDS,
                WaitTimeSeconds=_WAIT_SECONDS,
                MessageSystemAttributeNames=["SentTimestamp"],
                MessageAttributeNames=["All"],
            )
        except (BotoCoreError, ClientError) as error:
            raise _explained(error) from error
        return [read_letter(queue, message, self.launcher) for message in answer.get("Messages", [])]

    def release(self, letter: Letter) -> None:
        try:
            self.sqs.change_message_visibility(
                QueueUrl=self._url(letter.queue), ReceiptHandle=letter.receipt, VisibilityTimeout=0
            )
        except (BotoCoreError, ClientError) as error:
            raise _explained(error) from error

    def resend(self, letter: Letter) -> None:
        try:
            if letter.target is Target.LAUNCHER:
                self.functions.invoke(
                    FunctionName=self.launcher, InvocationType="Event", Payload=letter.content.encode()
                )
            elif letter.target is Target.LIFECYCLE:
                self.sqs.send_message(QueueUrl=self.lifecycle_queue, MessageBody=letter.content)
        except (BotoCoreError, ClientError) as error:
            raise _explained(error) from error

    def delete(self, letter: Letter) -> None:
        try:
            self.sqs.delete_message(QueueUrl=self._url(letter.queue), ReceiptHandle=letter.receipt)
        except (BotoCoreError, ClientError) as error:
            raise _explained(error) from error

    def _url(self, queue: DeadLetterQueue) -> str:
        if queue not in self._urls:
            arn = self.undelivered if queue is DeadLetterQueue.UNDELIVERED else self._dead_letters_of_lifecycle()
            *_, account, name = arn.split(":")
            self._urls[queue] = self.sqs.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"]
        return self._urls[queue]

    def _dead_letters_of_lifecycle(self) -> str:
        answer = self.sqs.get_queue_attributes(QueueUrl=self.lifecycle_queue, AttributeNames=["RedrivePolicy"])
        policy = answer.get("Attributes", {}).get("RedrivePolicy")
        if not policy:
            raise OperatorError(f"queue {self.lifecycle_queue} has no dead-letter queue", "deploy the stack again")
        return str(json.loads(policy)["deadLetterTargetArn"])


def _explained(error: BotoCoreError | ClientError) -> OperatorError:
    explanation = operator_errors.explain(error)
    return OperatorError(explanation.what, *explanation.hints)


# ---- Reading -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Content:
    kind: LetterKind
    about: str
    target: Target | None
    content: str


def read_letter(queue: DeadLetterQueue, message: Mapping[str, Any], launcher: str) -> Letter:
    """Return the message as a letter; what cannot be read is one of unknown kind, never an error."""
    body = str(message.get("Body", ""))
    attributes = {name: str(value.get("StringValue", "")) for name, value in _attributes(message).items()}
    document, why = _document(body), _error_of(attributes)
    if queue is DeadLetterQueue.UNDELIVERED and "requestPayload" in document and "requestContext" in document:
        payload, why = _failed_payload(document, launcher), _failure(document)
        content = _content(payload, json.dumps(payload)) if payload else _content({}, body)
    else:
        content = _content(document, body)
    target = content.target
    if queue is DeadLetterQueue.LIFECYCLE:
        # Whatever the function failed on goes back to it: a newer one may read what the last could not.
        target, why = Target.LIFECYCLE, why or "the lifecycle function failed on it"
    if attributes.get("IS_PAYLOAD_TRUNCATED") == "true":
        target = None
    return Letter(
        queue=queue,
        kind=content.kind,
        about=one_line(content.about),
        why=one_line(why),
        sent_at=_sent_at(message),
        target=target,
        content=content.content,
        receipt=message["ReceiptHandle"],
    )


def _content(document: Mapping[str, Any], content: str) -> _Content:
    """Tell by its shape what a message is: the attributes say only how it failed."""
    match document:
        case {"job": str(job), "revision": str(), "scheduled_time": str(time)}:
            return _Content(LetterKind.TICK, f"{job} at {time}", Target.LAUNCHER, content)
        case {"resume": str(run_id)}:
            return _Content(LetterKind.RETRY, run_id, Target.LAUNCHER, content)
        case {"source": str(), "detail-type": str(name), "detail": dict(detail)}:
            return _Content(LetterKind.EVENT, f"{name} {_subject(detail)}", Target.LIFECYCLE, content)
        case _:
            return _Content(LetterKind.UNKNOWN, content[:80], None, content)


def _subject(detail: Mapping[str, Any]) -> str:
    """Which worker, run or object an event is about."""
    match detail:
        case {"instance-id": str(subject)} | {"run_id": str(subject)} | {"object": {"key": str(subject)}}:
            return subject
        case _:
            return str(detail.get("eventTypeCode", ""))


def _failed_payload(record: Mapping[str, Any], launcher: str) -> Mapping[str, Any]:
    """The input that Lambda gave up on; empty when the function was not our launcher."""
    context, payload = record["requestContext"], record["requestPayload"]
    parts = str(context.get("functionArn", "") if isinstance(context, Mapping) else "").split(":")
    is_ours = len(parts) > 6 and parts[6] == launcher
    return payload if is_ours and isinstance(payload, Mapping) else {}


def _failure(record: Mapping[str, Any]) -> str:
    response, context = record.get("responsePayload"), record["requestContext"]
    if isinstance(response, Mapping) and response.get("errorMessage"):
        return f"{response.get('errorType', 'error')}: {response['errorMessage']}"
    return str(context.get("condition", "")) if isinstance(context, Mapping) else ""


def _error_of(attributes: Mapping[str, str]) -> str:
    """What Scheduler or EventBridge says about a delivery that failed."""
    told = (attributes.get("ERROR_CODE", ""), attributes.get("ERROR_MESSAGE", ""))
    return ": ".join(part for part in told if part)


def _attributes(message: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = message.get("MessageAttributes") or {}
    return found


def _document(body: str) -> Mapping[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _sent_at(message: Mapping[str, Any]) -> datetime | None:
    milliseconds = str(message.get("Attributes", {}).get("SentTimestamp", ""))
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC) if milliseconds.isdecimal() else None
