"""What AWS's answers to a person's own calls mean, and what that person can do about them."""

from __future__ import annotations

from dataclasses import dataclass

from botocore import exceptions as boto
from botocore.exceptions import BotoCoreError, ClientError

from nightcrew.adapters import aws_errors

EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired", "InvalidIdentityToken"})
INVALID_CREDENTIALS = frozenset(
    {
        "InvalidClientTokenId",
        "UnrecognizedClientException",
        "SignatureDoesNotMatch",
        "InvalidAccessKeyId",
        "AuthFailure",
    }
)
NO_RESOURCE = frozenset({"ResourceNotFoundException", "NoSuchKey", "404"})
NO_STACK = frozenset({"ValidationError"})
EXISTS = frozenset({"ConflictException"})
WRONG_CLOCK = frozenset({"RequestTimeTooSkewed", "InvalidSignatureException"})


@dataclass(frozen=True, slots=True)
class Explanation:
    what: str
    hints: tuple[str, ...] = ()


_LOG_IN = "aws sso login, or aws configure; nightcrew --profile NAME picks a profile"
_LOCAL = "without an account: nightcrew local up, then add --local"


def explain(error: BaseException) -> Explanation:
    """Return what to tell about an error of botocore."""
    if isinstance(error, ClientError):
        return _of_answer(error)
    match error:
        case boto.NoCredentialsError() | boto.PartialCredentialsError():
            return Explanation("no AWS credentials were found", (_LOG_IN, _LOCAL))
        case boto.ProfileNotFound():
            return Explanation(str(error), ("aws configure list-profiles shows which there are",))
        case boto.NoRegionError():
            return Explanation("no AWS Region is set", ("give --region, or set AWS_REGION", _LOCAL))
        case boto.SSOError() | boto.UnauthorizedSSOTokenError() | boto.TokenRetrievalError():
            return Explanation(f"the AWS session has ended: {error}", (_LOG_IN,))
        case boto.HTTPClientError() | boto.ConnectionError():
            return Explanation(
                f"AWS cannot be reached: {error}",
                ("is the Region right, and is there a network?", "for the local stack: nightcrew local status"),
            )
        case BotoCoreError():
            return Explanation(str(error))
        case _:
            return Explanation(f"{type(error).__name__}: {error}")


def _of_answer(error: ClientError) -> Explanation:
    code = aws_errors.code_of(error)
    message = f"{error.operation_name}: {aws_errors.message_of(error)}"
    if code in EXPIRED:
        return Explanation("the AWS credentials have expired", (_LOG_IN,))
    if code in INVALID_CREDENTIALS:
        return Explanation(f"AWS does not know these credentials ({message})", (_LOG_IN, _LOCAL))
    if code in WRONG_CLOCK:
        return Explanation(message, ("is this machine's clock right?",))
    if code in aws_errors.DENIED:
        return Explanation(f"AWS refused: {message}", ("aws sts get-caller-identity shows who you are",))
    if code in aws_errors.THROTTLED:
        return Explanation(f"AWS is throttling: {message}", ("try again in a moment",))
    return Explanation(message)


def is_missing_stack(error: ClientError) -> bool:
    """CloudFormation answers a validation error for a stack that does not exist."""
    return aws_errors.code_of(error) in NO_STACK and "does not exist" in aws_errors.message_of(error)


def is_missing(error: ClientError) -> bool:
    return aws_errors.code_of(error) in NO_RESOURCE
