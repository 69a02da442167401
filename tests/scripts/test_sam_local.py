"""What counts as the right answer of a function that `sam local invoke` called."""

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def cases(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("sam_local.cases")


@pytest.fixture
def events(tmp_path: Path) -> Path:
    (tmp_path / "reaper").mkdir()
    (tmp_path / "reaper" / "due.json").write_text('{"sweep": "due"}', "utf-8")
    (tmp_path / "environment.json").write_text("{}", "utf-8")
    return tmp_path


def expect(events: Path, entries: Any) -> None:
    (events / "expected.json").write_text(json.dumps(entries), "utf-8")


@pytest.mark.parametrize(
    ("expected", "actual", "differences"),
    [
        pytest.param({"a": 1}, {"a": 1, "b": 2}, [], id="more than expected is fine"),
        pytest.param({"a": {"b": 1}}, {"a": {"c": 1}}, ["answer.a.b is missing"], id="less is not"),
        pytest.param({"a": 1}, {"a": "1"}, ["answer.a is '1', expected 1"], id="a text is no number"),
        pytest.param({"a": True}, {"a": 1}, ["answer.a is 1, expected True"], id="one is not true"),
        pytest.param([{"a": 1}], [{"a": 1, "b": 2}], [], id="lists go item by item"),
        pytest.param([], [1], ["answer is [1], expected []"], id="and are as long as expected"),
        pytest.param("re:run .* at .*", "run x-1 at 02:30", [], id="a pattern matches the whole text"),
        pytest.param("re:run", "run x", ["answer is 'run x', expected 're:run'"], id="not a part of it"),
        pytest.param("re:1", 1, ["answer is 1, expected 're:1'"], id="and no other type"),
        pytest.param({"a": 1}, None, ["answer is None, expected {'a': 1}"], id="no answer at all"),
    ],
)
def test_an_answer_may_say_more_than_expected(
    cases: ModuleType, expected: Any, actual: Any, differences: list[str]
) -> None:
    assert list(cases.find_differences(expected, actual)) == differences


def test_cases_come_in_the_order_in_which_they_are_written(cases: ModuleType, events: Path) -> None:
    (events / "reaper" / "all.json").write_text("{}", "utf-8")
    expect(events, {"reaper/due.json": {"answer": {}, "stack": True}, "reaper/all.json": {"answer": {}}})

    found = cases.load_cases(events)

    assert [(case.name, case.function, case.needs_stack) for case in found] == [
        ("reaper/due.json", "reaper", True),
        ("reaper/all.json", "reaper", False),
    ]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        pytest.param({}, "says nothing about reaper/due.json", id="a file without an expectation"),
        pytest.param(
            {"reaper/due.json": {"answer": {}}, "reaper/gone.json": {"answer": {}}},
            "names files that do not exist: reaper/gone.json",
            id="an expectation without a file",
        ),
        pytest.param({"reaper/due.json": {"stack": True}}, "reaper/due.json needs `answer`", id="nothing expected"),
        pytest.param({"reaper/due.json": {"answer": 1, "stak": True}}, "and nothing else", id="a misspelt key"),
    ],
)
def test_no_event_file_is_left_out_by_accident(cases: ModuleType, events: Path, entries: Any, message: str) -> None:
    expect(events, entries)

    with pytest.raises(importlib.import_module("sam_local.errors").SamLocalError, match=message):
        cases.load_cases(events)
