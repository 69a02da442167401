"""Whether the local stack is up, read from its state file without loading the emulator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nightcrew_cli.failures import CommandError

if TYPE_CHECKING:
    from nightcrew_cli.local.settings import RunningHost


def running_host(environment: Mapping[str, str]) -> RunningHost | None:
    """Return the host that is up, or None. Raises CommandError when its state file is damaged."""
    from nightcrew_cli.local import settings

    home = settings.local_home(environment)
    host = settings.read_state(home)
    if host is None:
        if settings.state_file(home).exists():
            raise CommandError(
                f"the local stack's state file is damaged: {settings.state_file(home)}",
                "nightcrew local up starts anew and replaces it",
            )
        return None
    return host if settings.is_alive(host.pid) else None
