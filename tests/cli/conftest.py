from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.stage import Stage


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """The program, connected to memory only; neither AWS nor the local stack can be reached by mistake."""
    stage = Stage()

    def connect(options: Any, environment: Any) -> Stage:
        stage.options = options
        return stage

    monkeypatch.setattr("nightcrew_cli.session.connect", connect)
    monkeypatch.setattr("nightcrew_cli.invocation.SystemClock", lambda: stage.clock)
    for name in ("NIGHTCREW_LOCAL", "NIGHTCREW_STACK", "NIGHTCREW_DEBUG", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    return stage


@pytest.fixture
def snapshot_of(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a screen with the one that is kept; NIGHTCREW_SNAPSHOTS=1 keeps the new one."""
    folder = Path(__file__).parent / "screens"

    def compare(name: str, screen: str) -> None:
        # A revision changes with every default of the job format; its place on the screen does not.
        screen = re.sub(r"\b[0-9a-f]{12}\b", "abcdef012345", screen)
        path = folder / f"{name}.txt"
        if os.environ.get("NIGHTCREW_SNAPSHOTS"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(screen)
        assert screen == path.read_text()

    return compare
