from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from nightcrew.adapters.envelopes import parse_facts
from nightcrew.adapters.messages import LambdaLaunchRequests, SnsNotifier
from nightcrew.adapters.operator_requests import LambdaLauncher, SqsCancellations, Started
from nightcrew.domain.job import Retry
from nightcrew.domain.lifecycle import SendNotice, WorkerEnding, decide
from nightcrew.usecases.operate import OperatorError
from nightcrew.usecases.watch import CancelAsked
from tests.adapters.conftest import client
from tests.builders import LIMITS, NOW, launched, make_job, make_run
from tests.functions.handlers import read_event


def test_a_launch_is_asked_for_without_waiting_for_it() -> None:
    expected = {
        "FunctionName": "nightcrew-launcher",
        "InvocationType": "Event",
        "Payload": b'{"resume": "nightly-report-20260116T023000Z"}',
    }
    with Stubber(client("lambda")) as stub:
        stub.add_response("invoke", {"StatusCode": 202}, expected)

        LambdaLaunchRequests(client("lambda"), "nightcrew-launcher").request("nightly-report-20260116T023000Z")

        stub.assert_no_pending_responses()


def test_a_launch_request_has_the_form_of_the_event_file() -> None:
    asked: list[Any] = []

    class Client:
        def invoke(self, **request: Any) -> None:
            asked.append(json.loads(request["Payload"]))

    silent: Any = Client()

    LambdaLaunchRequests(silent, "launcher").request("nightly-report-20200101T023000Z")

    assert asked == [read_event("launcher/resume-unknown-run.json")]


def test_a_launch_that_could_not_be_asked_for_is_told() -> None:
    with Stubber(client("lambda")) as stub:
        stub.add_client_error("invoke", "TooManyRequestsException")

        with pytest.raises(ClientError):
            LambdaLaunchRequests(client("lambda"), "nightcrew-launcher").request("r")


@pytest.fixture
def mailbox(aws: None) -> tuple[str, str]:
    """A topic, and a queue that gets all that is published to it."""
    topic = client("sns").create_topic(Name="nightcrew")["TopicArn"]
    queue = client("sqs").create_queue(QueueName="mail")["QueueUrl"]
    arn = client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    return topic, queue


def received(queue: str) -> dict[str, Any]:
    (message,) = client("sqs").receive_message(QueueUrl=queue)["Messages"]
    body: dict[str, Any] = json.loads(message["Body"])
    return body


def test_a_notice_of_a_failed_run_reaches_whoever_subscribed(mailbox: tuple[str, str]) -> None:
    run = launched(make_run(make_job(retry=Retry(attempts=1, interruptions=0))))
    (notice,) = decide(run, WorkerEnding("i-00000001", is_final=True), NOW, LIMITS).commands
    assert isinstance(notice, SendNotice)

    SnsNotifier(client("sns"), mailbox[0]).send(notice.subject, notice.text)

    mail = received(mailbox[1])
    assert mail["Subject"] == "FAILED nightly-report-20260116T023000Z"
    assert "nightcrew logs nightly-report-20260116T023000Z" in mail["Message"]


def test_a_subject_is_as_short_as_mail_wants_it(mailbox: tuple[str, str]) -> None:
    SnsNotifier(client("sns"), mailbox[0]).send("FAILED " + "x" * 200, "text")

    assert len(received(mailbox[1])["Subject"]) == 100


# ---- From people -------------------------------------------------------------------------------------------


def launcher_that_answers(payload: bytes, **answer: Any) -> tuple[LambdaLauncher, list[Any]]:
    asked: list[Any] = []

    class Body:
        def read(self) -> bytes:
            return payload

    class Client:
        def invoke(self, **request: Any) -> dict[str, Any]:
            asked.append(request)
            return {"Payload": Body(), **answer}

    replying: Any = Client()
    return LambdaLauncher(replying, "nightcrew-launcher"), asked


def test_a_run_by_hand_is_asked_for_as_the_launcher_expects_it() -> None:
    launcher, asked = launcher_that_answers(b'{"run_id": "r1", "status": "STARTING", "reason": "launched"}')

    started = launcher.start("nightly-report", "5d41402abc4b", NOW)

    assert started == Started("r1", "STARTING", "launched")
    assert asked[0]["InvocationType"] == "RequestResponse"
    expected = {**read_event("launcher/manual.json"), "scheduled_time": "2026-01-16T02:30:00Z"}
    assert json.loads(asked[0]["Payload"]) == expected


def test_a_launcher_that_fails_says_why() -> None:
    payload = b'{"errorType": "UnknownJobError", "errorMessage": "no such revision"}'
    launcher, _ = launcher_that_answers(payload, FunctionError="Unhandled")

    with pytest.raises(OperatorError, match="UnknownJobError: no such revision"):
        launcher.start("nightly-report", "5d41402abc4b", NOW)


def test_a_cancellation_arrives_as_the_lifecycle_function_reads_it(aws: None) -> None:
    queue = client("sqs").create_queue(QueueName="lifecycle")["QueueUrl"]

    SqsCancellations(client("sqs"), queue).cancel("nightly-report-20200101T023000Z", "ada")

    body = received(queue)
    assert body == json.loads(read_event("lifecycle/cancel-request.json")["Records"][0]["body"])
    assert parse_facts(body) == (CancelAsked("nightly-report-20200101T023000Z", "ada"),)
