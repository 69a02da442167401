"""What went wrong, in words: every error that can reach a person, with why and the next command."""

from __future__ import annotations

from dataclasses import dataclass

from nightcrew.usecases.errors import NightcrewError
from nightcrew_cli.exits import ExitCode


@dataclass(frozen=True, slots=True)
class Failure:
    what: str
    hints: tuple[str, ...] = ()
    code: ExitCode = ExitCode.ERROR


class CommandError(NightcrewError):
    """The command line itself gives up."""

    def __init__(self, what: str, *hints: str, code: ExitCode = ExitCode.ERROR) -> None:
        super().__init__(what)
        self.failure = Failure(what, hints, code)


def explain(error: BaseException) -> Failure:
    """Return the failure to show for any error."""
    if isinstance(error, CommandError):
        return error.failure
    if isinstance(error, NightcrewError):
        return _deliberate(error)
    module = type(error).__module__.partition(".")[0]
    if module in {"botocore", "boto3"}:
        return _of_aws(error)
    if module == "nightcrew_cli":
        return Failure(str(error), ("nightcrew local status shows how the local stack stands",))
    if isinstance(error, OSError):
        return Failure(f"{error.strerror or error}" + (f": {error.filename}" if error.filename else ""))
    return Failure(
        f"internal error: {type(error).__name__}: {error}",
        ("NIGHTCREW_DEBUG=1 shows where; please report it with that",),
    )


def _deliberate(error: NightcrewError) -> Failure:
    from nightcrew.usecases.operate import NotFoundError, OperatorError

    cause = error.__cause__
    if cause is not None and type(cause).__module__.startswith("botocore"):
        found = _of_aws(cause)
        if found.hints:
            return found
    if isinstance(error, OperatorError):
        code = ExitCode.NOT_FOUND if isinstance(error, NotFoundError) else ExitCode.ERROR
        return Failure(str(error), error.hints, code)
    return Failure(str(error))


def _of_aws(error: BaseException) -> Failure:
    from nightcrew.adapters import operator_errors

    explained = operator_errors.explain(error)
    return Failure(explained.what, explained.hints)
