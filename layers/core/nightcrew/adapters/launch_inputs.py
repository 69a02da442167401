"""What a launch depends on and a job names only indirectly: the image behind an alias, the default subnets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from nightcrew.adapters import aws_errors
from nightcrew.domain.plan import Image, Subnet
from nightcrew.usecases.errors import LaunchInputError, NightcrewError, UnreadableError

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ssm import SSMClient

_SSM = "ssm:"


@dataclass(frozen=True, slots=True)
class AwsLaunchInputs:
    ec2: EC2Client
    ssm: SSMClient
    _subnets: dict[tuple[str, ...], tuple[Subnet, ...]] = field(default_factory=dict)

    def image(self, image: str) -> Image:
        image_id = self._parameter(image.removeprefix(_SSM)) if image.startswith(_SSM) else image
        try:
            found = self.ec2.describe_images(ImageIds=[image_id])["Images"]
        except ClientError as error:
            raise _unusable(f"image {image}", error) from error
        if not found:
            raise LaunchInputError(f"image {image}: {image_id} does not exist in this region or is not shared with us")
        return Image(image_id=image_id, root_device=found[0].get("RootDeviceName") or "/dev/xvda")

    def _parameter(self, name: str) -> str:
        try:
            return self.ssm.get_parameter(Name=name)["Parameter"]["Value"]
        except ClientError as error:
            raise _unusable(f"image parameter {name}", error) from error

    def subnets(self, subnet_ids: Sequence[str]) -> tuple[Subnet, ...]:
        """Return the subnets by zone; remembered for the life of the process, as subnets hardly change."""
        wanted = tuple(subnet_ids)
        if wanted not in self._subnets:
            self._subnets[wanted] = self._describe(wanted)
        return self._subnets[wanted]

    def _describe(self, wanted: tuple[str, ...]) -> tuple[Subnet, ...]:
        request: dict[str, Any] = (
            {"SubnetIds": list(wanted)} if wanted else {"Filters": [{"Name": "default-for-az", "Values": ["true"]}]}
        )
        try:
            pages = self.ec2.get_paginator("describe_subnets").paginate(**request)
            found = [Subnet(item["SubnetId"], item["AvailabilityZone"]) for page in pages for item in page["Subnets"]]
        except ClientError as error:
            raise _unusable(f"subnets {', '.join(wanted)}", error) from error
        if not found:
            raise LaunchInputError(
                "no subnets given and this region has no default VPC: deploy with SubnetIds, or name subnets in the job"
            )
        return tuple(sorted(found, key=lambda subnet: (subnet.zone, subnet.subnet_id)))


def _unusable(what: str, error: ClientError) -> NightcrewError:
    """A refusal ends the run; trouble on AWS's side says nothing about the job, and the delivery is repeated."""
    message = f"{what}: {aws_errors.message_of(error)}"
    is_trouble = aws_errors.is_ambiguous(error) or aws_errors.code_of(error) in aws_errors.THROTTLED
    return UnreadableError(message) if is_trouble else LaunchInputError(message)
