"""Answers of the EC2 API in its own XML, for the calls the host takes over."""

# ruff: noqa: SLF001 - the emulator has no public interface to its XML

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from ministack.core.responses import get_account_id
from ministack.services import ec2

from nightcrew_cli.local.instances import STATE_CODES, Instance

Response = tuple[int, dict[str, str], bytes]


class ApiError(Exception):
    """An error the API answers with."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status

    def answer(self) -> Response:
        response: Response = ec2._error(self.code, escape(self.message), self.status)
        return response


def xml(action: str, inner: str) -> Response:
    response: Response = ec2._xml(200, f"{action}Response", inner)
    return response


def raw(body: bytes) -> Response:
    return 200, {"Content-Type": "application/xml"}, body


def element(name: str, value: object) -> str:
    """Return the element, or nothing when there is no value."""
    return "" if value in (None, "") else f"<{name}>{escape(str(value))}</{name}>"


def tag_set(resource_id: str) -> str:
    return str(ec2._tag_set_xml(resource_id))


def instance(record: Mapping[str, Any], known: Instance | None) -> str:
    """Return one instance as DescribeInstances shows it."""
    state, options = record["State"], record.get("MetadataOptions") or {}
    placement = record["Placement"]
    groups = "".join(
        f"<item>{element('groupId', it['GroupId'])}{element('groupName', it['GroupName'])}</item>"
        for it in record.get("SecurityGroups", [])
    )
    parts = [
        element("instanceId", record["InstanceId"]),
        element("imageId", record["ImageId"]),
        f"<instanceState><code>{state['Code']}</code><name>{state['Name']}</name></instanceState>",
        element("privateDnsName", record.get("PrivateDnsName")),
        element("dnsName", record.get("PublicDnsName")),
        element("privateIpAddress", record.get("PrivateIpAddress")),
        element("ipAddress", record.get("PublicIpAddress")),
        f"<reason>{escape(known.transition_reason if known else '')}</reason>",
        element("keyName", record.get("KeyName")),
        f"<amiLaunchIndex>{record.get('AmiLaunchIndex', 0)}</amiLaunchIndex>",
        element("instanceType", record["InstanceType"]),
        element("launchTime", record["LaunchTime"]),
        f"<placement>{element('availabilityZone', placement['AvailabilityZone'])}"
        f"{element('tenancy', placement['Tenancy'])}</placement>",
        f"<monitoring><state>{record['Monitoring']['State']}</state></monitoring>",
        element("subnetId", record.get("SubnetId")),
        element("vpcId", record.get("VpcId")),
        _state_reason(known),
        element("architecture", record["Architecture"]),
        element("rootDeviceType", record["RootDeviceType"]),
        element("rootDeviceName", record["RootDeviceName"]),
        f"<blockDeviceMapping>{ec2._inst_bdm_xml(record)}</blockDeviceMapping>",
        element("virtualizationType", record["Virtualization"]),
        element("instanceLifecycle", "spot" if known and known.is_spot else ""),
        element("spotInstanceRequestId", record.get("SpotInstanceRequestId")),
        element("clientToken", record.get("ClientToken")),
        tag_set(record["InstanceId"]),
        element("hypervisor", record["Hypervisor"]),
        _interfaces(record),
        str(ec2._inst_iam_xml(record)),
        f"<groupSet>{groups}</groupSet>",
        _metadata_options(options),
    ]
    return f"<item>{''.join(parts)}</item>"


def _state_reason(known: Instance | None) -> str:
    if not known or not known.reason:
        return ""
    return f"<stateReason>{element('code', known.reason.code)}{element('message', known.reason.message)}</stateReason>"


def _metadata_options(options: Mapping[str, Any]) -> str:
    if not options:
        return ""
    return (
        "<metadataOptions>"
        + "".join(element(k[0].lower() + k[1:], v) for k, v in options.items())
        + ("</metadataOptions>")
    )


def _interfaces(record: Mapping[str, Any]) -> str:
    own = [
        it
        for it in ec2._network_interfaces.values()
        if (it.get("Attachment") or {}).get("InstanceId") == record["InstanceId"]
    ]
    return f"<networkInterfaceSet>{''.join(interface(it) for it in own)}</networkInterfaceSet>"


def interface(record: Mapping[str, Any]) -> str:
    """Return one network interface; the emulator's own answer lacks DeleteOnTermination and the public address."""
    attachment = record.get("Attachment") or {}
    attached = ""
    if attachment:
        delete = str(attachment.get("DeleteOnTermination", False)).lower()
        attached = (
            f"<attachment>{element('attachmentId', attachment['AttachmentId'])}"
            f"{element('instanceId', attachment.get('InstanceId'))}{element('deviceIndex', attachment['DeviceIndex'])}"
            f"<status>attached</status>{element('attachTime', attachment['AttachTime'])}"
            f"<deleteOnTermination>{delete}</deleteOnTermination></attachment>"
        )
    public = element("publicIp", record.get("PublicIpAddress"))
    body = str(ec2._eni_fields_xml({**record, "Attachment": None}))
    extra = attached + (f"<association>{public}</association>" if public else "")
    return body.removesuffix("</item>") + extra + "</item>"


def reservations(instances: Iterable[tuple[Mapping[str, Any], Instance | None]], next_token: str = "") -> Response:
    items = "".join(
        f"<item><reservationId>r-{record['InstanceId'][2:]}</reservationId>{element('ownerId', get_account_id())}"
        f"<groupSet/><instancesSet>{instance(record, known)}</instancesSet></item>"
        for record, known in instances
    )
    return xml("DescribeInstances", f"<reservationSet>{items}</reservationSet>{element('nextToken', next_token)}")


def run_instances(started: list[Instance]) -> Response:
    items = "".join(instance(it.record, it) for it in started)
    reservation = started[0].instance_id[2:] if started else "0"
    return xml(
        "RunInstances",
        f"<reservationId>r-{reservation}</reservationId>{element('ownerId', get_account_id())}<groupSet/>"
        f"<instancesSet>{items}</instancesSet>",
    )


def state_changes(action: str, changes: Iterable[tuple[Instance, str]]) -> Response:
    """Return what Stop-, Start- and TerminateInstances answer: the state before and the state now."""
    items = "".join(
        f"<item>{element('instanceId', it.instance_id)}"
        f"<currentState><code>{STATE_CODES[it.state]}</code><name>{it.state}</name></currentState>"
        f"<previousState><code>{STATE_CODES[before]}</code><name>{before}</name></previousState></item>"
        for it, before in changes
    )
    return xml(action, f"<instancesSet>{items}</instancesSet>")


FleetItem = tuple[dict[str, str], dict[str, str], str, str, list[str]]
FleetError = tuple[dict[str, str], dict[str, str], str, str, str]


def create_fleet(fleet_id: str, launched: Iterable[FleetItem], errors: Iterable[FleetError]) -> Response:
    good = "".join(
        f"<item>{_pool(reference, override)}{element('lifecycle', lifecycle)}"
        f"<instanceIds>{''.join(element('item', it) for it in ids)}</instanceIds>"
        f"{element('instanceType', kind)}</item>"
        for reference, override, kind, lifecycle, ids in launched
    )
    bad = "".join(
        f"<item>{_pool(reference, override)}{element('lifecycle', lifecycle)}{element('errorCode', code)}"
        f"{element('errorMessage', text)}</item>"
        for reference, override, lifecycle, code, text in errors
    )
    return xml(
        "CreateFleet",
        f"{element('fleetId', fleet_id)}<fleetInstanceSet>{good}</fleetInstanceSet><errorSet>{bad}</errorSet>",
    )


def _pool(reference: dict[str, str], override: dict[str, str]) -> str:
    template = "".join(element(name[0].lower() + name[1:], value) for name, value in reference.items())
    fields = "".join(element(name[0].lower() + name[1:], value) for name, value in override.items())
    return (
        f"<launchTemplateAndOverrides><launchTemplateSpecification>{template}</launchTemplateSpecification>"
        f"<overrides>{fields}</overrides></launchTemplateAndOverrides>"
    )
