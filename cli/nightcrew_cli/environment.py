"""The command line's own environment, read in one place."""

from __future__ import annotations

import os
from collections.abc import Mapping

ENVIRONMENT: Mapping[str, str] = os.environ  # noqa: TID251 - settings of the person at the keyboard, not of a function


def is_set(name: str, environment: Mapping[str, str] = ENVIRONMENT) -> bool:
    """Whether a switch is on: anything but empty, 0, no and false."""
    return environment.get(name, "").strip().lower() not in {"", "0", "no", "false"}
