"""Runs the programs that do the work: docker, apt, debootstrap, sam."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from sam_local.errors import SamLocalError


def succeeds(command: Sequence[str], *, timeout: float = 60) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=timeout, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def run(
    command: Sequence[str],
    *,
    timeout: float = 600,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> str:
    """Return what the command printed; when it fails, the error shows the end of it."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, env=env, cwd=cwd, check=False, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SamLocalError(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-20:])
        raise SamLocalError(f"`{' '.join(command)}` ended with {done.returncode}:\n{tail}")
    return done.stdout
