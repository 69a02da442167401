"""AWS error codes, grouped by what we do about them. The only place where they are written down."""

from __future__ import annotations

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from nightcrew.domain.plan import RefusalKind
from nightcrew.domain.sweep import EndCause

# What a call may raise. An answer that was garbled on its way is neither of botocore's two families.
FAILURES = (BotoCoreError, ClientError, ResponseParserError)
Failure = BotoCoreError | ClientError | ResponseParserError

THROTTLED = frozenset(
    {
        "EC2ThrottledException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
# The request may have been carried out: only the same call with the same token is safe.
AMBIGUOUS = frozenset({"InternalError", "InternalFailure", "ServerInternal", "ServiceUnavailable", "Unavailable"})
# InsufficientInstanceCapacity comes with HTTP 500: status codes say nothing here.
CAPACITY = frozenset(
    {
        "InsufficientAddressCapacity",
        "InsufficientCapacity",
        "InsufficientFreeAddressesInSubnet",
        "InsufficientHostCapacity",
        "InsufficientInstanceCapacity",
        "InsufficientReservedInstanceCapacity",
        "InsufficientVolumeCapacity",
        "ReservationCapacityExceeded",
        "SpotMaxPriceTooLow",
        "UnfulfillableCapacity",
        "Unsupported",
    }
)
QUOTA = frozenset(
    {
        "InstanceLimitExceeded",
        "MaxFleetCountExceeded",
        "MaxSpotInstanceCountExceeded",
        "SpotInstanceCountLimitExceeded",
        "VcpuLimitExceeded",
        "VolumeLimitExceeded",
    }
)
DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AuthFailure",
        "AuthFailure.ServiceLinkedRoleCreationNotPermitted",
        "Blocked",
        "OptInRequired",
        "PendingVerification",
        "TagPolicyViolation",
        "UnauthorizedOperation",
    }
)
# An instance that is no more; its tags go first, so a tag-conditioned permission answers DENIED instead.
NOT_FOUND = frozenset(
    {
        "InvalidInstanceID.NotFound",
        "InvalidInstanceID.Malformed",
        "InvalidVolume.NotFound",
        "InvalidNetworkInterfaceID.NotFound",
        "NoSuchKey",
        "404",
    }
)
PAST_THE_END = frozenset({"InvalidRange", "416"})
PROTECTED = frozenset({"OperationNotPermitted"})
# Stopping what is pending, or on its way out already.
WRONG_STATE = frozenset({"IncorrectInstanceState"})
# Refusals of a whole batch for the sake of one id in it.
ABOUT_ONE_ID = NOT_FOUND | PROTECTED | WRONG_STATE | {"UnauthorizedOperation", "UnsupportedOperation"}
TOKEN_OF_ENDED_WORKER = frozenset({"IdempotentInstanceTerminated"})
CONDITION_FAILED = frozenset({"ConditionalCheckFailedException", "TransactionCanceledException"})

_END_CAUSES = {
    "Client.InstanceInitiatedShutdown": EndCause.ITSELF,
    "Client.UserInitiatedShutdown": EndCause.OUTSIDE,
    "Client.UserInitiatedHibernate": EndCause.OUTSIDE,
    "Client.InstanceTerminated": EndCause.OUTSIDE,
    "Server.SpotInstanceTermination": EndCause.INTERRUPTION,
    "Server.SpotInstanceShutdown": EndCause.INTERRUPTION,
    "Server.ScheduledStop": EndCause.INTERRUPTION,
    "Server.InsufficientInstanceCapacity": EndCause.NO_CAPACITY,
    "Client.VolumeLimitExceeded": EndCause.QUOTA,
    "Client.InternalError": EndCause.NOT_STARTABLE,
    "Client.InvalidSnapshot.NotFound": EndCause.NOT_STARTABLE,
}


def code_of(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def message_of(error: Failure) -> str:
    if isinstance(error, ClientError):
        return f"{code_of(error)}: {error.response.get('Error', {}).get('Message', '')}"
    return str(error)


def refusal_kind(code: str) -> RefusalKind:
    """Return what a definite refusal means; what nobody knows is a configuration error: loud, and not repeated."""
    if code in THROTTLED:
        return RefusalKind.THROTTLED
    if code in CAPACITY:
        return RefusalKind.CAPACITY
    if code in QUOTA:
        return RefusalKind.QUOTA
    if code in DENIED:
        return RefusalKind.PERMISSION
    if code in TOKEN_OF_ENDED_WORKER:
        return RefusalKind.WORKER_GONE
    return RefusalKind.CONFIGURATION


def is_ambiguous(error: Failure) -> bool:
    """Whether the call may have been carried out although it failed: no answer, or an internal error.

    What nobody knows is a definite refusal only as long as AWS blames the request for it: the answer of a
    gateway in between, say 502, has a code of its own.
    """
    if not isinstance(error, ClientError):
        return True
    code = code_of(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return code in AMBIGUOUS or (status >= 500 and refusal_kind(code) is RefusalKind.CONFIGURATION)


def end_cause(state_reason_code: str) -> EndCause:
    return _END_CAUSES.get(state_reason_code, EndCause.UNKNOWN)
