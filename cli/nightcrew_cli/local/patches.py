"""Every change this package makes to the emulator, in process and nowhere else, each with the AWS rule it restores.

Nothing is changed on disk. `install` is called once, before the first request.
"""

# ruff: noqa: SLF001 - replacing an emulator's inner parts is what this module is for

import asyncio
import contextvars
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ministack import app as gateway
from ministack.core import iam_actions, iam_evaluator
from ministack.core.responses import get_account_id, get_region
from ministack.services import ec2, eventbridge, iam, lambda_svc, s3, scheduler, sns, sqs, sts, tagging

from nightcrew_cli.local import functions, images, policies
from nightcrew_cli.local.answers import Response
from nightcrew_cli.local.authorization import caller_key, ec2_resource, tag_context
from nightcrew_cli.local.ec2_api import Ec2Api
from nightcrew_cli.local.events import EventRelay
from nightcrew_cli.local.faults import CallFault, Faults
from nightcrew_cli.local.records import tags_of
from nightcrew_cli.local.schedules import Schedules


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
    secure_transport()
    functions.install(home / "function-runtime")
    role_ids_in_sessions()
    call_faults(faults)
    images.add_public_images()


def instance_life(api: Ec2Api) -> None:
    """Instances go through pending, running, shutting-down …; ClientTokens count; a fleet obeys its request."""
    ec2._ACTION_MAP.update(api.handlers())
    # The host forgets a terminated instance itself, with its tags and after its own time.
    ec2._cleanup_terminated = lambda: None


def event_relay(relay: EventRelay) -> None:
    """Events can be lost, late and repeated; the relay also keeps a list of them."""
    eventbridge._dispatch_event = lambda event, view=None: relay.relay(event)


def authorization() -> None:
    """EC2 is asked about the right resource, with the tags of the request and of the resource."""
    _questions_of_ec2()
    enforce = iam_evaluator.enforce

    def noting_enforce(access_key_id: str, iam_action: str, service: str, *rest: Any, **more: Any) -> Any:
        caller_key.set(access_key_id)
        if service == "ec2":
            tags = tagging.resource_tags(str(more.get("resource_arn", ""))) or {}
            own_names = {f"ec2:ResourceTag/{key}": value for key, value in tags.items()}
            more["service_context"] = {**own_names, **(more.get("service_context") or {})}
        return enforce(access_key_id, iam_action, service, *rest, **more)

    iam_evaluator.enforce = noting_enforce


def _questions_of_ec2() -> None:
    resource_of, context_of = iam_actions.extract_resource_arn, iam_actions.request_tag_context
    tags_of_arn = tagging.resource_tags

    def extract_resource_arn(
        service: str, method: str, path: str, headers: Any, body: Any, params: Any, *rest: Any
    ) -> Any:
        own = ec2_resource(str(ec2._p(params, "Action")), params) if service == "ec2" else None
        return own or resource_of(service, method, path, headers, body, params, *rest)

    def request_tag_context(service: str, iam_action: str, body: bytes, params: Any) -> Any:
        # The emulator reads no tags from a launch, so a condition on them could never be met.
        own = tag_context(iam_action.partition(":")[2], params) if service == "ec2" else None
        return context_of(service, iam_action, body, params) if own is None else own

    def resource_tags(arn: str) -> Any:
        return tags_of(arn.rpartition("/")[2]) if _service_of(arn) == "ec2" else tags_of_arn(arn)

    iam_actions.extract_resource_arn = extract_resource_arn
    iam_actions.request_tag_context = request_tag_context
    tagging.resource_tags = resource_tags


def secure_transport() -> None:
    """aws:SecureTransport is true: the loopback stands in for TLS, or every TLS-only policy would deny every call."""
    pin = iam_evaluator.pin_request_origin
    gateway.pin_request_origin = lambda address, _secure: pin(address, True)
    iam_evaluator._request_origin = contextvars.ContextVar("nightcrew_request_origin", default=("127.0.0.1", True))


def policy_variables() -> None:
    """`${aws:userid}` and the like are filled in, in Resource, NotResource and condition values."""

    def first_match(context: Any, statements: list[Any], effect: str) -> Any:
        values = policies.values_of(context)
        return next((it for it in statements if it.effect == effect and _applies(it, context, values)), None)

    iam_evaluator._first_match = first_match


def _applies(statement: Any, context: Any, values: Mapping[str, Any]) -> bool:
    if not iam_evaluator._action_matches(context.action, statement.actions, statement.not_actions):
        return False
    patterns = statement.resources or statement.not_resources
    named = any(policies.resource_matches(context.resource_arn, pattern, values) for pattern in patterns)
    if named != bool(statement.resources):
        return False
    try:
        conditions = policies.conditions_filled(statement.conditions, values)
    except policies.NoValueError:
        return False
    return bool(iam_evaluator._conditions_met(conditions, context))


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
        body_text = (
            b"" if method == "HEAD" else b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        )
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
        from_rule = _service_of(source) == "events"
        if from_rule and allows and not allows(arn, "events.amazonaws.com", source, get_account_id()):
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
    """A call can be refused, or carried out while its answer is lost or late."""
    dispatch: Callable[..., Any] = gateway._dispatch_service_request

    async def dispatch_service_request(
        method: str, path: str, headers: Any, body: bytes, query_params: Any, request_id: str
    ) -> Any:
        service, call = _named_call(method, path, headers, body, query_params) if faults.calls else ("", "")
        fault = faults.for_call(call) if call else None
        if fault and fault.mode == "refuse":
            return _error(fault, service)
        response = await dispatch(method, path, headers, body, query_params, request_id)
        if fault and fault.mode == "delay":
            await _hold_back(fault, faults)
            return response
        if fault and fault.status == 0:
            raise LostAnswerError
        return _error(fault, service) if fault else response

    gateway._dispatch_service_request = dispatch_service_request


async def _hold_back(fault: CallFault, faults: Faults) -> None:
    """Wait for as long as the fault says; when the faults are cleared the answer goes out."""
    now = asyncio.get_running_loop().time
    end = now() + fault.seconds
    while now() < end and any(it is fault for it in faults.calls):
        await asyncio.sleep(min(0.1, fault.seconds))


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
