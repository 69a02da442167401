"""IAM as EC2 really asks it: one API call is many questions, and each of them must be allowed.

The emulator asks once per call, about the first id it finds or about `*`. AWS asks about every resource that the call
creates, uses or names: an instant CreateFleet is authorised as CreateFleet and RunInstances, CreateTags for each tagged
resource (`ec2:CreateAction`) and PassRole of its caller.
"""

# ruff: noqa: SLF001 - the emulator has no public interface to its roles

import contextvars
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ministack.core import iam_actions, iam_evaluator
from ministack.core.responses import get_account_id, get_region
from ministack.services import ec2, iam

from nightcrew_cli.local.answers import ApiError

Tags = Mapping[str, str]

caller_key: contextvars.ContextVar[str] = contextvars.ContextVar("nightcrew_caller_key", default="test")
"""Access key of the request being served, noted where the emulator first checks it."""

NAMED = {
    "TerminateInstances": ("InstanceId", "instance"),
    "StopInstances": ("InstanceId", "instance"),
    "StartInstances": ("InstanceId", "instance"),
    "RebootInstances": ("InstanceId", "instance"),
    "CreateTags": ("ResourceId", ""),
    "DeleteTags": ("ResourceId", ""),
    "DeleteFleets": ("FleetId", "fleet"),
    "CancelSpotInstanceRequests": ("SpotInstanceRequestId", "spot-instances-request"),
}
"""Calls that name several resources: parameter and resource type ("" means that the id says it)."""

NEW = {"CreateFleet": "fleet/*", "RunInstances": "instance/*"}
"""What the emulator's one question is about for the calls that create something."""

TYPES = {"fleet-": "fleet", "sir-": "spot-instances-request"}


@dataclass(frozen=True, slots=True)
class Launcher:
    """A launch about to happen, as far as IAM is concerned."""

    call: str
    template: Mapping[str, Any]
    reference: Mapping[str, str]
    tags: Mapping[str, Tags]
    subnets: Iterable[str]
    is_spot: bool = False


def arn(resource: str) -> str:
    return f"arn:aws:ec2:{get_region()}:{get_account_id()}:{resource}"


def arn_of_id(resource_id: str, kind: str = "") -> str:
    known = next((value for prefix, value in TYPES.items() if resource_id.startswith(prefix)), "")
    return arn(f"{kind or known or ec2._guess_resource_type(resource_id)}/{resource_id}")


def ec2_resource(action: str, p: Mapping[str, Any]) -> str | None:
    """Return the resource of an EC2 call's first question, or None when the emulator's own answer will do."""
    if action.startswith("Describe"):
        return "*"  # Describe calls know no resource-level permission; a narrower statement never matches on AWS
    if action in NEW:
        return arn(NEW[action])
    if action in NAMED:
        name, kind = NAMED[action]
        first = ec2._p(p, f"{name}.1")
        return arn_of_id(first, kind) if first else "*"
    return None


def requested_tags(p: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return the tags of a launch request by resource type."""
    found: dict[str, dict[str, str]] = {}
    number = 1
    while kind := ec2._p(p, f"TagSpecification.{number}.ResourceType"):
        tags, position = found.setdefault(kind, {}), 1
        while key := ec2._p(p, f"TagSpecification.{number}.Tag.{position}.Key"):
            tags[key] = ec2._p(p, f"TagSpecification.{number}.Tag.{position}.Value")
            position += 1
        number += 1
    return found


def tag_context(action: str, p: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the request's tags as conditions see them in the first question; None for calls without a resource of
    their own, which the emulator understands."""
    return _tag_context(requested_tags(p).get(NEW[action].partition("/")[0], {})) if action in NEW else None


def authorize_named(action: str, p: Mapping[str, Any]) -> None:
    """Ask about every resource the call names, not only about the first."""
    if action in NAMED:
        name, kind = NAMED[action]
        context = iam_actions.request_tag_context("ec2", f"ec2:{action}", b"", dict(p))
        for resource_id in ec2._parse_member_list(p, name)[1:]:
            ask(f"ec2:{action}", arn_of_id(resource_id, kind), context)


def authorize_launch(launch: Launcher) -> None:
    from_template = _template_context(launch)
    tags = launch.tags
    created = ["instance", "volume", "network-interface"]
    if launch.is_spot:
        ask("ec2:RunInstances", arn("spot-instances-request/*"), from_template)
    for kind in created:
        ask("ec2:RunInstances", arn(f"{kind}/*"), {**from_template, **_tag_context(tags.get(kind, {}))})
    for resource in _used(launch):
        ask("ec2:RunInstances", resource, from_template)
    if launch.call == "CreateFleet" and "ec2:LaunchTemplate" in from_template:
        ask("ec2:CreateFleet", str(from_template["ec2:LaunchTemplate"]), from_template)
    for kind, values in tags.items():
        # Which of the two names AWS gives a fleet's instances is not documented, so a policy has to allow both.
        calls = {launch.call, "RunInstances"} if kind in created else {launch.call}
        for call in sorted(calls) if values else ():
            ask("ec2:CreateTags", arn(f"{kind}/*"), {"ec2:CreateAction": call, **_tag_context(values)})
    _ask_to_pass_role(launch.template)


def ask(action: str, resource: str, context: Mapping[str, Any], service: str = "ec2") -> None:
    """Raise what AWS answers when the caller may not do this."""
    refused = iam_evaluator.enforce(
        caller_key.get(), action, service, get_region(), resource_arn=resource, service_context=dict(context)
    )
    if refused:
        who = getattr(refused, "principal_arn", "the caller")
        raise ApiError(
            "UnauthorizedOperation",
            "You are not authorized to perform this operation. "
            f"User: {who} is not authorized to perform: {action} on resource: {resource}",
            403,
        )


def _used(launch: Launcher) -> list[str]:
    """Return the existing resources a launch uses."""
    interfaces = launch.template.get("NetworkInterfaces") or []
    groups = [*(launch.template.get("SecurityGroupIds") or [])]
    groups += [group for interface in interfaces for group in interface.get("Groups") or []]
    used = [arn(f"security-group/{group}") for group in groups or [ec2._DEFAULT_SG_ID]]
    used += [arn(f"subnet/{subnet}") for subnet in dict.fromkeys(launch.subnets)]
    used.append(f"arn:aws:ec2:{get_region()}::image/{launch.template.get('ImageId') or 'ami-00000000'}")
    template_id = launch.reference.get("LaunchTemplateId")
    return [*used, arn(f"launch-template/{template_id}")] if template_id else used


def _template_context(launch: Launcher) -> dict[str, Any]:
    template_id = launch.reference.get("LaunchTemplateId")
    context: dict[str, Any] = {"ec2:IsLaunchTemplateResource": "true" if template_id else "false"}
    if template_id:
        context["ec2:LaunchTemplate"] = arn(f"launch-template/{template_id}")
    options = launch.template.get("MetadataOptions") or {}
    if options.get("HttpTokens"):
        context["ec2:MetadataHttpTokens"] = options["HttpTokens"]
    if launch.template.get("InstanceType"):
        context["ec2:InstanceType"] = launch.template["InstanceType"]
    return context


def _tag_context(tags: Tags) -> dict[str, Any]:
    context: dict[str, Any] = {f"aws:RequestTag/{key}": value for key, value in tags.items()}
    if tags:
        context["aws:TagKeys"] = list(tags)
    return context


def _ask_to_pass_role(template: Mapping[str, Any]) -> None:
    wanted = template.get("IamInstanceProfile") or {}
    if not wanted:
        return
    profile = iam._lookup_instance_profile(name=wanted.get("Name", ""), arn=wanted.get("Arn", ""))
    if not profile:
        name = wanted.get("Name") or wanted.get("Arn")
        raise ApiError(
            "InvalidParameterValue",
            f"Value ({name}) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name",
        )
    for role in role_names(profile):
        record = iam._roles.get(role)
        if record:
            ask("iam:PassRole", record["Arn"], {"iam:PassedToService": "ec2.amazonaws.com"}, service="iam")


def role_names(profile: Mapping[str, Any]) -> list[str]:
    """Return the roles of an instance profile; the emulator keeps names in one place and records in another."""
    return [role["RoleName"] if isinstance(role, dict) else str(role) for role in profile.get("Roles", [])]
