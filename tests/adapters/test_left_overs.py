from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from botocore.stub import Stubber

from nightcrew.adapters.left_overs import Ec2LeftOvers
from nightcrew.usecases.errors import UnreadableError
from nightcrew.usecases.ports import EndStatus
from tests.adapters.conftest import client


@pytest.fixture
def left_overs(aws: None) -> Ec2LeftOvers:
    return Ec2LeftOvers(client("ec2"), "nightcrew")


def tagged(kind: str, stack: str) -> Any:
    return [{"ResourceType": kind, "Tags": [{"Key": "nightcrew:stack", "Value": stack}]}]


def volume(stack: str = "nightcrew") -> str:
    answer = client("ec2").create_volume(
        Size=1, AvailabilityZone="eu-west-1a", TagSpecifications=tagged("volume", stack)
    )
    return str(answer["VolumeId"])


def interface(stack: str = "nightcrew") -> str:
    subnet = client("ec2").describe_subnets()["Subnets"][0]["SubnetId"]
    answer = client("ec2").create_network_interface(
        SubnetId=subnet, TagSpecifications=tagged("network-interface", stack)
    )
    return str(answer["NetworkInterface"]["NetworkInterfaceId"])


def test_what_is_ours_and_attached_to_nothing_is_found(left_overs: Ec2LeftOvers) -> None:
    ours = {volume(), volume(), interface()}
    volume("another")
    interface("another")

    found = left_overs.find()

    assert {thing.resource_id for thing in found} == ours
    assert all(thing.created_at for thing in found if thing.resource_id.startswith("vol-"))


def test_a_disk_in_use_is_no_left_over(left_overs: Ec2LeftOvers) -> None:
    instance = client("ec2").run_instances(
        ImageId="ami-12345678",
        MinCount=1,
        MaxCount=1,
        Placement={"AvailabilityZone": "eu-west-1a"},
        TagSpecifications=tagged("volume", "nightcrew"),
    )["Instances"][0]["InstanceId"]
    attached = volume()
    client("ec2").attach_volume(VolumeId=attached, InstanceId=instance, Device="/dev/sdf")

    assert left_overs.find() == []


def test_a_left_over_is_deleted_and_deleting_it_again_is_no_failure(left_overs: Ec2LeftOvers) -> None:
    for thing in (volume(), interface()):
        assert left_overs.delete(thing).status is EndStatus.ENDED
        assert left_overs.delete(thing).status is EndStatus.ENDED

    assert left_overs.find() == []


@pytest.mark.parametrize("resource_id", ["vol-1", "eni-1"])
@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("UnauthorizedOperation", EndStatus.DENIED),
        ("VolumeInUse", EndStatus.FAILED),
        ("RequestLimitExceeded", EndStatus.FAILED),
    ],
)
def test_a_refused_deletion_is_reported(
    left_overs: Ec2LeftOvers, resource_id: str, code: str, status: EndStatus
) -> None:
    operation = "delete_volume" if resource_id.startswith("vol-") else "delete_network_interface"
    with Stubber(left_overs.client) as stub:
        stub.add_client_error(operation, code, "so it is")

        report = left_overs.delete(resource_id)

    assert report.status is status
    assert report.message == f"{code}: so it is"


def test_no_answer_is_a_failure_of_this_one_and_stops_no_other(left_overs: Ec2LeftOvers) -> None:
    def fail(**_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="https://ec2")

    events = client("ec2").meta.events
    events.register_first("before-send.ec2.DeleteVolume", fail)

    try:
        report = left_overs.delete("vol-1")
    finally:
        events.unregister("before-send.ec2.DeleteVolume", fail)

    assert report.status is EndStatus.FAILED


@pytest.mark.parametrize("operation", ["describe_volumes", "describe_network_interfaces"])
def test_left_overs_that_cannot_be_listed_are_not_none(left_overs: Ec2LeftOvers, operation: str) -> None:
    with Stubber(left_overs.client) as stub:
        if operation == "describe_network_interfaces":
            stub.add_response("describe_volumes", {"Volumes": []})
        stub.add_client_error(operation, "RequestLimitExceeded")

        with pytest.raises(UnreadableError, match="left-overs: RequestLimitExceeded"):
            left_overs.find()
