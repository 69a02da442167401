"""What a launch request asks for: pools to try, capacity, tags. Template and overrides merged, places resolved."""

# ruff: noqa: SLF001 - the emulator has no public interface to its stores

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ministack.services import ec2

from nightcrew_cli.local import images
from nightcrew_cli.local.answers import ApiError
from nightcrew_cli.local.records import Tags, is_true

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


def refusal(pool: Pool) -> ApiError | None:
    """Return why this pool can never give an instance, whatever its capacity."""
    if not pool.image:
        return ApiError("MissingParameter", "The request must contain the parameter ImageId")
    try:
        images.check(pool.image)
    except ApiError as error:
        return error
    text = images.mismatch(pool.image, pool.instance_type)
    return ApiError("InvalidParameterValue", text) if text else None


def total(p: Parameters) -> int:
    prefix = "TargetCapacitySpecification."
    names = ("TotalTargetCapacity", "OnDemandTargetCapacity", "SpotTargetCapacity")
    return next((int(value) for name in names if (value := ec2._p(p, prefix + name))), 1)


def least(p: Parameters, capacity_type: str) -> int:
    group = "SpotOptions" if capacity_type == "spot" else "OnDemandOptions"
    return int(ec2._p(p, f"{group}.MinTargetCapacity") or 0)


def capacity_type_of(p: Parameters) -> str:
    chosen = str(ec2._p(p, "TargetCapacitySpecification.DefaultTargetCapacityType") or "on-demand")
    return "spot" if chosen == "spot" else "on-demand"


def merged_tags(template: Mapping[str, Any], tags: dict[str, Tags]) -> dict[str, Tags]:
    """Return the template's tags with the request's on top."""
    merged: dict[str, Tags] = {}
    for spec in template.get("TagSpecifications") or []:
        kind = merged.setdefault(str(spec.get("ResourceType")), {})
        kind.update({tag["Key"]: str(tag.get("Value", "")) for tag in spec.get("Tags") or []})
    for name, values in tags.items():
        merged.setdefault(name, {}).update(values)
    return merged


def pools_of(p: Parameters) -> list[Pool]:
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
    options = "SpotOptions" if capacity_type_of(p) == "spot" else "OnDemandOptions"
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


def pool_to_run(p: Parameters) -> Pool:
    reference = _reference(p, "LaunchTemplate")
    template, reference = _template(reference) if any(reference.values()) else ({}, reference)
    direct = ec2._parse_lt_data({f".{name}": value for name, value in p.items()}, "")
    plain = {"SubnetId": str(ec2._p(p, "SubnetId") or (direct.get("NetworkInterfaces") or [{}])[0].get("SubnetId", ""))}
    plain["AvailabilityZone"] = str(ec2._p(p, "Placement.AvailabilityZone") or "")
    merged = {**template, **direct}
    return _pool(merged, reference, {}, plain)
