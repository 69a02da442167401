"""The emulator's records of an instance and of what it owns: root volume, further volumes, network interface, tags.

The emulator keeps one root volume in a fixed zone, no network interface, and no tags but the instance's. AWS creates
all of them with the launch, tags each as the launch request says, and deletes them with the instance unless told
otherwise.
"""

# ruff: noqa: SLF001 - the emulator has no public interface to its stores

import hashlib
import ipaddress
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ministack.core.responses import get_account_id, get_region
from ministack.services import ec2

from nightcrew_cli.local import images
from nightcrew_cli.local.instances import Instance
from nightcrew_cli.local.worker_process import decode_user_data

Tags = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSpec:
    """One instance to launch, after template and overrides were merged."""

    template: dict[str, Any]
    instance_type: str
    image: str
    subnet: str
    zone: str
    capacity_type: str
    tags: Mapping[str, Tags] = field(default_factory=dict)
    client_token: str = ""
    index: int = 0


def new_id(prefix: str) -> str:
    return f"{prefix}-{secrets.token_hex(9)[:17]}"


def set_tags(resource_id: str, tags: Tags) -> None:
    if tags:
        ec2._tags[resource_id] = [{"Key": key, "Value": value} for key, value in tags.items()]


def tags_of(resource_id: str) -> Tags:
    return {tag["Key"]: tag.get("Value", "") for tag in ec2._tags.get(resource_id, [])}


def profile_of(template: Mapping[str, Any]) -> dict[str, str] | None:
    """Return ARN and id of the launch's instance profile, or None when it names none or an unknown one."""
    wanted = template.get("IamInstanceProfile") or {}
    profile, _ = ec2._resolve_iam_instance_profile(iam_arn=wanted.get("Arn", ""), iam_name=wanted.get("Name", ""))
    return dict(profile) if profile else None


def is_true(value: object, default: bool) -> bool:
    """Templates carry booleans as booleans or as text."""
    return default if value in (None, "") else str(value).lower() == "true"


class Ec2Records:
    """Creates, releases and forgets the records of instances."""

    def create(self, spec: LaunchSpec) -> Instance:
        instance_id = new_id("i")
        template = spec.template
        interface = self._network_interface(spec, instance_id)
        record = self._instance_record(spec, instance_id, interface)
        for mapping in self._block_devices(template, record["RootDeviceName"]):
            self._volume(spec, record, mapping)
        ec2._instances[instance_id] = record
        set_tags(instance_id, dict(spec.tags.get("instance", {})))
        if spec.capacity_type == "spot":
            record["SpotInstanceRequestId"] = self._spot_request(spec, instance_id)
        profile = profile_of(template)
        if profile:
            ec2._upsert_iam_instance_profile_association(instance_id, profile)
        options = template.get("MetadataOptions") or {}
        return Instance(
            record=record,
            account=get_account_id(),
            region=get_region(),
            user_data=decode_user_data(str(template.get("UserData", ""))) if template.get("UserData") else b"",
            capacity_type=spec.capacity_type,
            shutdown_behavior=str(template.get("InstanceInitiatedShutdownBehavior", "stop")),
            metadata_tags=options.get("InstanceMetadataTags", "disabled") == "enabled",
            termination_protected=is_true(template.get("DisableApiTermination"), default=False),
            profile=profile["Arn"] if profile else "",
        )

    def release(self, instance: Instance) -> None:
        """Delete what is to go with the instance; keep, detached, what is to stay."""
        for volume_id, volume in list(ec2._volumes.items()):
            for attachment in [it for it in volume["Attachments"] if it["InstanceId"] == instance.instance_id]:
                volume["Attachments"], volume["State"] = [], "available"
                if attachment["DeleteOnTermination"]:
                    ec2._volumes.pop(volume_id, None)
                    ec2._tags.pop(volume_id, None)
        for interface_id, interface in list(ec2._network_interfaces.items()):
            attachment = interface.get("Attachment") or {}
            if attachment.get("InstanceId") != instance.instance_id:
                continue
            interface["Attachment"], interface["Status"] = None, "available"
            if attachment.get("DeleteOnTermination", True):
                ec2._network_interfaces.pop(interface_id, None)
                ec2._tags.pop(interface_id, None)
        self._clear_addresses(instance.record)
        request = ec2_spot_requests().get(instance.record.get("SpotInstanceRequestId", ""))
        if request:
            request["State"], request["StatusCode"] = "closed", "instance-terminated-by-user"

    def forget(self, instance: Instance) -> None:
        ec2._instances.pop(instance.instance_id, None)
        ec2._tags.pop(instance.instance_id, None)

    @staticmethod
    def _clear_addresses(record: dict[str, Any]) -> None:
        record["BlockDeviceMappings"] = []
        for name in ("PrivateIpAddress", "PublicIpAddress", "PrivateDnsName", "PublicDnsName", "SubnetId", "VpcId"):
            record[name] = ""

    @staticmethod
    def _spot_request(spec: LaunchSpec, instance_id: str) -> str:
        request_id = f"sir-{secrets.token_hex(4)}"
        ec2_spot_requests()[request_id] = {
            "SpotInstanceRequestId": request_id,
            "InstanceId": instance_id,
            "State": "active",
            "StatusCode": "fulfilled",
            "CreateTime": ec2._now_ts(),
            "InstanceType": spec.instance_type,
            "ImageId": spec.image,
        }
        set_tags(request_id, dict(spec.tags.get("spot-instances-request", {})))
        return request_id

    @staticmethod
    def _block_devices(template: Mapping[str, Any], root: str) -> list[dict[str, Any]]:
        """Return the launch's mappings; every image brings a root device, so one is always there."""
        mappings = [dict(mapping) for mapping in template.get("BlockDeviceMappings") or []]
        if not any(mapping.get("DeviceName") == root for mapping in mappings):
            mappings.insert(0, {"DeviceName": root, "Ebs": {}})
        return mappings

    @staticmethod
    def _volume(spec: LaunchSpec, record: dict[str, Any], mapping: dict[str, Any]) -> None:
        volume_id, ebs = new_id("vol"), mapping.get("Ebs") or {}
        delete = is_true(ebs.get("DeleteOnTermination"), default=mapping["DeviceName"] == record["RootDeviceName"])
        attachment = {
            "VolumeId": volume_id,
            "InstanceId": record["InstanceId"],
            "Device": mapping["DeviceName"],
            "State": "attached",
            "AttachTime": record["LaunchTime"],
            "DeleteOnTermination": delete,
        }
        kind = str(ebs.get("VolumeType", "gp3"))
        ec2._volumes[volume_id] = {
            "VolumeId": volume_id,
            "Size": int(ebs.get("VolumeSize") or 8),
            "AvailabilityZone": spec.zone,
            "State": "in-use",
            "VolumeType": kind,
            "SnapshotId": str(ebs.get("SnapshotId", "")),
            "Iops": int(ebs.get("Iops") or 3000),
            "Encrypted": is_true(ebs.get("Encrypted"), default=False),
            "CreateTime": record["LaunchTime"],
            "Attachments": [attachment],
            "MultiAttachEnabled": False,
            "Throughput": int(ebs.get("Throughput") or 125),
        }
        set_tags(volume_id, dict(spec.tags.get("volume", {})))
        record["BlockDeviceMappings"].append(
            {
                "DeviceName": mapping["DeviceName"],
                "Ebs": {
                    "VolumeId": volume_id,
                    "Status": "attached",
                    "AttachTime": record["LaunchTime"],
                    "DeleteOnTermination": delete,
                },
            }
        )

    @staticmethod
    def _network_interface(spec: LaunchSpec, instance_id: str) -> dict[str, Any]:
        subnet = ec2._subnets.get(spec.subnet, {})
        wanted = (spec.template.get("NetworkInterfaces") or [{}])[0]
        groups = wanted.get("Groups") or spec.template.get("SecurityGroupIds") or [ec2._DEFAULT_SG_ID]
        public = is_true(
            wanted.get("AssociatePublicIpAddress"), default=is_true(subnet.get("MapPublicIpOnLaunch"), default=False)
        )
        interface_id = new_id("eni")
        interface = {
            "NetworkInterfaceId": interface_id,
            "SubnetId": spec.subnet,
            "VpcId": subnet.get("VpcId", ec2._DEFAULT_VPC_ID),
            "AvailabilityZone": spec.zone,
            "Description": wanted.get("Description", ""),
            "OwnerId": get_account_id(),
            "Status": "in-use",
            "PrivateIpAddress": _address(subnet.get("CidrBlock", "10.0.0.0/16"), instance_id),
            "PublicIpAddress": _address("54.0.0.0/8", instance_id) if public else "",
            "InterfaceType": "interface",
            "SourceDestCheck": True,
            "MacAddress": ":".join(["02", *(f"{byte:02x}" for byte in secrets.token_bytes(5))]),
            "Groups": [
                {"GroupId": group, "GroupName": ec2._security_groups.get(group, {}).get("GroupName", group)}
                for group in groups
            ],
            "Attachment": {
                "AttachmentId": new_id("eni-attach"),
                "InstanceId": instance_id,
                "DeviceIndex": 0,
                "Status": "attached",
                "AttachTime": ec2._now_ts(),
                "DeleteOnTermination": is_true(wanted.get("DeleteOnTermination"), default=True),
            },
        }
        ec2._network_interfaces[interface_id] = interface
        set_tags(interface_id, dict(spec.tags.get("network-interface", {})))
        return interface

    @staticmethod
    def _instance_record(spec: LaunchSpec, instance_id: str, interface: dict[str, Any]) -> dict[str, Any]:
        private, public = interface["PrivateIpAddress"], interface["PublicIpAddress"]
        options = spec.template.get("MetadataOptions") or {}
        return {
            "InstanceId": instance_id,
            "ImageId": spec.image,
            "InstanceType": spec.instance_type,
            "KeyName": spec.template.get("KeyName", ""),
            "State": {"Code": 0, "Name": "pending"},
            "SubnetId": spec.subnet,
            "VpcId": interface["VpcId"],
            "PrivateIpAddress": private,
            "PublicIpAddress": public,
            "PrivateDnsName": f"ip-{private.replace('.', '-')}.ec2.internal",
            "PublicDnsName": f"ec2-{public.replace('.', '-')}.compute-1.amazonaws.com" if public else "",
            "SourceDestCheck": True,
            "SecurityGroups": interface["Groups"],
            "Architecture": images.architecture_of_type(spec.instance_type),
            "RootDeviceType": "ebs",
            "RootDeviceName": images.root_device(spec.image),
            "Hypervisor": "xen",
            "Virtualization": "hvm",
            "Placement": {"AvailabilityZone": spec.zone, "Tenancy": "default"},
            "Monitoring": {"State": "disabled"},
            "AmiLaunchIndex": spec.index,
            "UserData": spec.template.get("UserData", ""),
            "LaunchTime": ec2._now_ts(),
            "BlockDeviceMappings": [],
            "IamInstanceProfile": None,
            "ClientToken": spec.client_token,
            "MetadataOptions": {
                "State": "applied",
                "HttpTokens": options.get("HttpTokens", "optional"),
                "HttpPutResponseHopLimit": int(options.get("HttpPutResponseHopLimit") or 1),
                "HttpEndpoint": options.get("HttpEndpoint", "enabled"),
                "InstanceMetadataTags": options.get("InstanceMetadataTags", "disabled"),
            },
        }


_spot_requests: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}


def ec2_spot_requests() -> dict[str, dict[str, Any]]:
    """Return the Spot requests of the calling account and Region; the emulator knows none."""
    return _spot_requests.setdefault((get_account_id(), get_region()), {})


def _address(network: str, instance_id: str) -> str:
    """Return an address of the network, the same for the same instance."""
    addresses = ipaddress.ip_network(network)
    seed = int(hashlib.sha256(instance_id.encode()).hexdigest(), 16)
    return str(addresses[4 + seed % max(1, addresses.num_addresses - 5)])
