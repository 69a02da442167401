"""What every fake client shares: each outside call takes time, may fail in any of AWS's ways, and may be the last."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    ReadTimeoutError,
)

from tests.simulation.kernel import Invocation, Killed

if TYPE_CHECKING:
    from tests.simulation.world import World

T = TypeVar("T")

THROTTLES = {
    "ec2": ("RequestLimitExceeded", 503),
    "dynamodb": ("ThrottlingException", 400),
    "s3": ("SlowDown", 503),
    "sns": ("Throttling", 400),
    "lambda": ("TooManyRequestsException", 429),
    "ssm": ("ThrottlingException", 400),
}
DENIALS = {
    "ec2": "UnauthorizedOperation",
    "s3": "AccessDenied",
    "sns": "AuthorizationError",
}
SERVER_ERRORS = {"dynamodb": "InternalServerError", "ec2": "InternalError", "lambda": "ServiceException"}
# Errors that are answers: somebody was faster, or there is nothing there.
_ANSWERS = {"ConditionalCheckFailedException", "TransactionCanceledException", "NoSuchKey"}
_RETRIED = {code for code, _ in THROTTLES.values()} | {"ProvisionedThroughputExceededException"}


def client_error(code: str, message: str, operation: str, status: int = 400, **more: Any) -> ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
        **more,
    }
    return ClientError(response, operation)


def is_retried_by_sdk(error: Exception) -> bool:
    """botocore's standard mode: throttles, 5xx and connections that broke."""
    if isinstance(error, ClientError):
        code = error.response["Error"]["Code"]
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        return code in _RETRIED or status in {500, 502, 503, 504}
    return isinstance(error, BotoCoreError)


class Client:
    """`attempts` and `timeout` are the SDK's, as wiring.py configures them."""

    service = ""

    def __init__(self, world: World, attempts: int = 4, timeout: float = 15.0) -> None:
        self._world, self._attempts, self._timeout = world, attempts, timeout

    def _call(self, operation: str, act: Callable[[], T], *, writes: bool = False) -> T:
        """Do the call as the SDK does: again after throttles and broken connections, up to its limit."""
        invocation = self._world.kernel.current()
        if invocation is None:
            return act()
        for attempt in range(1, self._attempts + 1):
            try:
                return self._once(operation, act, writes=writes)
            except (BotoCoreError, ClientError) as error:
                self._world.kernel.note(f"#{invocation.number}", self.service, operation, "->", error)
                if attempt == self._attempts or not is_retried_by_sdk(error):
                    if self._must_show(operation, error, invocation):
                        invocation.unheard.append(f"{self.service} {operation}: {error}")
                    raise
            self._world.kernel.pause(min(20.0, 2.0**attempt) * self._world.dice.between(0, 1, "backoff"))
        raise AssertionError

    def _once(self, operation: str, act: Callable[[], T], *, writes: bool) -> T:
        world, dice = self._world, self._world.dice
        invocation = world.kernel.current()
        assert invocation is not None
        latency = self._latency(operation)
        if latency > self._timeout:
            self._give_up(act, latency)
        world.kernel.pause(latency)
        invocation.calls += 1
        world.calls += 1
        if world.calls == world.cut_before or dice.fault("crash"):
            dice.fired["cut"] += world.calls == world.cut_before
            invocation.faults += 1
            raise Killed("crash")
        self._trouble(operation)
        answer = act()
        world.kernel.note(f"#{invocation.number}", self.service, operation, "ok")
        if world.calls == world.cut_after:
            dice.fired["cut"] += 1
            invocation.faults += 1
            raise Killed("crash")
        if writes and dice.fault("lost_answer"):
            invocation.faults += 1
            if dice.between(0, 1, "lost") < 0.3:
                world.kernel.pause(self._timeout)
                raise ReadTimeoutError(endpoint_url=f"https://{self.service}")
            raise ConnectionClosedError(endpoint_url=f"https://{self.service}")
        return answer

    def _must_show(self, operation: str, error: BotoCoreError | ClientError, invocation: Invocation) -> bool:
        """Whether no code may go on as if nothing had happened: the invocation, or the message, has to fail."""
        if self.service == "ec2":
            return operation.startswith("describe_") and invocation.payload == {"sweep": "inventory"}
        code = error.response["Error"]["Code"] if isinstance(error, ClientError) else ""
        return code not in _ANSWERS

    def _fault(self, kind: str) -> bool:
        """Say whether the service does this to the call, and remember that the invocation was disturbed."""
        if not self._world.dice.fault(kind):
            return False
        self._disturbed("")
        return True

    def _disturbed(self, kind: str) -> None:
        invocation = self._world.kernel.current()
        if invocation is not None:
            invocation.faults += 1
        if kind:
            self._world.dice.fired[kind] += 1

    def _give_up(self, act: Callable[[], object], latency: float) -> None:
        """The answer takes longer than the SDK waits; half of such requests are carried out all the same, later."""
        world = self._world
        invocation = world.kernel.current()
        assert invocation is not None
        invocation.faults += 1
        if world.dice.between(0, 1, "late") < 0.5:
            world.kernel.after(latency, _carry_out_late, act)
        world.kernel.pause(self._timeout)
        raise ReadTimeoutError(endpoint_url=f"https://{self.service}")

    def _latency(self, operation: str) -> float:
        dice = self._world.dice
        if operation == "CreateFleet":
            return dice.between(0.8, 5, "latency")
        if dice.fault("slow_call"):
            return dice.between(1, self._timeout + 8, "slow")
        return 0.005 + 0.05 * dice.stream("latency").random()

    def _trouble(self, operation: str) -> None:
        """Raise what goes wrong before the service does anything."""
        world, dice = self._world, self._world.dice
        invocation = world.kernel.current()
        assert invocation is not None
        trouble = world.outage(self.service, operation)
        if trouble:
            invocation.faults += 1
            dice.fired[f"during_{trouble}"] += 1
        if trouble == "silent":
            world.kernel.pause(self._timeout)
            raise ReadTimeoutError(endpoint_url=f"https://{self.service}")
        if trouble == "down" or dice.fault("refused_connection"):
            invocation.faults += 1
            raise EndpointConnectionError(endpoint_url=f"https://{self.service}")
        if trouble == "denied":
            code = DENIALS.get(self.service, "AccessDeniedException")
            raise client_error(code, "You are not authorized to perform this operation.", operation, 403)
        if trouble == "throttled" or dice.fault("throttle"):
            invocation.faults += 1
            code, status = THROTTLES.get(self.service, ("ThrottlingException", 400))
            raise client_error(code, "Request limit exceeded.", operation, status)
        if dice.fault("server_error"):
            invocation.faults += 1
            code = SERVER_ERRORS.get(self.service, "InternalError")
            raise client_error(code, "An internal error has occurred", operation, 500)


def _carry_out_late(act: Callable[[], object]) -> None:
    with contextlib.suppress(ClientError):
        act()
