"""The EC2 calls that the host answers in place of the emulator."""

# ruff: noqa: SLF001 - the emulator has no public interface to its stores

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ministack.services import ec2

from nightcrew_cli.local import answers, clock, images
from nightcrew_cli.local.answers import ApiError, Response
from nightcrew_cli.local.authorization import authorize_named
from nightcrew_cli.local.instances import ENDED, Instance, Instances
from nightcrew_cli.local.launches import Launches
from nightcrew_cli.local.records import ec2_spot_requests

Parameters = Mapping[str, Any]
Handler = Callable[[Parameters], Response]
DRY_RUN = ApiError("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)
INSTANCE_ID = re.compile(r"i-(?:[0-9a-f]{8}|[0-9a-f]{17})")


class Consoles(Protocol):
    def console(self, instance_id: str) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ec2Api:
    instances: Instances
    launches: Launches
    consoles: Consoles

    def handlers(self) -> dict[str, Handler]:
        """Return the calls by name, ready for the emulator's own table."""
        calls: dict[str, Handler] = {
            "RunInstances": self.launches.run_instances,
            "CreateFleet": self.launches.create_fleet,
            "DescribeImages": images.describe_images,
            "DescribeInstances": self.describe_instances,
            "TerminateInstances": self.terminate_instances,
            "StopInstances": self.stop_instances,
            "StartInstances": self.start_instances,
            "RebootInstances": self.reboot_instances,
            "GetConsoleOutput": self.get_console_output,
            "DescribeInstanceAttribute": self.describe_instance_attribute,
            "ModifyInstanceAttribute": self.modify_instance_attribute,
            "DescribeNetworkInterfaces": self.describe_network_interfaces,
            "DeleteNetworkInterface": self.delete_network_interface,
            "DescribeSpotInstanceRequests": self.describe_spot_requests,
            "CancelSpotInstanceRequests": self.cancel_spot_requests,
            "DeleteFleets": self.delete_fleets,
        }
        guarded = {name: _guarded(name, handler) for name, handler in calls.items()}
        for name in ("CreateTags", "DeleteTags"):
            guarded[name] = _guarded(name, ec2._ACTION_MAP[name])
        return guarded

    def describe_instances(self, p: Parameters) -> Response:
        ids, filters = ec2._parse_member_list(p, "InstanceId"), ec2._parse_filters(p)
        size = int(ec2._p(p, "MaxResults") or 0)
        if ids and size:
            raise ApiError("InvalidParameterCombination", "The parameter instancesSet cannot be used with maxResults")
        for instance_id in ids:
            _check_id(instance_id)
        found = [
            (record, self.instances.find(instance_id))
            for instance_id, record in list(ec2._instances.items())
            if (not ids or instance_id in ids) and _matches(record, self.instances.find(instance_id), filters)
        ]
        start = int(ec2._p(p, "NextToken") or 0)
        end = start + size if size else len(found)
        return answers.reservations(found[start:end], str(end) if end < len(found) else "")

    def terminate_instances(self, p: Parameters) -> Response:
        chosen = self._chosen(p)
        for instance in chosen:
            if instance.termination_protected and instance.state not in ENDED:
                raise ApiError(
                    "OperationNotPermitted",
                    f"The instance '{instance.instance_id}' may not be terminated. Modify its "
                    "'disableApiTermination' instance attribute and try again.",
                )
        return self._change("TerminateInstances", chosen, self.instances.terminate)

    def stop_instances(self, p: Parameters) -> Response:
        chosen = self._chosen(p)
        for instance in chosen:
            _refuse(instance, {"running", "stopping", "stopped"}, "stopped")
            if instance.is_spot:
                raise ApiError(
                    "UnsupportedOperation",
                    f"You can't stop the Spot Instance '{instance.instance_id}' because it is associated with a "
                    "one-time Spot Instance request. You can only stop Spot Instances associated with persistent "
                    "Spot Instance requests.",
                )
        return self._change("StopInstances", chosen, self.instances.stop)

    def start_instances(self, p: Parameters) -> Response:
        chosen = self._chosen(p)
        for instance in chosen:
            _refuse(instance, {"stopped", "pending", "running"}, "started")
        return self._change("StartInstances", chosen, self.instances.start)

    def reboot_instances(self, p: Parameters) -> Response:
        self._chosen(p)
        return answers.xml("RebootInstances", "<return>true</return>")

    def get_console_output(self, p: Parameters) -> Response:
        instance = self._one(p)
        text = base64.b64encode(self.consoles.console(instance.instance_id).encode()).decode()
        return answers.xml(
            "GetConsoleOutput",
            f"<instanceId>{instance.instance_id}</instanceId><timestamp>{clock.stamp(clock.now())}</timestamp>"
            f"<output>{text}</output>",
        )

    def describe_instance_attribute(self, p: Parameters) -> Response:
        instance, name = self._one(p), ec2._p(p, "Attribute")
        values = {
            "instanceInitiatedShutdownBehavior": instance.shutdown_behavior,
            "disableApiTermination": str(instance.termination_protected).lower(),
            "userData": instance.record.get("UserData", ""),
        }
        if name not in values:
            answer: Response = ec2._describe_instance_attribute(p)
            return answer
        return answers.xml(
            "DescribeInstanceAttribute",
            f"<instanceId>{instance.instance_id}</instanceId><{name}>{answers.element('value', values[name])}</{name}>",
        )

    def modify_instance_attribute(self, p: Parameters) -> Response:
        instance = self._one(p)
        protection = ec2._p(p, "DisableApiTermination.Value")
        behavior = ec2._p(p, "InstanceInitiatedShutdownBehavior.Value")
        if protection:
            instance.termination_protected = protection.lower() == "true"
        if behavior:
            instance.shutdown_behavior = behavior
        return answers.xml("ModifyInstanceAttribute", "<return>true</return>")

    def describe_network_interfaces(self, p: Parameters) -> Response:
        ids, filters = ec2._parse_member_list(p, "NetworkInterfaceId"), ec2._parse_filters(p)
        known = dict(ec2._network_interfaces.items())
        for missing in (it for it in ids if it not in known):
            raise ApiError("InvalidNetworkInterfaceID.NotFound", f"The networkInterface ID '{missing}' does not exist")
        items = "".join(
            answers.interface(record)
            for interface_id, record in known.items()
            if (not ids or interface_id in ids) and _filtered(filters, interface_id, _interface_fields(record))
        )
        return answers.xml("DescribeNetworkInterfaces", f"<networkInterfaceSet>{items}</networkInterfaceSet>")

    def delete_network_interface(self, p: Parameters) -> Response:
        interface_id = ec2._p(p, "NetworkInterfaceId")
        record = ec2._network_interfaces.get(interface_id) or {}
        if record.get("Attachment"):
            raise ApiError("InvalidNetworkInterface.InUse", f"Network interface '{interface_id}' is currently in use.")
        answer: Response = ec2._delete_network_interface(p)
        return answer

    def describe_spot_requests(self, p: Parameters) -> Response:
        ids, filters = ec2._parse_member_list(p, "SpotInstanceRequestId"), ec2._parse_filters(p)
        items = "".join(
            f"<item>{answers.element('spotInstanceRequestId', request_id)}{answers.element('state', it['State'])}"
            f"{answers.element('instanceId', it['InstanceId'])}{answers.element('createTime', it['CreateTime'])}"
            f"<type>one-time</type><status>{answers.element('code', it['StatusCode'])}</status>"
            f"{answers.tag_set(request_id)}</item>"
            for request_id, it in ec2_spot_requests().items()
            if (not ids or request_id in ids)
            and _filtered(filters, request_id, {"state": it["State"], "instance-id": it["InstanceId"]})
        )
        return answers.xml("DescribeSpotInstanceRequests", f"<spotInstanceRequestSet>{items}</spotInstanceRequestSet>")

    def cancel_spot_requests(self, p: Parameters) -> Response:
        items = ""
        for request_id in ec2._parse_member_list(p, "SpotInstanceRequestId"):
            request = ec2_spot_requests().get(request_id)
            if request is None:
                raise ApiError("InvalidSpotInstanceRequestID.NotFound", f"The request ID '{request_id}' does not exist")
            request["State"], request["StatusCode"] = "cancelled", "request-canceled-and-instance-running"
            items += f"<item><spotInstanceRequestId>{request_id}</spotInstanceRequestId><state>cancelled</state></item>"
        return answers.xml("CancelSpotInstanceRequests", f"<spotInstanceRequestSet>{items}</spotInstanceRequestSet>")

    def delete_fleets(self, p: Parameters) -> Response:
        items = ""
        for fleet_id in ec2._parse_member_list(p, "FleetId"):
            record = ec2._fleets.get(fleet_id)
            if record is None:
                raise ApiError("InvalidFleetId.NotFound", f"The fleet ID '{fleet_id}' does not exist")
            # Deleting an instant fleet always terminates its instances.
            for instance_id in [it for part in record["Instances"] for it in part["InstanceIds"]]:
                if instance := self.instances.find(instance_id):
                    self.instances.terminate(instance)
            record["FleetState"] = "deleted_terminating"
            items += (
                f"<item><fleetId>{fleet_id}</fleetId><currentFleetState>deleted_terminating</currentFleetState>"
                "<previousFleetState>active</previousFleetState></item>"
            )
        return answers.xml("DeleteFleets", f"<successfulFleetDeletionSet>{items}</successfulFleetDeletionSet>")

    def _chosen(self, p: Parameters) -> list[Instance]:
        """Return the instances the call names; one bad id fails the whole call, as on AWS."""
        ids = ec2._parse_member_list(p, "InstanceId")
        for instance_id in ids:
            _check_id(instance_id)
        return [instance for instance in map(self.instances.find, dict.fromkeys(ids)) if instance]

    def _one(self, p: Parameters) -> Instance:
        instance_id = str(ec2._p(p, "InstanceId"))
        _check_id(instance_id)
        instance = self.instances.find(instance_id)
        if instance is None:
            raise _not_found(instance_id)
        return instance

    @staticmethod
    def _change(action: str, chosen: list[Instance], change: Callable[[Instance], None]) -> Response:
        changes = []
        for instance in chosen:
            before = instance.state
            change(instance)
            changes.append((instance, before))
        return answers.state_changes(action, changes)


def _guarded(name: str, handler: Handler) -> Handler:
    """Ask IAM about everything the call names, honour DryRun, and turn our errors into answers."""

    def guarded(p: Parameters) -> Response:
        try:
            authorize_named(name, p)
            if str(ec2._p(p, "DryRun")).lower() == "true":
                return DRY_RUN.answer()
            return handler(p)
        except ApiError as error:
            return error.answer()

    return guarded


def _check_id(instance_id: str) -> None:
    if not INSTANCE_ID.fullmatch(instance_id):
        raise ApiError("InvalidInstanceID.Malformed", f'Invalid id: "{instance_id}"')
    if instance_id not in ec2._instances:
        raise _not_found(instance_id)


def _not_found(instance_id: str) -> ApiError:
    return ApiError("InvalidInstanceID.NotFound", f"The instance ID '{instance_id}' does not exist")


def _refuse(instance: Instance, allowed: set[str], participle: str) -> None:
    if instance.state not in allowed:
        raise ApiError(
            "IncorrectInstanceState",
            f"This instance '{instance.instance_id}' is not in a state from which it can be {participle}.",
        )


def _matches(record: Mapping[str, Any], known: Instance | None, filters: Mapping[str, list[str]]) -> bool:
    fields = {
        "instance-state-name": record["State"]["Name"],
        "instance-state-code": str(record["State"]["Code"]),
        "instance-id": record["InstanceId"],
        "instance-type": record["InstanceType"],
        "image-id": record["ImageId"],
        "availability-zone": record["Placement"]["AvailabilityZone"],
        "subnet-id": record.get("SubnetId", ""),
        "vpc-id": record.get("VpcId", ""),
        "client-token": record.get("ClientToken", ""),
        "private-ip-address": record.get("PrivateIpAddress", ""),
        "ip-address": record.get("PublicIpAddress", ""),
        "architecture": record["Architecture"],
        "key-name": record.get("KeyName", ""),
        "instance-lifecycle": "spot" if known and known.is_spot else "",
        "spot-instance-request-id": record.get("SpotInstanceRequestId", ""),
        "iam-instance-profile.arn": (record.get("IamInstanceProfile") or {}).get("Arn", ""),
        "state-reason-code": known.reason.code if known and known.reason else "",
    }
    return _filtered(filters, str(record["InstanceId"]), fields)


def _interface_fields(record: Mapping[str, Any]) -> dict[str, str]:
    attachment = record.get("Attachment") or {}
    return {
        "network-interface-id": record["NetworkInterfaceId"],
        "status": record["Status"],
        "subnet-id": record["SubnetId"],
        "vpc-id": record["VpcId"],
        "availability-zone": record["AvailabilityZone"],
        "attachment.instance-id": attachment.get("InstanceId", ""),
        "attachment.status": attachment.get("Status", ""),
        "description": record.get("Description", ""),
    }


def _filtered(filters: Mapping[str, list[str]], resource_id: str, fields: Mapping[str, str]) -> bool:
    """Apply filters; an unknown one is an error on AWS, and quietly everything in the emulator."""
    for name, values in filters.items():
        if name.startswith("tag:") or name in ("tag-key", "tag-value"):
            continue
        if name not in fields:
            raise ApiError("InvalidParameterValue", f"The filter '{name}' is invalid")
        if not any(ec2._glob_match(value, fields[name]) for value in values):
            return False
    return bool(ec2._resource_matches_tag_filters(resource_id, filters))
