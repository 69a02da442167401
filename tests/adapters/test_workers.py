from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from botocore.stub import Stubber

from nightcrew.adapters import workers as module
from nightcrew.adapters.workers import ENDED, Ec2Workers
from nightcrew.domain.sweep import EndCause, WorkerState
from nightcrew.usecases.errors import UnreadableError
from nightcrew.usecases.ports import EndStatus
from tests.adapters.conftest import client

GONE = "i-0f0f0f0f0f0f0f0f0"


@pytest.fixture
def workers(aws: None) -> Ec2Workers:
    return Ec2Workers(client("ec2"), "nightcrew")


@pytest.fixture
def stubbed() -> Any:
    with Stubber(client("ec2")) as stub:
        yield stub
        stub.assert_no_pending_responses()


@pytest.fixture
def calls() -> Any:
    """The parameters of every terminate or stop call."""
    made: list[list[str]] = []

    def note(params: dict[str, Any], **_: Any) -> None:
        made.append(list(params["InstanceIds"]))

    events = client("ec2").meta.events
    for operation in ("TerminateInstances", "StopInstances"):
        events.register(f"provide-client-params.ec2.{operation}", note)
    yield made
    for operation in ("TerminateInstances", "StopInstances"):
        events.unregister(f"provide-client-params.ec2.{operation}", note)


def start(count: int = 1, *, stack: str = "nightcrew", launch: str = "l1") -> list[str]:
    tags = {"nightcrew:stack": stack, "nightcrew:launch": launch, "nightcrew:run": "r1"}
    specifications: Any = [
        {"ResourceType": "instance", "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
    ]
    answer = client("ec2").run_instances(
        ImageId="ami-12345678",
        InstanceType="m5.large",
        MinCount=count,
        MaxCount=count,
        TagSpecifications=specifications,
    )
    return [instance["InstanceId"] for instance in answer["Instances"]]


def states(ids: Sequence[str]) -> set[str]:
    pages = client("ec2").describe_instances(InstanceIds=list(ids))["Reservations"]
    return {instance["State"]["Name"] for page in pages for instance in page["Instances"]}


# ---- Looking -----------------------------------------------------------------------------------------------


def test_an_unknown_id_does_not_hide_the_others(workers: Ec2Workers) -> None:
    (instance_id,) = start()

    seen = workers.describe([GONE, instance_id])

    assert list(seen) == [instance_id]
    assert seen[instance_id].state is WorkerState.RUNNING
    assert seen[instance_id].tags["nightcrew:launch"] == "l1"
    assert seen[instance_id].capacity_type == "on-demand"


def test_to_look_at_nobody_asks_nothing(workers: Ec2Workers, stubbed: Stubber) -> None:
    assert workers.describe([]) == {}


def test_all_that_aws_says_of_an_instance_is_kept(workers: Ec2Workers, stubbed: Stubber) -> None:
    launched_at = datetime(2026, 1, 16, 2, 31, tzinfo=UTC)
    instance = {
        "InstanceId": "i-1",
        "State": {"Name": "terminated", "Code": 48},
        "LaunchTime": launched_at,
        "InstanceType": "m7g.large",
        "InstanceLifecycle": "spot",
        "Placement": {"AvailabilityZone": "eu-west-1a"},
        "PrivateIpAddress": "10.0.0.9",
        "PublicIpAddress": "192.0.2.9",
        "StateReason": {"Code": "Server.SpotInstanceTermination", "Message": "Spot instance termination"},
        "Tags": [{"Key": "nightcrew:run", "Value": "r1"}],
    }
    stubbed.add_response("describe_instances", {"Reservations": [{"Instances": [instance]}]})

    seen = workers.describe(["i-1"])["i-1"]

    assert (seen.state, seen.launched_at) == (WorkerState.TERMINATED, launched_at)
    assert (seen.end_cause, seen.end_reason) == (EndCause.INTERRUPTION, "Spot instance termination")
    assert (seen.instance_type, seen.capacity_type, seen.zone) == ("m7g.large", "spot", "eu-west-1a")
    assert (seen.private_address, seen.public_address) == ("10.0.0.9", "192.0.2.9")


def test_an_instance_that_says_little_is_seen_all_the_same(workers: Ec2Workers, stubbed: Stubber) -> None:
    instance = {"InstanceId": "i-1", "State": {"Name": "pending"}, "LaunchTime": datetime(2026, 1, 16, tzinfo=UTC)}
    stubbed.add_response("describe_instances", {"Reservations": [{"Instances": [instance]}]})

    seen = workers.describe(["i-1"])["i-1"]

    assert (seen.tags, seen.end_cause, seen.end_reason) == ({}, EndCause.UNKNOWN, "")


def test_the_inventory_is_ours_alone_and_leaves_out_the_dead(workers: Ec2Workers) -> None:
    ours = start(3)
    start(2, stack="another")
    client("ec2").terminate_instances(InstanceIds=ours[:1])
    client("ec2").stop_instances(InstanceIds=ours[1:2])

    assert {worker.instance_id for worker in workers.all_ours()} == set(ours[1:])


def test_the_inventory_is_read_to_its_last_page(workers: Ec2Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BATCH", 5)
    ours = {start()[0] for _ in range(12)}

    assert {worker.instance_id for worker in workers.all_ours()} == ours


def test_the_inventory_asks_with_one_tag_and_every_living_state(workers: Ec2Workers, stubbed: Stubber) -> None:
    filters = [
        {"Name": "tag:nightcrew:stack", "Values": ["nightcrew"]},
        {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
    ]
    stubbed.add_response("describe_instances", {"Reservations": []}, {"Filters": filters, "MaxResults": 1000})

    assert workers.all_ours() == []


def test_a_worker_is_found_by_its_launch_and_only_while_it_lives(workers: Ec2Workers) -> None:
    (first,) = start(launch="l1")
    start(launch="l2")

    assert workers.of_launch("l1").instance_id == first
    client("ec2").terminate_instances(InstanceIds=[first])
    assert workers.of_launch("l1") is None


def test_a_launch_tag_that_a_stranger_copied_finds_nobody(workers: Ec2Workers) -> None:
    start(launch="l1", stack="another")

    assert workers.of_launch("l1") is None


@pytest.mark.parametrize("code", ["RequestLimitExceeded", "UnauthorizedOperation", "InternalError"])
def test_an_inventory_that_cannot_be_read_is_not_an_empty_one(workers: Ec2Workers, stubbed: Stubber, code: str) -> None:
    stubbed.add_client_error("describe_instances", code)

    with pytest.raises(UnreadableError, match=f"instances: {code}"):
        workers.all_ours()


def test_a_page_that_fails_in_the_middle_makes_the_whole_unreadable(workers: Ec2Workers, stubbed: Stubber) -> None:
    stubbed.add_response("describe_instances", {"Reservations": [], "NextToken": "more"})
    stubbed.add_client_error("describe_instances", "RequestLimitExceeded")

    with pytest.raises(UnreadableError):
        workers.all_ours()


# ---- Ending ------------------------------------------------------------------------------------------------


def test_many_workers_are_ended_by_one_call(workers: Ec2Workers, calls: list[list[str]]) -> None:
    ids = start(7)

    reports = workers.terminate([*ids, ids[0]])

    assert reports == dict.fromkeys(ids, ENDED)
    assert states(ids) == {"terminated"}
    assert calls == [sorted(ids)]


def test_ending_nobody_makes_no_call(workers: Ec2Workers, calls: list[list[str]]) -> None:
    assert workers.terminate([]) == {}
    assert calls == []


def test_more_workers_than_one_call_takes_need_more_calls(
    workers: Ec2Workers, calls: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BATCH", 5)
    ids = start(12)

    assert workers.terminate(ids) == dict.fromkeys(ids, ENDED)
    assert [len(call) for call in calls] == [5, 5, 2]


def test_one_that_is_gone_has_ended_and_the_others_end_too(workers: Ec2Workers) -> None:
    ids = start(20)

    reports = workers.terminate([*ids[:10], GONE, *ids[10:]])

    assert reports == dict.fromkeys([*ids, GONE], ENDED)
    assert states(ids) == {"terminated"}


def test_ending_twice_is_ending(workers: Ec2Workers) -> None:
    ids = start(2)
    workers.terminate(ids)

    assert workers.terminate(ids) == dict.fromkeys(ids, ENDED)


def test_a_protected_worker_is_reported_and_the_others_end(workers: Ec2Workers) -> None:
    ids = start(5)
    (protected,) = start()
    client("ec2").modify_instance_attribute(InstanceId=protected, DisableApiTermination={"Value": True})

    reports = workers.terminate([*ids, protected])

    assert {i: report.status for i, report in reports.items()} == {
        **dict.fromkeys(ids, EndStatus.ENDED),
        protected: EndStatus.PROTECTED,
    }
    assert states([protected]) == {"running"}
    assert states(ids) == {"terminated"}


def test_a_worker_is_stopped_and_stays(workers: Ec2Workers) -> None:
    ids = start(2)

    assert workers.stop(ids) == dict.fromkeys(ids, ENDED)
    assert states(ids) == {"stopped"}


def described(*ids: str, state: str) -> dict[str, Any]:
    launched_at = datetime(2026, 1, 16, tzinfo=UTC)
    instances = [{"InstanceId": i, "State": {"Name": state}, "LaunchTime": launched_at} for i in ids]
    return {"Reservations": [{"Instances": instances}]}


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        pytest.param({"Reservations": []}, EndStatus.ENDED, id="it has vanished"),
        pytest.param(described("i-1", state="terminated"), EndStatus.ENDED, id="it is terminated, its tags gone"),
        pytest.param(described("i-1", state="shutting-down"), EndStatus.ENDED, id="it is on its way"),
        pytest.param(described("i-1", state="running"), EndStatus.DENIED, id="it runs on"),
        pytest.param(described("i-1", state="stopped"), EndStatus.DENIED, id="it is only stopped"),
    ],
)
def test_a_denied_end_counts_as_ended_only_when_the_worker_is_gone(
    workers: Ec2Workers, stubbed: Stubber, answer: dict[str, Any], status: EndStatus
) -> None:
    stubbed.add_client_error("terminate_instances", "UnauthorizedOperation", "not authorized", 403)
    stubbed.add_response("describe_instances", answer)

    assert workers.terminate(["i-1"])["i-1"].status is status


def test_a_denied_end_that_cannot_be_looked_into_is_denied_and_the_others_end(
    workers: Ec2Workers, stubbed: Stubber
) -> None:
    stubbed.add_client_error("terminate_instances", "UnauthorizedOperation", "not authorized", 403)
    stubbed.add_client_error("terminate_instances", "UnauthorizedOperation", "not authorized", 403)
    stubbed.add_client_error("describe_instances", "RequestLimitExceeded")
    stubbed.add_response("terminate_instances", {"TerminatingInstances": []}, {"InstanceIds": ["i-2"]})

    reports = workers.terminate(["i-1", "i-2"])

    assert (reports["i-1"].status, reports["i-2"].status) == (EndStatus.DENIED, EndStatus.ENDED)


@pytest.mark.parametrize("code", ["RequestLimitExceeded", "InternalError", "Unavailable"])
def test_a_throttled_batch_is_not_split_into_more_calls(workers: Ec2Workers, stubbed: Stubber, code: str) -> None:
    stubbed.add_client_error("terminate_instances", code)  # One answer: a second call would fail the test.

    reports = workers.terminate(["i-1", "i-2", "i-3"])

    assert {i: report.status for i, report in reports.items()} == dict.fromkeys(("i-1", "i-2", "i-3"), EndStatus.FAILED)
    assert all(code in report.message for report in reports.values())


def test_no_answer_is_a_failure_of_every_worker_of_the_batch(workers: Ec2Workers) -> None:
    def fail(**_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="https://ec2")

    events = client("ec2").meta.events
    events.register_first("before-send.ec2.TerminateInstances", fail)

    try:
        reports = workers.terminate(["i-1", "i-2"])
    finally:
        events.unregister("before-send.ec2.TerminateInstances", fail)

    assert {report.status for report in reports.values()} == {EndStatus.FAILED}


def test_a_spot_worker_that_cannot_be_stopped_is_a_failure_that_says_so(workers: Ec2Workers, stubbed: Stubber) -> None:
    stubbed.add_client_error("stop_instances", "UnsupportedOperation", "one-time Spot instances cannot be stopped")

    report = workers.stop(["i-1"])["i-1"]

    assert report.status is EndStatus.FAILED
    assert "cannot be stopped" in report.message


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("Client.InstanceInitiatedShutdown", EndCause.ITSELF),
        ("Client.UserInitiatedShutdown", EndCause.OUTSIDE),
        ("Server.SpotInstanceTermination", EndCause.INTERRUPTION),
        ("Server.InsufficientInstanceCapacity", EndCause.NO_CAPACITY),
        ("Client.VolumeLimitExceeded", EndCause.QUOTA),
        ("Client.InternalError", EndCause.NOT_STARTABLE),
        ("Server.InternalError", EndCause.UNKNOWN),
        ("", EndCause.UNKNOWN),
    ],
)
def test_who_ended_a_worker_is_read_from_its_state_reason(
    workers: Ec2Workers, stubbed: Stubber, code: str, cause: EndCause
) -> None:
    answer = described("i-1", state="terminated")
    answer["Reservations"][0]["Instances"][0]["StateReason"] = {"Code": code, "Message": "said"}
    stubbed.add_response("describe_instances", answer)

    assert workers.describe(["i-1"])["i-1"].end_cause is cause
