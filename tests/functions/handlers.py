"""The handlers as Lambda loads them, an invocation's context, and what an invocation printed."""

from __future__ import annotations

import importlib.util
import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).parents[2]
NAMES = ("launcher", "lifecycle", "reaper")
# What the template sets for a stack of the default name.
NAMESPACE = "Nightcrew/nightcrew"


@dataclass(frozen=True, slots=True)
class Context:
    function_name: str = "nightcrew-function"
    memory_limit_in_mb: int = 256
    invoked_function_arn: str = "arn:aws:lambda:eu-central-1:123456789012:function:nightcrew-function"
    aws_request_id: str = "0a1b2c3d-0000-4000-8000-000000000000"


@cache
def handler_module(name: str) -> ModuleType:
    """The function's app.py under a name of its own: all three are called `app` in Lambda."""
    spec = importlib.util.spec_from_file_location(f"{name}_app", ROOT / "functions" / name / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with patch.dict(os.environ, {"POWERTOOLS_METRICS_NAMESPACE": NAMESPACE}):
        spec.loader.exec_module(module)
    return module


def read_event(name: str) -> Any:
    return json.loads((ROOT / "events" / name).read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class Metric:
    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...]
    value: float


def printed_json(printed: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]


def emitted(printed: str) -> dict[str, Metric]:
    """Every metric in the embedded metric format that was printed, by name."""
    found: dict[str, Metric] = {}
    for document in printed_json(printed):
        for directive in document.get("_aws", {}).get("CloudWatchMetrics", []):
            dimensions = tuple((name, document[name]) for name in directive["Dimensions"][0])
            for metric in directive["Metrics"]:
                value = document[metric["Name"]]
                total = sum(value) if isinstance(value, list) else value
                found[metric["Name"]] = Metric(directive["Namespace"], metric["Name"], dimensions, total)
    return found
