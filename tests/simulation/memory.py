"""Speed only: writing and reading records would be two thirds of a night.

Records are frozen values, so equal texts may share one run, and what was written once need not be spelled out again.
`test_simulation.py` shows that nights with and without this memory are the same, call for call.
"""

from __future__ import annotations

from typing import Any

from nightcrew.adapters import codec, exchange, run_store
from nightcrew.domain.job import Job
from nightcrew.domain.plan import LaunchPlan
from nightcrew.domain.run import Attempt, Entry, Run

MOST = 20_000
enabled = True

_real_item, _real_read, _real_encode = run_store.DynamoRuns._item, run_store._run, codec.encode
_real_program = exchange.program_source
_runs: dict[str, Run] = {}
_parts: dict[int, tuple[Any, Any]] = {}
_SHARED = frozenset({Job, LaunchPlan, Attempt, Entry})


def remember() -> None:
    if enabled:
        run_store.DynamoRuns._item = _item  # type: ignore[method-assign]
        run_store._run = read
        run_store.encode = codec.encode = _encode  # type: ignore[attr-defined]
        exchange.program_source = lambda: "the program"


def forget() -> None:
    run_store.DynamoRuns._item = _real_item  # type: ignore[method-assign]
    run_store._run = _real_read
    run_store.encode = codec.encode = _real_encode  # type: ignore[attr-defined]
    exchange.program_source = _real_program
    _runs.clear()
    _parts.clear()


def read(item: dict[str, Any]) -> Run:
    text = item["record"]["S"]
    run = _runs.get(text)
    if run is None:
        run = _runs[text] = _real_read(item)
    return run


def _item(self: run_store.DynamoRuns, run: Run) -> dict[str, Any]:
    item = _real_item(self, run)
    _runs.setdefault(item["record"]["S"], run)
    return item


def _encode(value: Any) -> Any:
    if type(value) not in _SHARED:
        return _real_encode(value)
    known = _parts.get(id(value))
    if known is None:
        known = _parts[id(value)] = (value, _real_encode(value))
    return known[1]
