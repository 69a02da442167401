"""The instance metadata endpoint of each instance (IMDSv2 only), with real credentials of the instance's role."""

# ruff: noqa: SLF001 - the emulator has no public interface to its roles and sessions

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ministack.services import iam, sts

from nightcrew_cli.local import clock
from nightcrew_cli.local.authorization import role_names
from nightcrew_cli.local.instances import Instance
from nightcrew_cli.local.records import tags_of

Answer = tuple[int, dict[str, str], bytes]

TOKEN_TTL = "x-aws-ec2-metadata-token-ttl-seconds"  # noqa: S105 - the name of a header
TOKEN = "x-aws-ec2-metadata-token"  # noqa: S105 - the name of a header
CREDENTIALS_LAST = timedelta(hours=6)
RENEWED_BEFORE = timedelta(minutes=5)


def text(body: str, status: int = 200) -> Answer:
    return status, {"content-type": "text/plain"}, body.encode()


NOT_FOUND = text("", 404)


@dataclass(slots=True)
class Metadata:
    """Answers metadata requests; the host says for which instance."""

    now: Callable[[], datetime] = clock.now
    _tokens: dict[tuple[str, str], datetime] = field(default_factory=dict)
    _credentials: dict[str, tuple[datetime, dict[str, str]]] = field(default_factory=dict)

    def answer(self, instance: Instance, method: str, path: str, headers: Mapping[str, str]) -> Answer:
        if path.rstrip("/") == "/latest/api/token":
            return self._issue_token(instance, method, headers)
        if method != "GET":
            return text("", 405)
        if not self._is_valid(instance, headers.get(TOKEN, "")):
            return text("", 401)
        if path == "/latest/dynamic/instance-identity/document":
            return _json(_identity(instance))
        if not path.startswith("/latest/meta-data"):
            return NOT_FOUND
        return self._meta_data(instance, path.removeprefix("/latest/meta-data").strip("/"))

    def _issue_token(self, instance: Instance, method: str, headers: Mapping[str, str]) -> Answer:
        seconds = headers.get(TOKEN_TTL, "")
        if method != "PUT":
            return text("", 405)
        if not seconds.isdigit() or not 1 <= int(seconds) <= 21600:
            return text("", 400)
        token = secrets.token_urlsafe(40)
        self._tokens[instance.instance_id, token] = self.now() + timedelta(seconds=int(seconds))
        return 200, {"content-type": "text/plain", TOKEN_TTL: seconds}, token.encode()

    def _is_valid(self, instance: Instance, token: str) -> bool:
        until = self._tokens.get((instance.instance_id, token))
        return until is not None and self.now() < until

    def _meta_data(self, instance: Instance, path: str) -> Answer:
        tree = _tree(instance)
        if path in tree:
            value = tree[path]
            return text(value) if value else NOT_FOUND
        if path.startswith("iam/"):
            return self._iam(instance, path)
        if path.startswith("tags/instance"):
            return _tags(instance, path.removeprefix("tags/instance").strip("/"))
        below = sorted({name[len(path) :].strip("/").split("/")[0] for name in tree if name.startswith(path)})
        return text("\n".join(below)) if below else NOT_FOUND

    def _iam(self, instance: Instance, path: str) -> Answer:
        role = _role(instance)
        if role is None:
            return NOT_FOUND
        if path == "iam/info":
            return _json({"Code": "Success", "InstanceProfileArn": instance.profile})
        if path == "iam/security-credentials":
            return text(role["RoleName"])
        if path == f"iam/security-credentials/{role['RoleName']}":
            return _json(self._credentials_of(instance, role))
        return NOT_FOUND

    def _credentials_of(self, instance: Instance, role: Mapping[str, Any]) -> dict[str, str]:
        """Return the instance's temporary credentials; aws:userid is `<role id>:<instance id>`, as on EC2."""
        until, credentials = self._credentials.get(instance.instance_id, (self.now(), {}))
        if until - self.now() > RENEWED_BEFORE:
            return credentials
        until = self.now() + CREDENTIALS_LAST
        credentials = {
            "Code": "Success",
            "LastUpdated": clock.stamp(self.now()),
            "Type": "AWS-HMAC",
            "AccessKeyId": iam._gen_session_access_key(),
            "SecretAccessKey": iam._gen_secret(),
            "Token": iam._gen_session_token(),
            "Expiration": clock.stamp(until),
        }
        session = f"assumed-role/{role['RoleName']}/{instance.instance_id}"
        sts.register_session(
            credentials["AccessKeyId"],
            {
                "Arn": f"arn:aws:sts::{instance.account}:{session}",
                "UserId": f"{role['RoleId']}:{instance.instance_id}",
                "SecretAccessKey": credentials["SecretAccessKey"],
                "SessionToken": credentials["Token"],
                "Expiration": until.timestamp(),
            },
        )
        self._credentials[instance.instance_id] = (until, credentials)
        return credentials


def _tree(instance: Instance) -> dict[str, str]:
    record = instance.record
    interruption = instance.interruption_at
    spot: dict[str, str] = {}
    if interruption:
        spot["spot/instance-action"] = json.dumps({"action": "terminate", "time": clock.stamp(interruption)})
        spot["spot/termination-time"] = clock.stamp(interruption)
    if instance.rebalance_at:
        notice = json.dumps({"noticeTime": clock.stamp(instance.rebalance_at)})
        spot["events/recommendations/rebalance"] = notice
    return {
        "ami-id": record["ImageId"],
        "ami-launch-index": str(record["AmiLaunchIndex"]),
        "hostname": record["PrivateDnsName"],
        "instance-action": "none",
        "instance-id": record["InstanceId"],
        "instance-life-cycle": "spot" if instance.is_spot else "on-demand",
        "instance-type": record["InstanceType"],
        "local-hostname": record["PrivateDnsName"],
        "local-ipv4": record["PrivateIpAddress"],
        "placement/availability-zone": instance.zone,
        "placement/region": instance.region,
        "public-hostname": record["PublicDnsName"],
        "public-ipv4": record["PublicIpAddress"],
        "reservation-id": f"r-{record['InstanceId'][2:]}",
        "security-groups": "\n".join(group["GroupName"] for group in record["SecurityGroups"]),
        "services/domain": "amazonaws.com",
        "services/partition": "aws",
        **spot,
    }


def _tags(instance: Instance, key: str) -> Answer:
    """Return the tag, or the keys; the launch has to allow tags in metadata."""
    if not instance.metadata_tags:
        return NOT_FOUND
    tags = {name: value for name, value in tags_of(instance.instance_id).items() if not name.startswith("aws:")}
    if not key:
        return text("\n".join(tags))
    return text(tags[key]) if key in tags else NOT_FOUND


def _identity(instance: Instance) -> dict[str, Any]:
    record = instance.record
    return {
        "accountId": instance.account,
        "architecture": record["Architecture"],
        "availabilityZone": instance.zone,
        "imageId": record["ImageId"],
        "instanceId": record["InstanceId"],
        "instanceType": record["InstanceType"],
        "pendingTime": record["LaunchTime"].replace(".000Z", "Z"),
        "privateIp": record["PrivateIpAddress"],
        "region": instance.region,
        "version": "2017-09-30",
    }


def _role(instance: Instance) -> dict[str, Any] | None:
    """Return the role record behind the instance's profile. Runs in the instance's own account."""
    if not instance.profile:
        return None
    profile = iam._lookup_instance_profile(arn=instance.profile)
    names = role_names(profile) if profile else []
    role = iam._roles.get(names[0]) if names else None
    return dict(role) if role else None


def _json(payload: Mapping[str, Any]) -> Answer:
    return 200, {"content-type": "application/json"}, json.dumps(payload).encode()
