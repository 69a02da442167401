from __future__ import annotations

from typing import Any

import pytest
from botocore.stub import Stubber

from nightcrew.adapters.launch_inputs import AwsLaunchInputs
from nightcrew.domain.plan import Image
from nightcrew.usecases.errors import LaunchInputError, UnreadableError
from tests.adapters.conftest import client


@pytest.fixture
def inputs(aws: None) -> AwsLaunchInputs:
    return AwsLaunchInputs(client("ec2"), client("ssm"))


@pytest.fixture
def image_id(aws: None) -> str:
    answer = client("ec2").register_image(Name="worker", RootDeviceName="/dev/sda1", Architecture="arm64")
    return str(answer["ImageId"])


def test_an_image_is_known_with_the_device_that_its_disk_hangs_on(inputs: AwsLaunchInputs, image_id: str) -> None:
    assert inputs.image(image_id) == Image(image_id, "/dev/sda1")


def test_an_alias_stands_for_the_image_that_it_names_today(inputs: AwsLaunchInputs, image_id: str) -> None:
    client("ssm").put_parameter(Name="/nightcrew/image", Value=image_id, Type="String")

    assert inputs.image("ssm:/nightcrew/image") == Image(image_id, "/dev/sda1")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("ssm:/nightcrew/no-such-image", "image parameter /nightcrew/no-such-image: ParameterNotFound"),
        ("ami-00000000", "image ami-00000000: "),
    ],
)
def test_an_image_that_does_not_exist_ends_the_run_and_is_named(
    inputs: AwsLaunchInputs, image: str, message: str
) -> None:
    with pytest.raises(LaunchInputError, match=message):
        inputs.image(image)


def test_an_image_that_is_not_shared_with_us_ends_the_run(inputs: AwsLaunchInputs) -> None:
    with Stubber(inputs.ec2) as stub:
        stub.add_response("describe_images", {"Images": []}, {"ImageIds": ["ami-1"]})

        with pytest.raises(LaunchInputError, match="ami-1 does not exist in this region or is not shared"):
            inputs.image("ami-1")


def test_without_a_choice_the_default_subnets_are_taken_by_zone(inputs: AwsLaunchInputs) -> None:
    subnets = inputs.subnets(())

    assert [subnet.zone for subnet in subnets] == ["eu-west-1a", "eu-west-1b", "eu-west-1c"]


def test_subnets_that_were_chosen_are_the_only_ones(inputs: AwsLaunchInputs) -> None:
    chosen = inputs.subnets(())[1]

    assert inputs.subnets([chosen.subnet_id]) == (chosen,)


def test_subnets_are_asked_for_once(inputs: AwsLaunchInputs) -> None:
    first = inputs.subnets(())

    with Stubber(inputs.ec2):  # It has no answer, so any call fails.
        assert inputs.subnets(()) == first


def test_a_region_without_a_default_network_says_what_to_do(inputs: AwsLaunchInputs) -> None:
    with Stubber(inputs.ec2) as stub:
        stub.add_response("describe_subnets", {"Subnets": []})

        with pytest.raises(LaunchInputError, match="deploy with SubnetIds, or name subnets in the job"):
            inputs.subnets(())


def test_a_subnet_that_does_not_exist_ends_the_run_and_is_named(inputs: AwsLaunchInputs) -> None:
    with pytest.raises(LaunchInputError, match=r"subnets subnet-00000000: InvalidSubnetID\.NotFound"):
        inputs.subnets(["subnet-00000000"])


@pytest.mark.parametrize(
    ("code", "status"), [("RequestLimitExceeded", 503), ("ThrottlingException", 400), ("InternalError", 500)]
)
@pytest.mark.parametrize(
    ("service", "operation"),
    [("ec2", "describe_images"), ("ec2", "describe_subnets"), ("ssm", "get_parameter")],
)
def test_trouble_on_their_side_does_not_end_the_run(
    inputs: AwsLaunchInputs, service: str, operation: str, code: str, status: int
) -> None:
    ask: dict[str, Any] = {
        "describe_images": lambda: inputs.image("ami-1"),
        "describe_subnets": lambda: inputs.subnets(()),
        "get_parameter": lambda: inputs.image("ssm:/nightcrew/image"),
    }
    with Stubber(client(service)) as stub:
        stub.add_client_error(operation, code, "try again", status)

        with pytest.raises(UnreadableError, match=code):
            ask[operation]()
