"""Every change this package makes to the emulator, in process and nowhere else, each with the AWS rule it restores.

Nothing is changed on disk. `install` is called once, before the first request.
"""

# ruff: noqa: SLF001 - replacing an emulator's inner parts is what this module is for

import importlib.util
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ministack import app as gateway
from ministack.core import iam_actions, iam_evaluator, lambda_runtime
from ministack.core.responses import get_account_id, get_region
from ministack.services import ec2, eventbridge, iam, lambda_svc, s3, scheduler, sns, sqs, ssm, sts, tagging

from nightcrew_cli.local import policies
from nightcrew_cli.local.answers import Response
from nightcrew_cli.local.authorization import caller_key, ec2_resource
from nightcrew_cli.local.ec2_api import Ec2Api
from nightcrew_cli.local.events import EventRelay
from nightcrew_cli.local.faults import CallFault, Faults
from nightcrew_cli.local.records import tags_of
from nightcrew_cli.local.schedules import Schedules
from nightcrew_cli.local.settings import base_python

LAMBDA_LIBRARIES = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six", "urllib3")
"""What AWS's own Python runtime brings; everything else has to come from the function or its layers."""

AMIS = {
    f"/aws/service/ami-amazon-linux-latest/al2023-ami-{flavor}-{architecture}": f"ami-0c2023{mark}a1b2c3d4e"
    for flavor, flavor_mark in (("kernel-default", "1"), ("minimal-kernel-default", "2"), ("kernel-6.1", "3"))
    for architecture, mark in (("x86_64", f"{flavor_mark}a"), ("arm64", f"{flavor_mark}b"))
}


class LostAnswerError(Exception):
    """The call was carried out and its answer is to be lost: the connection must break."""


def install(*, api: Ec2Api, relay: EventRelay, schedules: Schedules, faults: Faults, home: Path) -> None:
    instance_life(api)
    event_relay(relay)
    authorization()
    policy_variables()
    missing_object_without_list_permission()
    scheduler_ticks(schedules)
    deliveries()
    function_runtime(home / "function-runtime")
    role_ids_in_sessions()
    call_faults(faults)
    # Public AMI parameters exist for each architecture.
    ssm._PUBLIC_AMI_PARAMETERS.update({name: image for name, image in AMIS.items() if not ssm._public_parameter(name)})


def instance_life(api: Ec2Api) -> None:
    """Instances go through pending, running, shutting-down …; ClientTokens count; a fleet obeys its request."""
    ec2._ACTION_MAP.update(api.handlers())
    # The host forgets a terminated instance itself, with its tags and after its own time.
    ec2._cleanup_terminated = lambda: None


def event_relay(relay: EventRelay) -> None:
    """Events can be lost, late and repeated; the relay also keeps a list of them."""
    eventbridge._dispatch_event = lambda event, view=None: relay.relay(event)  # noqa: ARG005


def authorization() -> None:
    """EC2 is asked about the right resource, and tags of EC2 resources count in conditions."""
    resource_of, tags_of_arn, enforce = iam_actions.extract_resource_arn, tagging.resource_tags, iam_evaluator.enforce

    def extract_resource_arn(service: str, method: str, path: str, headers: Any, body: Any, params: Any, *rest: Any) -> Any:
        if service == "ec2":
            resource = ec2_resource(str(ec2._p(params, "Action")), params)
            if resource:
                return resource
        return resource_of(service, method, path, headers, body, params, *rest)

    def resource_tags(arn: str) -> dict[str, str] | None:
        if arn.startswith("arn:aws:ec2:"):
            return tags_of(arn.rpartition("/")[2]) or None
        found: dict[str, str] | None = tags_of_arn(arn)
        return found

    def noting_enforce(access_key_id: str, iam_action: str, service: str, *rest: Any, **more: Any) -> Any:
        caller_key.set(access_key_id)
        resource = str(more.get("resource_arn", ""))
        if service == "ec2" and resource.startswith("arn:aws:ec2:"):
            tags = {f"ec2:ResourceTag/{key}": value for key, value in tags_of(resource.rpartition("/")[2]).items()}
            more["service_context"] = {**tags, **(more.get("service_context") or {})}
        return enforce(access_key_id, iam_action, service, *rest, **more)

    iam_actions.extract_resource_arn = extract_resource_arn
    tagging.resource_tags = resource_tags
    iam_evaluator.enforce = noting_enforce


def policy_variables() -> None:
    """`${aws:userid}` and the like are filled in, in Resource, NotResource and condition values."""

    def values_of(context: Any) -> dict[str, Any]:
        return {
            **{key.lower(): value for key, value in context.service_context.items()},
            **{key.lower(): value for key, value in context.principal_keys.items()},
            "aws:principalaccount": context.principal_account,
            "aws:principalarn": context.principal_arn,
            "aws:requestedregion": context.region,
            "aws:sourceip": context.source_ip,
        }

    def resource_matches(context: Any, statement: Any, values: Mapping[str, Any]) -> bool:
        def any_of(patterns: list[str]) -> bool:
            return any(policies.resource_matches(context.resource_arn, pattern, values) for pattern in patterns)

        if statement.resources:
            return any_of(statement.resources)
        return not any_of(statement.not_resources)

    def first_match(context: Any, statements: list[Any], effect: str) -> Any:
        values = values_of(context)
        for statement in statements:
            if statement.effect != effect:
                continue
            if not iam_evaluator._action_matches(context.action, statement.actions, statement.not_actions):
                continue
            if not resource_matches(context, statement, values):
                continue
            try:
                conditions = policies.conditions_filled(statement.conditions, values)
            except policies.NoValueError:
                continue
            if iam_evaluator._conditions_met(conditions, context):
                return statement
        return None

    iam_evaluator._first_match = first_match


def missing_object_without_list_permission() -> None:
    """Who may not list the bucket is told 403 about a missing object, not 404."""
    handle = s3.handle_request

    async def handle_request(method: str, path: str, headers: Any, body: Any, query_params: Any) -> Any:
        response = await handle(method, path, headers, body, query_params)
        bucket, _, key = path.lstrip("/").partition("/")
        if response[0] != 404 or method not in ("GET", "HEAD") or not key:
            return response
        refused = iam_evaluator.enforce(
            caller_key.get(), "s3:ListBucket", "s3", get_region(), resource_arn=f"arn:aws:s3:::{bucket}"
        )
        if not refused:
            return response
        body_text = b"" if method == "HEAD" else b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        return 403, {"Content-Type": "application/xml"}, body_text

    s3.handle_request = handle_request


def scheduler_ticks(schedules: Schedules) -> None:
    """Time zones, context attributes and the schedule's own role count; see schedules.py."""
    scheduler._tick_schedules = schedules.tick_due
    scheduler._SCHEDULE_TICK_INTERVAL = 1


def deliveries() -> None:
    """A rule's queue must allow EventBridge to send, and a function target is an asynchronous invoke with retries."""
    invoke_target = eventbridge._invoke_target

    def guarded_invoke(target: Any, event: Any, rule: Any, view: Any = None) -> None:
        arn, source = str(target.get("Arn", "")), str(rule.get("Arn", ""))
        allows = {"sqs": sqs.queue_policy_allows, "sns": sns.topic_policy_allows}.get(_service_of(arn))
        if _service_of(source) == "events" and allows:
            if not allows(arn, "events.amazonaws.com", source, get_account_id()):
                eventbridge.logger.error("EventBridge: the policy of %s does not allow rule %s", arn, source)
                return
        invoke_target(target, event, rule, view)

    def to_lambda(arn: str, payload: str) -> None:
        function, config, name = lambda_svc._get_func_record_for_ref(arn)
        if not function or not config:
            eventbridge.logger.error("EventBridge: function %s not found", name)
            return
        record = lambda_svc._execution_record_for_config(function, config)
        lambda_svc.invoke_async_with_retry(record, json.loads(payload))

    eventbridge._invoke_target = guarded_invoke
    eventbridge._dispatch_to_lambda = to_lambda


def _service_of(arn: str) -> str:
    return arn.split(":")[2] if arn.count(":") >= 5 else ""


def function_runtime(folder: Path) -> None:
    """A function sees its code, its layers and what AWS's runtime brings, not the packages of our environment."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in LAMBDA_LIBRARIES:
        spec = importlib.util.find_spec(name)
        if spec and spec.origin:
            origin = Path(spec.origin)
            source = origin.parent if origin.name == "__init__.py" else origin
            link = folder / (name if source.is_dir() else source.name)
            if not link.is_symlink():
                link.symlink_to(source)
    launcher = folder.parent / "function-python"
    # A function must not see how its worker was started.
    hidden = "env -u VIRTUAL_ENV -u PYTHONHOME"
    launcher.write_text(f'#!/bin/sh\nPYTHONPATH="{folder}" exec {hidden} "{base_python()}" -S "$@"\n')
    launcher.chmod(0o755)
    detect = lambda_runtime._detect_runtime_binary

    def detect_runtime_binary(runtime: str) -> tuple[str, str]:
        binary, script = detect(runtime)
        return (str(launcher) if runtime.startswith("python") else binary), script

    lambda_runtime._detect_runtime_binary = detect_runtime_binary


def role_ids_in_sessions() -> None:
    """aws:userid of a role session begins with the role's id, not with its name."""
    register = sts.register_session

    def register_session(access_key: str, session: dict[str, Any]) -> None:
        role, _, name = str(session.get("Arn", "")).partition(":assumed-role/")[2].partition("/")
        account = str(session.get("Arn", "::::")).split(":")[4]
        record = iam._roles.get_scoped(account, None, role) if role else None
        if record and session.get("UserId") == f"{role}:{name}":
            session = {**session, "UserId": f"{record['RoleId']}:{name}"}
        register(access_key, session)

    sts.register_session = register_session


def call_faults(faults: Faults) -> None:
    """A call can be refused, or carried out while its answer is lost."""
    dispatch: Callable[..., Any] = gateway._dispatch_service_request

    async def dispatch_service_request(
        method: str, path: str, headers: Any, body: bytes, query_params: Any, request_id: str
    ) -> Any:
        service, call = _named_call(method, path, headers, body, query_params) if faults.calls else ("", "")
        fault = faults.for_call(call) if call else None
        if fault and fault.mode == "refuse":
            return _error(fault, service)
        response = await dispatch(method, path, headers, body, query_params, request_id)
        if fault and fault.status == 0:
            raise LostAnswerError
        return _error(fault, service) if fault else response

    gateway._dispatch_service_request = dispatch_service_request


def _named_call(method: str, path: str, headers: Any, body: bytes, query: Any) -> tuple[str, str]:
    """Return the service and the call as IAM names it; empty when the emulator knows no name for it."""
    params = gateway._routing_params(method, path, headers, body, query)
    service = str(gateway.detect_service(method, path, headers, params))
    return service, str(iam_actions.extract_iam_action(service, method, path, headers, body, params) or "")


def _error(fault: CallFault, service: str) -> Response:
    """Answer the error in the service's own protocol."""
    if service in ("ec2", "s3", "sns", "sts", "iam", "cloudformation"):
        response: Response = ec2._error(fault.code, fault.message, fault.status or 500)
        if service != "s3":
            return response
        text = f"<Error><Code>{fault.code}</Code><Message>{fault.message}</Message></Error>"
        return response[0], response[1], text.encode()
    body = json.dumps({"__type": fault.code, "message": fault.message}).encode()
    return fault.status or 500, {"Content-Type": "application/x-amz-json-1.0", "x-amzn-errortype": fault.code}, body
