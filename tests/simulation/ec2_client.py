"""The EC2 client: the calls that our adapters make, with the rules and refusals of the real API."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from tests.simulation.calls import Client, client_error
from tests.simulation.ec2 import GONE, Ec2, Instance, Thing, Throttle, describe_instance, matches
from tests.simulation.kernel import at

if TYPE_CHECKING:
    from tests.simulation.world import World

T = TypeVar("T")
ZONES = {"subnet-a": "eu-west-1a", "subnet-b": "eu-west-1b", "subnet-c": "eu-west-1c"}
IMAGE = "ami-12345678"
DRY = ("InsufficientInstanceCapacity", "UnfulfillableCapacity", "InsufficientFreeAddressesInSubnet")


@dataclass(eq=False)
class Account:
    """What one account and Region remembers besides its instances: tokens, buckets, capacity.

    `zero_keeps_token` and `dead_token` are what the documentation leaves open; each seed chooses.
    """

    ec2: Ec2
    throttle: Throttle = field(default_factory=Throttle)
    tokens: dict[str, tuple[str, dict[str, Any], list[str]]] = field(default_factory=dict)
    is_dry: Callable[[str, str, str], bool] = lambda instance_type, zone, capacity_type: False
    ours: str = "nightcrew"
    zero_keeps_token: bool = True
    dead_token: str = "IdempotentInstanceTerminated"
    unknown_is_denied: bool = True
    page_size: int = 1000
    asked_to_end: Callable[[str, list[str]], None] = lambda operation, ids: None
    asked_to_launch: Callable[[dict[str, Any]], None] = lambda request: None
    repeated: Callable[[dict[str, Any], list[str], bool], None] = lambda request, ids, same: None


class Ec2Client(Client):
    service = "ec2"

    def __init__(self, world: World, account: Account, attempts: int = 4, timeout: float = 15.0) -> None:
        super().__init__(world, attempts, timeout)
        self._account, self._ec2 = account, account.ec2

    def _api(self, operation: str, act: Callable[[], T], *, writes: bool = False, resources: int = 0) -> T:
        def admitted() -> T:
            if not self._account.throttle.admits(operation, self._ec2.kernel.now, resources):
                self._disturbed("throttled_by_neighbours")
                raise client_error("RequestLimitExceeded", "Request limit exceeded.", operation, 503)
            return act()

        return self._call(operation, admitted, writes=writes)

    # ---- Reading ---------------------------------------------------------------------------------------------

    def get_paginator(self, name: str) -> _Paginator:
        pages = {
            "describe_instances": self._instances,
            "describe_volumes": lambda request: self._things("vol", request),
            "describe_network_interfaces": lambda request: self._things("eni", request),
            "describe_subnets": self._subnets,
        }
        return _Paginator(self, name, pages[name])

    def _moment(self) -> float:
        """When the answer was true: EC2 is eventually consistent."""
        dice = self._world.dice
        lag = dice.between(1, 60, "lag") if self._fault("stale_read") else dice.between(0, 1, "lag")
        return self._ec2.kernel.now - (lag if self._ec2.kernel.current() else 0)

    def _instances(self, request: dict[str, Any]) -> tuple[str, list[Any]]:
        moment = self._moment()
        found = [
            describe_instance(instance, state, moment)
            for instance, state in self._ec2.seen(moment)
            if matches(instance, state, moment, request["Filters"])
        ]
        return "Reservations", [{"Instances": [instance]} for instance in found]

    def _things(self, prefix: str, request: dict[str, Any]) -> tuple[str, list[Any]]:
        wanted = {one["Name"]: one["Values"] for one in request["Filters"]}
        tag = next(name for name in wanted if name.startswith("tag:"))
        found = [
            thing
            for thing in self._ec2.things.values()
            if thing.thing_id.startswith(prefix)
            and thing.tags.get(tag[4:]) in wanted[tag]
            and ("available" if thing.attached_to is None else "in-use") in wanted["status"]
        ]
        if prefix == "vol":
            return "Volumes", [{"VolumeId": it.thing_id, "CreateTime": at(it.created)} for it in found]
        return "NetworkInterfaces", [{"NetworkInterfaceId": it.thing_id} for it in found]

    def _subnets(self, request: dict[str, Any]) -> tuple[str, list[Any]]:
        ids = request.get("SubnetIds") or ["subnet-a", "subnet-b"]
        for subnet in ids:
            if subnet not in ZONES:
                raise client_error("InvalidSubnetID.NotFound", f"The subnet ID '{subnet}' does not exist", "D")
        return "Subnets", [{"SubnetId": subnet, "AvailabilityZone": ZONES[subnet]} for subnet in ids]

    def describe_images(self, ImageIds: list[str]) -> dict[str, Any]:  # noqa: N803 - boto3's own names
        def act() -> dict[str, Any]:
            return {"Images": [{"ImageId": it, "RootDeviceName": "/dev/xvda"} for it in ImageIds if it == IMAGE]}

        return self._api("DescribeImages", act)

    # ---- Ending ----------------------------------------------------------------------------------------------

    def terminate_instances(self, InstanceIds: list[str]) -> dict[str, Any]:  # noqa: N803
        return self._api(
            "TerminateInstances", lambda: self._terminate(InstanceIds), writes=True, resources=len(InstanceIds)
        )

    def _terminate(self, ids: list[str]) -> dict[str, Any]:
        chosen = self._chosen("TerminateInstances", ids)
        blocked = {it.zone for it in chosen if it.protected and it.state not in GONE}
        changes = []
        for instance in chosen:
            # Protection of one keeps every instance of the call in its zone; the other zones are carried out.
            if instance.zone not in blocked:
                before = instance.state
                self._ec2.terminate(instance)
                changes.append(_change(instance, before))
        if blocked:
            text = "The instance may not be terminated. Modify its 'disableApiTermination' attribute and try again."
            raise client_error("OperationNotPermitted", text, "TerminateInstances")
        return {"TerminatingInstances": changes}

    def stop_instances(self, InstanceIds: list[str]) -> dict[str, Any]:  # noqa: N803
        return self._api("StopInstances", lambda: self._stop(InstanceIds), writes=True, resources=len(InstanceIds))

    def _stop(self, ids: list[str]) -> dict[str, Any]:
        chosen = self._chosen("StopInstances", ids)
        for instance in chosen:
            if instance.capacity_type == "spot":
                raise client_error("UnsupportedOperation", "You can't stop the Spot Instance", "StopInstances")
            if instance.state not in {"running", "stopping", "stopped"}:
                text = f"The instance '{instance.instance_id}' is not in a state from which it can be stopped."
                raise client_error("IncorrectInstanceState", text, "StopInstances")
        changes = []
        for instance in chosen:
            before = instance.state
            self._ec2.stop(instance)
            changes.append(_change(instance, before))
        return {"StoppingInstances": changes}

    def _chosen(self, operation: str, ids: list[str]) -> list[Instance]:
        """Return the instances; one that is unknown, or not tagged as ours any more, fails the whole call."""
        self._account.asked_to_end(operation, ids)
        by_us = self._ec2.kernel.current() is not None
        unknown = []
        for instance_id in ids:
            instance = self._ec2.instances.get(instance_id)
            if instance is None or (instance.launched > self._ec2.kernel.now - 20 and self._fault("unseen")):
                unknown.append(instance_id)
            elif by_us and instance.tags_at(self._ec2.kernel.now).get("nightcrew:stack") != self._account.ours:
                raise client_error("UnauthorizedOperation", "not authorized to perform this", operation, 403)
        if unknown:
            if by_us and self._account.unknown_is_denied and unknown[0] not in self._ec2.instances:
                raise client_error("UnauthorizedOperation", "not authorized to perform this", operation, 403)
            raise client_error(
                "InvalidInstanceID.NotFound", f"The instance ID '{unknown[0]}' does not exist", operation
            )
        return [self._ec2.instances[instance_id] for instance_id in ids]

    def delete_volume(self, VolumeId: str) -> None:  # noqa: N803
        self._api("DeleteVolume", lambda: self._delete(VolumeId, "DeleteVolume"), writes=True)

    def delete_network_interface(self, NetworkInterfaceId: str) -> None:  # noqa: N803
        self._api(
            "DeleteNetworkInterface", lambda: self._delete(NetworkInterfaceId, "DeleteNetworkInterface"), writes=True
        )

    def _delete(self, thing_id: str, operation: str) -> None:
        self._account.asked_to_end(operation, [thing_id])
        thing: Thing | None = self._ec2.things.get(thing_id)
        if thing is None:
            code = "InvalidVolume.NotFound" if thing_id.startswith("vol") else "InvalidNetworkInterfaceID.NotFound"
            raise client_error(code, f"'{thing_id}' does not exist", operation)
        if self._ec2.kernel.current() and thing.tags.get("nightcrew:stack") != self._account.ours:
            raise client_error("UnauthorizedOperation", "not authorized to perform this", operation, 403)
        if thing.attached_to is not None:
            raise client_error("VolumeInUse", f"'{thing_id}' is in use", operation)
        del self._ec2.things[thing_id]

    # ---- Launching -------------------------------------------------------------------------------------------

    def create_fleet(self, **request: Any) -> dict[str, Any]:
        count = request["TargetCapacitySpecification"]["TotalTargetCapacity"]
        if self._ec2.kernel.current():
            self._account.asked_to_launch(request)
        return self._api("CreateFleet", lambda: self._create_fleet(request), writes=True, resources=count)

    def _create_fleet(self, request: dict[str, Any]) -> dict[str, Any]:
        token = request["ClientToken"]
        asked = json.dumps({**request, "ClientToken": ""}, sort_keys=True)
        known = self._account.tokens.get(token)
        if known is not None:
            self._account.repeated(request, known[2], known[0] == asked)
            return self._repeated(known, asked)
        answer = self._fleet(request)
        ids = [i for launched in answer["Instances"] for i in launched["InstanceIds"]]
        if ids or self._account.zero_keeps_token:
            self._account.tokens[token] = (asked, answer, ids)
        return answer

    def _repeated(self, known: tuple[str, dict[str, Any], list[str]], asked: str) -> dict[str, Any]:
        first, answer, ids = known
        if first != asked:
            text = "The client token has been used with different parameters."
            raise client_error("IdempotentParameterMismatch", text, "CreateFleet")
        dead = [i for i in ids if i not in self._ec2.instances or self._ec2.instances[i].state == "terminated"]
        if dead and self._account.dead_token:
            raise client_error(self._account.dead_token, "The instance of this token is terminated.", "CreateFleet")
        return answer

    def _fleet(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._fault("call_without_capacity"):
            raise client_error("InsufficientInstanceCapacity", "There is no capacity.", "CreateFleet", 500)
        if self._fault("quota"):
            raise client_error("VcpuLimitExceeded", "You have requested more vCPU capacity than allowed", "CreateFleet")
        wanted = request["TargetCapacitySpecification"]
        capacity_type = wanted["DefaultTargetCapacityType"]
        tags = {item["Key"]: item["Value"] for item in request["TagSpecifications"][0]["Tags"]}
        errors: list[Any] = []
        launched: list[Any] = []
        for override in request["LaunchTemplateConfigs"][0]["Overrides"]:
            place = {"Overrides": {"InstanceType": override["InstanceType"], "SubnetId": override["SubnetId"]}}
            refused = self._refusal(override, capacity_type)
            if refused:
                error = {"LaunchTemplateAndOverrides": place, "Lifecycle": capacity_type}
                errors.append({**error, "ErrorCode": refused, "ErrorMessage": f"{refused} here"})
            elif not launched:
                instance = self._ec2.launch(
                    instance_type=override["InstanceType"],
                    zone=ZONES[override["SubnetId"]],
                    subnet=override["SubnetId"],
                    capacity_type=capacity_type,
                    tags=tags,
                    token=request["ClientToken"],
                    image=override["ImageId"],
                )
                launched.append(
                    {
                        "LaunchTemplateAndOverrides": place,
                        "Lifecycle": capacity_type,
                        "InstanceIds": [instance.instance_id],
                        "InstanceType": instance.instance_type,
                    }
                )
        if not launched and self._fault("silent_zero"):
            errors = []
        return {"FleetId": self._ec2.new_id("fleet"), "Instances": launched, "Errors": errors}

    def _refusal(self, override: dict[str, Any], capacity_type: str) -> str:
        """Return the code with which this pool gives nothing; empty when it gives."""
        if self._fault("throttled_pool"):
            return "RequestLimitExceeded"
        if self._account.is_dry(override["InstanceType"], ZONES[override["SubnetId"]], capacity_type):
            return self._world.dice.choice(DRY, "dry_code")
        return ""


class _Paginator:
    def __init__(self, client: Ec2Client, name: str, find: Callable[[dict[str, Any]], tuple[str, list[Any]]]) -> None:
        self._client, self._name, self._find = client, name, find

    def paginate(self, **request: Any) -> Iterator[dict[str, Any]]:
        """Every page is a call of its own, and sees the world as it is then."""
        last, size = "", self._client._account.page_size
        while True:
            kind, found = self._client._api(self._name, lambda: self._find(request))
            rest = [item for item in found if _id_of(item) > last]
            yield {kind: rest[:size]}
            if len(rest) <= size:
                return
            last = _id_of(rest[size - 1])


def _id_of(item: dict[str, Any]) -> str:
    if "Instances" in item:
        item = item["Instances"][0]
    return str(next(iter(item.values())))


def _change(instance: Instance, before: str) -> dict[str, Any]:
    return {
        "InstanceId": instance.instance_id,
        "PreviousState": {"Name": before},
        "CurrentState": {"Name": instance.state},
    }
