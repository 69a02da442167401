"""Dead letters as AWS writes them, read and sent again over emulated queues."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st

from nightcrew.adapters.operator_queues import SqsDeadLetters, read_letter
from nightcrew.usecases.operate import OperatorError
from nightcrew.usecases.redrive import DeadLetterQueue, Fate, Letter, LetterKind, Redrive, Target
from tests.adapters.conftest import REGION, client

LAUNCHER = "nightcrew-launcher"
ARN = f"arn:aws:lambda:{REGION}:123456789012:function:{LAUNCHER}"
TICK = {"job": "nightly-report", "revision": "abc", "scheduled_time": "2026-01-16T02:30:00Z"}
EVENT = {
    "source": "aws.ec2",
    "detail-type": "EC2 Instance State-change Notification",
    "detail": {"instance-id": "i-0abc0abc0abc0abc0", "state": "terminated"},
}
UNDELIVERED, LIFECYCLE = DeadLetterQueue.UNDELIVERED, DeadLetterQueue.LIFECYCLE


def failed(payload: Any, arn: str = f"{ARN}:$LATEST", **response: str) -> dict[str, Any]:
    """What Lambda sends to an on-failure destination."""
    return {
        "version": "1.0",
        "requestContext": {"functionArn": arn, "condition": "RetriesExhausted", "approximateInvokeCount": 3},
        "requestPayload": payload,
        "responseContext": {"statusCode": 200, "functionError": "Unhandled"},
        "responsePayload": response,
    }


def read(body: Any, queue: DeadLetterQueue = UNDELIVERED, **attributes: str) -> Letter:
    message = {
        "Body": body if isinstance(body, str) else json.dumps(body),
        "ReceiptHandle": "receipt",
        "Attributes": {"SentTimestamp": "1768530600000"},
        "MessageAttributes": {name: {"StringValue": value} for name, value in attributes.items()},
    }
    return read_letter(queue, message, LAUNCHER)


@pytest.mark.parametrize(
    ("letter", "kind", "target", "about", "why"),
    [
        pytest.param(
            read(TICK, SCHEDULE_ARN="arn:schedule", ERROR_CODE="AWS.Scheduler.X", ERROR_MESSAGE="throttled"),
            LetterKind.TICK,
            Target.LAUNCHER,
            "nightly-report at 2026-01-16T02:30:00Z",
            "AWS.Scheduler.X: throttled",
            id="a tick that Scheduler could not deliver",
        ),
        pytest.param(
            read(EVENT, RULE_ARN="arn:rule", ERROR_CODE="NO_PERMISSIONS"),
            LetterKind.EVENT,
            Target.LIFECYCLE,
            "EC2 Instance State-change Notification i-0abc0abc0abc0abc0",
            "NO_PERMISSIONS",
            id="an event that its rule could not deliver",
        ),
        pytest.param(
            read(failed(TICK, errorType="UnknownJobError", errorMessage="no revision")),
            LetterKind.TICK,
            Target.LAUNCHER,
            "nightly-report at 2026-01-16T02:30:00Z",
            "UnknownJobError: no revision",
            id="a tick that the launcher failed on",
        ),
        pytest.param(
            read(failed({"resume": "a-run"})),
            LetterKind.RETRY,
            Target.LAUNCHER,
            "a-run",
            "RetriesExhausted",
            id="a retry that the launcher failed on",
        ),
        pytest.param(
            read(EVENT, LIFECYCLE),
            LetterKind.EVENT,
            Target.LIFECYCLE,
            "EC2 Instance State-change Notification i-0abc0abc0abc0abc0",
            "the lifecycle function failed on it",
            id="an event that the lifecycle function failed on",
        ),
        pytest.param(
            read("not json", LIFECYCLE),
            LetterKind.UNKNOWN,
            Target.LIFECYCLE,
            "not json",
            "the lifecycle function failed on it",
            id="whatever the lifecycle function failed on goes back to it",
        ),
        pytest.param(read("garbage"), LetterKind.UNKNOWN, None, "garbage", "", id="what nobody knows"),
        pytest.param(
            read(TICK, IS_PAYLOAD_TRUNCATED="true"),
            LetterKind.TICK,
            None,
            "nightly-report at 2026-01-16T02:30:00Z",
            "",
            id="what is not whole",
        ),
    ],
)
def test_a_letter_is_known_by_its_shape(
    letter: Letter, kind: LetterKind, target: Target | None, about: str, why: str
) -> None:
    assert (letter.kind, letter.target, letter.about, letter.why) == (kind, target, about, why)


def test_the_input_of_another_function_is_never_given_to_our_launcher() -> None:
    letter = read(failed(TICK, arn=f"arn:aws:lambda:{REGION}:123456789012:function:somebody-elses"))

    assert (letter.kind, letter.target) == (LetterKind.UNKNOWN, None)


@given(body=st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_no_message_is_an_error_and_what_is_shown_is_one_printable_line(body: str) -> None:
    letter = read(body)

    assert letter.about.isprintable()
    assert letter.target is None


@pytest.fixture
def queues(aws: None) -> tuple[SqsDeadLetters, dict[str, str]]:
    sqs, urls, arns = client("sqs"), {}, {}
    for name in ("dead", "undelivered"):
        urls[name] = sqs.create_queue(QueueName=name)["QueueUrl"]
        attributes = sqs.get_queue_attributes(QueueUrl=urls[name], AttributeNames=["QueueArn"])["Attributes"]
        arns[name] = attributes["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arns["dead"], "maxReceiveCount": 5})
    urls["lifecycle"] = sqs.create_queue(QueueName="lifecycle", Attributes={"RedrivePolicy": policy})["QueueUrl"]
    letters = SqsDeadLetters(
        sqs=sqs,
        functions=client("lambda"),
        lifecycle_queue=urls["lifecycle"],
        undelivered=arns["undelivered"],
        launcher=LAUNCHER,
    )
    return letters, urls


def test_events_go_back_to_their_queue_as_they_were(queues: tuple[SqsDeadLetters, dict[str, str]]) -> None:
    letters, urls = queues
    for url in (urls["dead"], urls["undelivered"]):
        client("sqs").send_message(QueueUrl=url, MessageBody=json.dumps(EVENT))

    handled = list(Redrive(letters=letters).redrive(DeadLetterQueue))

    assert [item.fate for item in handled] == [Fate.REDRIVEN] * 2
    assert [letters.depth(queue) for queue in DeadLetterQueue] == [0, 0]
    messages = client("sqs").receive_message(QueueUrl=urls["lifecycle"], MaxNumberOfMessages=10)["Messages"]
    assert [json.loads(message["Body"]) for message in messages] == [EVENT, EVENT]


def test_a_look_leaves_every_letter_where_it_is(queues: tuple[SqsDeadLetters, dict[str, str]]) -> None:
    letters, urls = queues
    for number in range(12):
        client("sqs").send_message(QueueUrl=urls["undelivered"], MessageBody=json.dumps(TICK | {"job": f"j{number}"}))

    seen = Redrive(letters=letters).look([UNDELIVERED])

    assert sorted(item.letter.about.split()[0] for item in seen) == sorted(f"j{number}" for number in range(12))
    assert all(item.letter.sent_at for item in seen)
    assert len(Redrive(letters=letters).look([UNDELIVERED])) == 12


def test_a_tick_is_given_to_the_launcher_asynchronously(queues: tuple[SqsDeadLetters, dict[str, str]]) -> None:
    letters, _ = queues
    with Stubber(client("lambda")) as stub:
        asked = {"FunctionName": LAUNCHER, "InvocationType": "Event", "Payload": json.dumps(TICK).encode()}
        stub.add_response("invoke", {"StatusCode": 202}, asked)

        letters.resend(read(failed(TICK)))

        stub.assert_no_pending_responses()


def test_a_launcher_that_refuses_keeps_the_letter(queues: tuple[SqsDeadLetters, dict[str, str]]) -> None:
    letters, urls = queues
    client("sqs").send_message(QueueUrl=urls["undelivered"], MessageBody=json.dumps(TICK))
    with Stubber(client("lambda")) as stub:
        stub.add_client_error("invoke", "AccessDeniedException", "no")

        [handled] = Redrive(letters=letters).redrive([UNDELIVERED])

    assert (handled.fate, letters.depth(UNDELIVERED)) == (Fate.FAILED, 1)
    assert "AccessDeniedException" in handled.note


def test_a_queue_that_cannot_be_read_is_an_error_in_words(queues: tuple[SqsDeadLetters, dict[str, str]]) -> None:
    letters, urls = queues
    client("sqs").delete_queue(QueueUrl=urls["undelivered"])

    with pytest.raises(OperatorError):
        letters.depth(UNDELIVERED)


def test_a_lifecycle_queue_without_dead_letters_is_told(queues: tuple[SqsDeadLetters, dict[str, str]]) -> None:
    letters, urls = queues
    client("sqs").set_queue_attributes(QueueUrl=urls["lifecycle"], Attributes={"RedrivePolicy": ""})

    with pytest.raises(OperatorError, match="no dead-letter queue"):
        letters.receive(LIFECYCLE)
