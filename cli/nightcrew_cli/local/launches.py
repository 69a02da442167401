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

from nightcrew_cli.local import answers
from nightcrew_cli.local.answers import ApiError, Response
from nightcrew_cli.local.authorization import Launcher, authorize_launch, requested_tags
from nightcrew_cli.local.faults import Faults
from nightcrew_cli.local.instances import Instance, Instances
from nightcrew_cli.local.launch_requests import (
    Parameters,
    Pool,
    capacity_type_of,
    least,
    merged_tags,
    pool_to_run,
    pools_of,
    refusal,
    total,
)
from nightcrew_cli.local.records import Ec2Records, LaunchSpec, Tags, new_id, set_tags
from nightcrew_cli.local.tokens import TokenLedger, TokenMismatchError


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
        pools, capacity_type, tags = pools_of(p), capacity_type_of(p), requested_tags(p)
        for pool in pools:
            spot = capacity_type == "spot"
            authorize_launch(Launcher("CreateFleet", pool.template, pool.reference, tags, [pool.subnet], spot))
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
        pool = pool_to_run(p)
        if refused := refusal(pool):
            raise refused
        market = ec2._p(p, "InstanceMarketOptions.MarketType")
        tags = merged_tags(pool.template, requested_tags(p))
        authorize_launch(Launcher("RunInstances", pool.template, pool.reference, tags, [pool.subnet], market == "spot"))
        capacity_type = "spot" if market == "spot" else "on-demand"
        count = self._available(p, pool, capacity_type)
        started = [
            self.records.create(_spec(pool, capacity_type, tags, token=token, index=index)) for index in range(count)
        ]
        for instance in started:
            self.instances.launch(instance)
        if token:
            self.ledger.keep(key, p, answer=b"", instance_ids=[it.instance_id for it in started])
        return answers.run_instances(started)

    def _available(self, p: Parameters, pool: Pool, capacity_type: str) -> int:
        """Return how many instances RunInstances gets: at least MinCount, or none and an error."""
        for number in range(max(1, int(ec2._p(p, "MaxCount") or 1))):
            shortage = self.faults.dry_pool(pool.instance_type, pool.zone, capacity_type)
            if shortage and number < int(ec2._p(p, "MinCount") or 1):
                raise ApiError(shortage.code, shortage.message, 500)
            if shortage:
                return number
        return max(1, int(ec2._p(p, "MaxCount") or 1))

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
        result, left = FleetResult(), total(p)
        token = ec2._p(p, "ClientToken")
        plan: list[tuple[Pool, int]] = []
        for pool in pools:
            refused = refusal(pool)
            if refused:
                result.errors.append((pool, refused.code, refused.message))
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
        if total(p) - left < least(p, capacity_type):
            text = "Unable to fulfill capacity due to your request configuration."
            result.errors += [(pool, "UnfulfillableCapacity", text) for pool, _ in plan]
            return result
        for pool, count in plan:
            merged = merged_tags(pool.template, tags)
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


def _mismatch(token: str) -> ApiError:
    return ApiError(
        "IdempotentParameterMismatch",
        f"The client token {token} has been used with different parameters.",
    )


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
    wanted, got = total(p), float(len(result.instance_ids))
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
            "TotalTargetCapacity": wanted,
            "OnDemandTargetCapacity": 0 if spot else wanted,
            "SpotTargetCapacity": wanted if spot else 0,
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
