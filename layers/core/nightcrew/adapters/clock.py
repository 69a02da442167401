"""The clock and the source of what cannot be guessed: the two things that no record determines."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251 the one place that reads it


class SecretNonces:
    def draw(self) -> str:
        return secrets.token_hex(16)
