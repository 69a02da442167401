"""The launch: one CreateFleet call of type instant, and what its answer means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError, ParamValidationError

from nightcrew.adapters import aws_errors
from nightcrew.domain.job import CapacityType
from nightcrew.domain.plan import LaunchRequest, Pool, Refusal, RefusalKind
from nightcrew.domain.result import one_line
from nightcrew.domain.run import Worker
from nightcrew.usecases.errors import AmbiguousLaunchError
from nightcrew.usecases.ports import LaunchRefused

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

_TAGGED = ("instance", "volume", "network-interface", "fleet")


@dataclass(frozen=True, slots=True)
class Ec2Fleet:
    """`client` must make exactly one attempt: repeating a launch is decided by the run, not by the SDK."""

    client: EC2Client

    def launch(self, request: LaunchRequest) -> Worker | LaunchRefused:
        try:
            answer: Any = self.client.create_fleet(**create_fleet_request(request))
        except ParamValidationError as error:
            # Never sent: the job holds something that EC2's own model refuses.
            return LaunchRefused(
                RefusalKind.CONFIGURATION, (Refusal("all pools", "ParamValidation", str(error)[:300]),)
            )
        except aws_errors.FAILURES as error:
            return _refused_call(request, error)
        for launched in answer.get("Instances", []):
            for instance_id in launched.get("InstanceIds", []):
                return _worker(request, launched, instance_id)
        return _refused_pools(answer.get("Errors", []))


def create_fleet_request(request: LaunchRequest) -> dict[str, Any]:
    """Return the parameters of the call, the same for the same request; `nightcrew plan` shows them."""
    overrides = [_override(request, pool) for pool in request.step.pools]
    spot = request.step.capacity_type is CapacityType.SPOT
    options: dict[str, Any] = (
        {"SpotOptions": {"AllocationStrategy": "price-capacity-optimized"}}
        if spot
        else {"OnDemandOptions": {"AllocationStrategy": "lowest-price"}}
    )
    tags = [{"Key": key, "Value": value} for key, value in request.tags]
    return {
        "Type": "instant",
        "ClientToken": request.client_token,
        "LaunchTemplateConfigs": [
            {
                "LaunchTemplateSpecification": {
                    "LaunchTemplateId": request.template.template_id,
                    "Version": request.template.version,
                },
                "Overrides": overrides,
            }
        ],
        "TargetCapacitySpecification": {
            "TotalTargetCapacity": request.count,
            "DefaultTargetCapacityType": "spot" if spot else "on-demand",
        },
        **options,
        "TagSpecifications": [{"ResourceType": kind, "Tags": tags} for kind in _TAGGED],
    }


def _override(request: LaunchRequest, pool: Pool) -> dict[str, Any]:
    # The disk is named here and not in the launch template, because its device name is the image's.
    disk: dict[str, Any] = {"VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True}
    if request.disk_gib is not None:
        disk["VolumeSize"] = request.disk_gib
    return {
        "InstanceType": pool.instance_type,
        "SubnetId": pool.subnet_id,
        "ImageId": request.image.image_id,
        "BlockDeviceMappings": [{"DeviceName": request.image.root_device, "Ebs": disk}],
    }


def _worker(request: LaunchRequest, launched: Any, instance_id: str) -> Worker:
    overrides = launched.get("LaunchTemplateAndOverrides", {}).get("Overrides", {})
    subnet_id = overrides.get("SubnetId", "")
    zone = next((pool.zone for pool in request.step.pools if pool.subnet_id == subnet_id), "")
    return Worker(
        instance_id=instance_id,
        instance_type=launched.get("InstanceType") or overrides.get("InstanceType", ""),
        capacity_type=request.step.capacity_type.value,
        zone=overrides.get("AvailabilityZone") or zone,
    )


def _refused_call(request: LaunchRequest, error: aws_errors.Failure) -> LaunchRefused:
    if not isinstance(error, ClientError) or aws_errors.is_ambiguous(error):
        raise AmbiguousLaunchError(
            f"launch {request.launch}: {aws_errors.message_of(error)}; it may have succeeded and is repeated as it is"
        ) from error
    code = aws_errors.code_of(error)
    said = one_line(error.response.get("Error", {}).get("Message", ""))
    return LaunchRefused(aws_errors.refusal_kind(code), (Refusal("all pools", code, said),))


def _refused_pools(errors: list[Any]) -> LaunchRefused:
    """No instance, and a reason for each pool: the launch is only as hopeless as its most hopeful pool.

    The call as such succeeded, so EC2 remembers its token and would repeat the empty answer; this matters to a
    throttled launch, which is asked for again.
    """
    refusals = tuple(_refusals(errors))
    kinds = Counter(aws_errors.refusal_kind(refusal.code) for refusal in refusals)
    for kind in (RefusalKind.THROTTLED, RefusalKind.CAPACITY, RefusalKind.QUOTA, RefusalKind.PERMISSION):
        if kinds[kind]:
            return LaunchRefused(kind, refusals, is_token_spent=kind is RefusalKind.THROTTLED)
    # A fleet of type instant may answer with nothing at all: no capacity is the only sense it can have.
    kind = RefusalKind.CONFIGURATION if refusals else RefusalKind.CAPACITY
    return LaunchRefused(kind, refusals)


def _refusals(errors: list[Any]) -> Iterator[Refusal]:
    """The record keeps every refusal and may not grow beyond 400 KB: each answer is spelled out once, and bounded."""
    said: set[str] = set()
    for error in errors:
        code = error.get("ErrorCode", "")
        message = "" if code in said else one_line(error.get("ErrorMessage", ""))
        said.add(code)
        yield Refusal(_pool_name(error), code, message)


def _pool_name(error: Any) -> str:
    overrides = error.get("LaunchTemplateAndOverrides", {}).get("Overrides", {})
    place = overrides.get("AvailabilityZone") or overrides.get("SubnetId", "")
    return "/".join(part for part in (overrides.get("InstanceType", ""), place) if part) or "a pool"
