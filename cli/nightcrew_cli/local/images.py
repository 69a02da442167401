"""Machine images: Amazon Linux for both architectures, and a stand-in for every other image a job may name.

Locally no image is booted. So any well-formed id counts as an image of the user's own, and only NOWHERE does not exist.
"""

# ruff: noqa: SLF001 - the emulator has no public interface to its images

import re
from collections.abc import Mapping
from typing import Any

from ministack.core.responses import get_account_id
from ministack.services import ec2, ssm

from nightcrew_cli.local.answers import ApiError, Response

NOWHERE = "ami-00000000000000000"
IMAGE_ID = re.compile(r"ami-(?:[0-9a-f]{8}|[0-9a-f]{17})")
AMAZON, CANONICAL = "137112412989", "099720109477"
AL2023 = "/aws/service/ami-amazon-linux-latest/al2023-ami-{}-{}"
UBUNTU = "/aws/service/canonical/ubuntu/server/{}/stable/current/{}/hvm/ebs-gp3/ami-id"
PUBLIC = {
    **{
        AL2023.format(flavor, name): (f"ami-0c2023{number}{letter}a1b2c3d4e", name, "/dev/xvda", AMAZON)
        for number, flavor in enumerate(("kernel-default", "minimal-kernel-default", "kernel-6.1"), 1)
        for name, letter in (("x86_64", "a"), ("arm64", "b"))
    },
    **{
        UBUNTU.format(version, name): (f"ami-0{number}04{letter}a1b2c3d4e5f", architecture, "/dev/sda1", CANONICAL)
        for number, version in ((22, "22.04"), (24, "24.04"))
        for name, architecture, letter in (("amd64", "x86_64", "a"), ("arm64", "arm64", "b"))
    },
}
"""Public parameter: image, architecture, root device, owner."""

_architecture_of: dict[str, str] = {"ami-0c2023a1b2c3d4e5f": "x86_64", "ami-0abcdef1234567890": "x86_64"}


def add_public_images() -> None:
    """Add Amazon Linux and Ubuntu by their public parameter names; the emulator has two of them, all x86_64."""
    view = ec2._stub_image_view
    for parameter, (image, architecture, device, owner) in PUBLIC.items():
        if parameter not in ssm._PUBLIC_AMI_PARAMETERS:
            ssm._PUBLIC_AMI_PARAMETERS[parameter] = image
            ec2._STUB_AMIS.append(
                (image, parameter.strip("/").replace("/", "-"), "Public image", "", device, owner, None)
            )
            _architecture_of[image] = architecture

    def stub_image_view(*fields: Any) -> dict[str, Any]:
        found: dict[str, Any] = view(*fields)
        disk = {"VolumeSize": 8, "VolumeType": "gp3", "DeleteOnTermination": True}
        found["BlockDeviceMappings"] = [{"DeviceName": found["RootDeviceName"], "Ebs": disk}]
        return {**found, "Architecture": _architecture_of.get(found["ImageId"], found["Architecture"])}

    ec2._stub_image_view = stub_image_view


def describe_images(p: Mapping[str, Any]) -> Response:
    for image in ec2._parse_member_list(p, "ImageId"):
        check(image)
        known = {stub[0] for stub in ec2._STUB_AMIS} | {key for _, _, key in ec2._images._data}
        if image not in known:
            stub = (image, image, "Stands in for an image of your own", "", "/dev/xvda", get_account_id(), None)
            ec2._STUB_AMIS.append(stub)
    answer: Response = ec2._describe_images(p)
    return answer


def check(image: str) -> None:
    """Raise what AWS answers for an image that cannot be or is not there."""
    if not IMAGE_ID.fullmatch(image):
        raise ApiError("InvalidAMIID.Malformed", f'Invalid id: "{image}"')
    if image == NOWHERE:
        raise ApiError("InvalidAMIID.NotFound", f"The image id '[{image}]' does not exist")


def resolved(image: str) -> str:
    """Return the image id; an SSM parameter is looked up at launch, as AWS does."""
    if not image.startswith("resolve:ssm:"):
        return image
    parameter, error = ssm._select_parameter(image.removeprefix("resolve:ssm:"))
    if error:
        raise ApiError("InvalidParameterValue", f"The parameter {image} could not be resolved: {error}")
    return str(parameter["Value"])


def root_device(image: str) -> str:
    return next((str(stub[4]) for stub in ec2._STUB_AMIS if stub[0] == image), "/dev/xvda")


def architecture_of_type(instance_type: str) -> str:
    """Return the architecture of an instance type: Graviton families carry a g after the generation."""
    family = instance_type.partition(".")[0]
    return "arm64" if re.match(r"a1$|[a-z]+\d+[a-z]*g", family) else "x86_64"


def mismatch(image: str, instance_type: str) -> str:
    """Say how image and instance type contradict each other; empty when they do not, or nothing is known."""
    has, wants = _architecture_of.get(image), architecture_of_type(instance_type)
    if has in (None, wants):
        return ""
    return (
        f"The architecture '{wants}' of the specified instance type does not match the architecture '{has}' of the "
        "specified AMI. Specify an instance type and an AMI that have matching architectures, and try again."
    )
