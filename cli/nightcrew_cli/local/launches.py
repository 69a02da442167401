"""CreateFleet (instant) and RunInstances: from request to instances, over capacity pools that may be dry.

AWS rules restored here: every override counts (type, subnet or zone, image, disks), one pool is tried after the other,
each failed pool is an entry of Errors[] in a successful answer, tags go to every resource of the call, and a
ClientToken makes the call repeatable.
"""

# ruff: noqa: SLF001 - the emulator has no public interface to its stores

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ministack.core.responses import get_account_id, get_region
from ministack.services import ec2

from nightcrew_cli.local import answers, images
from nightcrew_cli.local.answers import ApiError, Response
from nightcrew_cli.local.authorization import Launcher, authorize_launch, requested_tags
from nightcrew_cli.local.faults import Faults
from nightcrew_cli.local.instances import Instance, Instances
from nightcrew_cli.local.records import Ec2Records, LaunchSpec, Tags, is_true, new_id, set_tags
from nightcrew_cli.local.tokens import TokenLedger, TokenMismatchError

Parameters = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """One place an instance could come from: template and override merged."""

    template: dict[str, Any]
    reference: dict[str, str]
    override: dict[str, str]
    instance_type: str
    image: str
    subnet: str
    zone: str
    priority: float = 0.0


@dataclass(slots=True)
class FleetResult:
    launched: list[tuple[Pool, list[Instance]]] = field(default_factory=list)
    errors: list[tuple[Pool, str, str]] = field(default_factory=list)

    @property
    def instance_ids(self) -> list[str]:
        return [instance.instance_id for _, some in self.launched for instance in some]


@dataclass(frozen=True, slots=True, kw_only=True)
class Launches:
    instances: Instances
    records: Ec2Records
    faults: Faults
    ledger: TokenLedger

    def create_fleet(self, p: Parameters) -> Response:
        if ec2._p(p, "Type") != "instant":
            raise ApiError("InvalidParameterValue", "the local host knows fleets of type instant only")
        token = ec2._p(p, "ClientToken")
        key = (get_account_id(), get_region(), "CreateFleet", token)
        repeated = self._repeated(key, p) if token else None
        if repeated:
            return repeated
        pools, capacity_type, tags = _pools(p), _capacity_type(p), requested_tags(p)
        for template, reference in {id(pool.template): (pool.template, pool.reference) for pool in pools}.values():
            authorize_launch(Launcher("CreateFleet", template, reference, tags, [pool.subnet for pool in pools]))
        result = self._fill(p, pools, capacity_type, tags)
        response = self._fleet_answer(p, result, capacity_type, tags)
        if token:
            self.ledger.keep(key, p, answer=response[2], instance_ids=result.instance_ids)
        return response

    def run_instances(self, p: Parameters) -> Response:
        token = ec2._p(p, "ClientToken")
        zonal = ec2._p(p, "SubnetId") or ec2._p(p, "Placement.AvailabilityZone")
        key = (get_account_id(), get_region(), "RunInstances", zonal, token)
        if token and (known := self._known_launch(key, p)) is not None:
            return answers.run_instances(known)
        pool = _run_pool(p)
        if refusal := _refusal(pool):
            raise refusal
        market = ec2._p(p, "InstanceMarketOptions.MarketType")
        tags = _merged_tags(pool.template, requested_tags(p))
        authorize_launch(Launcher("RunInstances", pool.template, pool.reference, tags, [pool.subnet]))
        capacity_type = "spot" if market == "spot" else "on-demand"
        count = max(1, int(ec2._p(p, "MaxCount") or 1))
        started: list[Instance] = []
        for index in range(count):
            shortage = self.faults.dry_pool(pool.instance_type, pool.zone, capacity_type)
            if shortage and len(started) < int(ec2._p(p, "MinCount") or 1):
                raise ApiError(shortage.code, shortage.message, 500)
            if shortage:
                break
            started.append(self.records.create(_spec(pool, capacity_type, tags, token=token, index=index)))
        for instance in started:
            self.instances.launch(instance)
        if token:
            self.ledger.keep(key, p, answer=b"", instance_ids=[it.instance_id for it in started])
        return answers.run_instances(started)

    def _repeated(self, key: tuple[str, ...], p: Parameters) -> Response | None:
        try:
            entry = self.ledger.find(key, p)
        except TokenMismatchError as error:
            raise _mismatch(key[-1]) from error
        return answers.raw(entry.answer) if entry else None

    def _known_launch(self, key: tuple[str, ...], p: Parameters) -> list[Instance] | None:
        try:
            entry = self.ledger.find(key, p)
        except TokenMismatchError as error:
            raise _mismatch(key[-1]) from error
        if entry is None:
            return None
        known = [it for it in map(self.instances.find, entry.instance_ids) if it and it.state != "terminated"]
        if len(known) < len(entry.instance_ids):
            raise ApiError(
                "IdempotentInstanceTerminated",
                f"The client token {key[-1]} belongs to an instance that is terminated.",
            )
        return known

    def _fill(self, p: Parameters, pools: list[Pool], capacity_type: str, tags: dict[str, Tags]) -> FleetResult:
        result, left = FleetResult(), _total(p)
        token = ec2._p(p, "ClientToken")
        plan: list[tuple[Pool, int]] = []
        for pool in pools:
            refusal = _refusal(pool)
            if refusal:
                result.errors.append((pool, refusal.code, refusal.message))
                continue
            taken = 0
            while left:
                shortage = self.faults.dry_pool(pool.instance_type, pool.zone, capacity_type)
                if shortage:
                    result.errors.append((pool, shortage.code, shortage.message))
                    break
                taken, left = taken + 1, left - 1
            if taken:
                plan.append((pool, taken))
        if _total(p) - left < _least(p, capacity_type):
            text = "Unable to fulfill capacity due to your request configuration."
            result.errors += [(pool, "UnfulfillableCapacity", text) for pool, _ in plan]
            return result
        for pool, count in plan:
            merged = _merged_tags(pool.template, tags)
            some = [
                self.records.create(_spec(pool, capacity_type, merged, token=token, index=index))
                for index in range(count)
            ]
            result.launched.append((pool, some))
        return result

    def _fleet_answer(self, p: Parameters, result: FleetResult, capacity_type: str, tags: dict[str, Tags]) -> Response:
        fleet_id = new_id("fleet")
        for _, some in result.launched:
            for instance in some:
                self.records_tag_fleet(instance, fleet_id)
                self.instances.launch(instance)
        set_tags(fleet_id, tags.get("fleet", {}))
        ec2._fleets[fleet_id] = _fleet_record(p, fleet_id, result, capacity_type)
        return answers.create_fleet(
            fleet_id,
            [
                (pool.reference, pool.override, pool.instance_type, capacity_type, [it.instance_id for it in some])
                for pool, some in result.launched
            ],
            [(pool.reference, pool.override, capacity_type, code, text) for pool, code, text in result.errors],
        )

    @staticmethod
    def records_tag_fleet(instance: Instance, fleet_id: str) -> None:
        """AWS itself tags every instance of a fleet with the fleet's id."""
        ec2._tags.setdefault(instance.instance_id, []).append({"Key": "aws:ec2:fleet-id", "Value": fleet_id})


def _refusal(pool: Pool) -> ApiError | None:
    """Return why this pool can never give an instance, whatever its capacity."""
    if not pool.image:
        return ApiError("MissingParameter", "The request must contain the parameter ImageId")
    try:
        images.check(pool.image)
    except ApiError as error:
        return error
    text = images.mismatch(pool.image, pool.instance_type)
    return ApiError("InvalidParameterValue", text) if text else None


def _mismatch(token: str) -> ApiError:
    return ApiError(
        "IdempotentParameterMismatch",
        f"The client token {token} has been used with different parameters.",
    )


def _total(p: Parameters) -> int:
    prefix = "TargetCapacitySpecification."
    names = ("TotalTargetCapacity", "OnDemandTargetCapacity", "SpotTargetCapacity")
    return next((int(value) for name in names if (value := ec2._p(p, prefix + name))), 1)


def _least(p: Parameters, capacity_type: str) -> int:
    group = "SpotOptions" if capacity_type == "spot" else "OnDemandOptions"
    return int(ec2._p(p, f"{group}.MinTargetCapacity") or 0)


def _capacity_type(p: Parameters) -> str:
    chosen = str(ec2._p(p, "TargetCapacitySpecification.DefaultTargetCapacityType") or "on-demand")
    return "spot" if chosen == "spot" else "on-demand"


def _merged_tags(template: Mapping[str, Any], tags: dict[str, Tags]) -> dict[str, Tags]:
    """Return the template's tags with the request's on top."""
    merged: dict[str, Tags] = {}
    for spec in template.get("TagSpecifications") or []:
        kind = merged.setdefault(str(spec.get("ResourceType")), {})
        kind.update({tag["Key"]: str(tag.get("Value", "")) for tag in spec.get("Tags") or []})
    for name, values in tags.items():
        merged.setdefault(name, {}).update(values)
    return merged


def _pools(p: Parameters) -> list[Pool]:
    pools: list[Pool] = []
    number = 1
    while True:
        prefix = f"LaunchTemplateConfigs.{number}"
        reference = _reference(p, f"{prefix}.LaunchTemplateSpecification")
        if not any(reference.values()):
            break
        template, reference = _template(reference)
        overrides = _overrides(p, f"{prefix}.Overrides") or [({}, {})]
        pools += [_pool(template, reference, override, plain) for override, plain in overrides]
        number += 1
    if not pools:
        raise ApiError("MissingParameter", "The request must contain the parameter LaunchTemplateConfigs")
    options = "SpotOptions" if _capacity_type(p) == "spot" else "OnDemandOptions"
    if "prioritized" in str(ec2._p(p, f"{options}.AllocationStrategy")):
        pools.sort(key=lambda pool: pool.priority)
    return pools


def _overrides(p: Parameters, prefix: str) -> list[tuple[dict[str, Any], dict[str, str]]]:
    """Return each override twice: as template data to merge, and as plain fields to answer with."""
    found = []
    number = 1
    while any(name.startswith(f"{prefix}.{number}.") for name in p):
        here = f"{prefix}.{number}"
        data = ec2._parse_lt_data(p, here)
        names = ("InstanceType", "SubnetId", "AvailabilityZone", "ImageId", "Priority")
        plain = {name: str(value) for name in names if (value := ec2._p(p, f"{here}.{name}"))}
        found.append((data, plain))
        number += 1
    return found


def _reference(p: Parameters, prefix: str) -> dict[str, str]:
    names = ("LaunchTemplateId", "LaunchTemplateName", "Version")
    return {name: str(ec2._p(p, f"{prefix}.{name}") or "") for name in names}


def _template(reference: dict[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    data, record, error = ec2._resolve_launch_template_data(reference)
    if error:
        raise ApiError(
            "InvalidLaunchTemplateId.NotFound",
            f"The specified launch template {next(filter(None, reference.values()))} does not exist.",
        )
    versions = {str(version["VersionNumber"]) for version in (record or {}).get("Versions", [])}
    version = reference["Version"]
    if record and version and not version.startswith("$") and version not in versions:
        raise ApiError(
            "InvalidLaunchTemplateId.VersionNotFound",
            f"Could not find the specified version {version} for the launch template",
        )
    named = {**reference, "LaunchTemplateId": record["LaunchTemplateId"]} if record else reference
    return dict(data or {}), named


def _pool(template: dict[str, Any], reference: dict[str, str], override: dict[str, Any], plain: dict[str, str]) -> Pool:
    merged = {**template, **{name: value for name, value in override.items() if name != "NetworkInterfaces"}}
    interfaces = template.get("NetworkInterfaces") or [{}]
    subnet = plain.get("SubnetId") or str(interfaces[0].get("SubnetId") or "")
    subnet, zone = _place(subnet, plain.get("AvailabilityZone", ""))
    return Pool(
        template=merged,
        reference=reference,
        override=plain,
        instance_type=str(merged.get("InstanceType") or "m1.small"),
        image=images.resolved(str(merged.get("ImageId") or "")),
        subnet=subnet,
        zone=zone,
        priority=float(plain.get("Priority", 1e9)),
    )


def _place(subnet: str, zone: str) -> tuple[str, str]:
    """Return subnet and zone; either may be chosen by the other, or both by default."""
    if subnet:
        known = ec2._subnets.get(subnet)
        if not known:
            raise ApiError("InvalidSubnetID.NotFound", f"The subnet ID '{subnet}' does not exist")
        return subnet, str(known["AvailabilityZone"])
    defaults = [it for it in ec2._subnets.values() if is_true(it.get("DefaultForAz"), default=False)]
    for candidate in defaults:
        if zone in ("", candidate["AvailabilityZone"]):
            return str(candidate["SubnetId"]), str(candidate["AvailabilityZone"])
    raise ApiError("InvalidParameterValue", f"no default subnet in the Availability Zone '{zone}'")


def _run_pool(p: Parameters) -> Pool:
    reference = _reference(p, "LaunchTemplate")
    template, reference = _template(reference) if any(reference.values()) else ({}, reference)
    direct = ec2._parse_lt_data({f".{name}": value for name, value in p.items()}, "")
    plain = {"SubnetId": str(ec2._p(p, "SubnetId") or (direct.get("NetworkInterfaces") or [{}])[0].get("SubnetId", ""))}
    plain["AvailabilityZone"] = str(ec2._p(p, "Placement.AvailabilityZone") or "")
    merged = {**template, **direct}
    return _pool(merged, reference, {}, plain)


def _spec(pool: Pool, capacity_type: str, tags: Mapping[str, Tags], *, token: str, index: int) -> LaunchSpec:
    return LaunchSpec(
        template=pool.template,
        instance_type=pool.instance_type,
        image=pool.image,
        subnet=pool.subnet,
        zone=pool.zone,
        capacity_type=capacity_type,
        tags=tags,
        client_token=token,
        index=index,
    )


def _fleet_record(p: Parameters, fleet_id: str, result: FleetResult, capacity_type: str) -> dict[str, Any]:
    total, got = _total(p), float(len(result.instance_ids))
    spot = capacity_type == "spot"
    return {
        "FleetId": fleet_id,
        "FleetState": "active",
        "ActivityStatus": "fulfilled",
        "CreateTime": ec2._now_ts(),
        "Type": "instant",
        "FulfilledCapacity": got,
        "FulfilledOnDemandCapacity": 0.0 if spot else got,
        "TargetCapacitySpecification": {
            "TotalTargetCapacity": total,
            "OnDemandTargetCapacity": 0 if spot else total,
            "SpotTargetCapacity": total if spot else 0,
            "DefaultTargetCapacityType": capacity_type,
        },
        "Instances": [
            {
                "InstanceIds": [instance.instance_id for instance in some],
                "InstanceType": pool.instance_type,
                "Lifecycle": capacity_type,
                "LaunchTemplateSpec": pool.reference,
            }
            for pool, some in result.launched
        ],
    }
