from __future__ import annotations

import logging
import sys
from typing import Any

import pytest

from tests.functions.handlers import NAMESPACE, Context, Metric, emitted, handler_module, printed_json
from tests.usecases.world import World


class Functions:
    """The three functions over one world in memory."""

    def __init__(self, world: World, capsys: pytest.CaptureFixture[str]) -> None:
        self.world = world
        self.metrics: dict[str, Metric] = {}
        self.log: list[dict[str, Any]] = []
        self._capsys = capsys

    def __call__(self, name: str, payload: Any) -> Any:
        self._capsys.readouterr()
        try:
            return handler_module(name).lambda_handler(payload, Context())
        finally:
            printed = self._capsys.readouterr().out
            self.metrics = emitted(printed)
            self.log = [line for line in printed_json(printed) if "_aws" not in line]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def functions(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], echo_logs: None
) -> Functions:
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", NAMESPACE)
    monkeypatch.setattr(handler_module("launcher"), "use_case", world.launcher)
    monkeypatch.setattr(handler_module("lifecycle"), "use_case", world.watch)
    monkeypatch.setattr(
        handler_module("reaper"), "sweeps", lambda: {"due": world.due_sweep(), "inventory": world.inventory_sweep()}
    )
    return Functions(world, capsys)


@pytest.fixture
def echo_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log to the stdout of this very test: the handlers' loggers were made with that of an earlier one."""

    class Echo(logging.StreamHandler[Any]):
        def emit(self, record: logging.LogRecord) -> None:
            sys.stdout.write(f"{self.format(record)}\n")

    for name in ("launcher", "lifecycle", "reaper"):
        logger = handler_module(name).logger
        for handler in logger._logger.handlers:
            echo = Echo()
            echo.setFormatter(handler.formatter)
            monkeypatch.setattr(logger._logger, "handlers", [echo])
