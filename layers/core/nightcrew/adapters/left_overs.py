"""Volumes and network interfaces that a worker left behind: ours by tag, attached to nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from nightcrew.adapters import aws_errors
from nightcrew.domain import tags as tag
from nightcrew.domain.sweep import LeftOver
from nightcrew.usecases.errors import UnreadableError
from nightcrew.usecases.ports import EndReport, EndStatus

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client


@dataclass(frozen=True, slots=True)
class Ec2LeftOvers:
    client: EC2Client
    stack: str

    def find(self) -> Sequence[LeftOver]:
        filters: Any = [
            {"Name": f"tag:{tag.STACK}", "Values": [self.stack]},
            {"Name": "status", "Values": ["available"]},
        ]
        try:
            volumes = self.client.get_paginator("describe_volumes").paginate(Filters=filters)
            found = [
                LeftOver(resource_id=volume["VolumeId"], created_at=volume.get("CreateTime"))
                for page in volumes
                for volume in page["Volumes"]
            ]
            interfaces = self.client.get_paginator("describe_network_interfaces").paginate(Filters=filters)
            return found + [
                LeftOver(
                    resource_id=interface["NetworkInterfaceId"],
                    created_at=None,
                    deadline=tag.deadline_of({item["Key"]: item["Value"] for item in interface.get("TagSet", [])}),
                )
                for page in interfaces
                for interface in page["NetworkInterfaces"]
            ]
        except aws_errors.FAILURES as error:
            raise UnreadableError(f"left-overs: {aws_errors.message_of(error)}") from error

    def delete(self, resource_id: str) -> EndReport:
        try:
            if resource_id.startswith("vol-"):
                self.client.delete_volume(VolumeId=resource_id)
            else:
                self.client.delete_network_interface(NetworkInterfaceId=resource_id)
        except aws_errors.FAILURES as error:
            code = aws_errors.code_of(error) if isinstance(error, ClientError) else ""
            if code in aws_errors.NOT_FOUND:
                return EndReport(EndStatus.ENDED)
            status = EndStatus.DENIED if code in aws_errors.DENIED else EndStatus.FAILED
            return EndReport(status, aws_errors.message_of(error))
        return EndReport(EndStatus.ENDED)
