"""The ledger of ClientTokens: a repeated request gets the first answer and launches nothing.

The rule (EC2 user guide, "Ensuring idempotency"): same token and same parameters give the first answer, a changed
parameter gives IdempotentParameterMismatch, Region and Availability Zone are exempt from the comparison. RunInstances
counts a token per zone when a subnet or zone is named, so each zone can launch once. A request that failed leaves its
token free.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

NOT_COMPARED = frozenset({"ClientToken", "Version", "Action", "DryRun"})
ZONAL = frozenset({"SubnetId", "Placement.AvailabilityZone"})


@dataclass(frozen=True, slots=True)
class Entry:
    fingerprint: str
    answer: bytes
    instance_ids: tuple[str, ...]


class TokenMismatchError(Exception):
    """The token was used with other parameters."""


class TokenLedger:
    """Remembers which token was answered with what, per account, Region, call and zone."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, ...], Entry] = {}

    def find(self, key: tuple[str, ...], parameters: Mapping[str, object]) -> Entry | None:
        """Return the first answer, or None when the token is new. Raise when the parameters changed."""
        entry = self._entries.get(key)
        if entry and entry.fingerprint != fingerprint(parameters):
            raise TokenMismatchError
        return entry

    def keep(
        self, key: tuple[str, ...], parameters: Mapping[str, object], *, answer: bytes, instance_ids: Iterable[str]
    ) -> None:
        self._entries[key] = Entry(fingerprint(parameters), answer, tuple(instance_ids))


def fingerprint(parameters: Mapping[str, object]) -> str:
    compared = {name: value for name, value in parameters.items() if name not in NOT_COMPARED | ZONAL}
    return hashlib.sha256(json.dumps(compared, sort_keys=True).encode()).hexdigest()
