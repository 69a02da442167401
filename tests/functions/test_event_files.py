"""The files under events/ are what the functions really get, and expected.json says what they answer."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest

from nightcrew.usecases.errors import NightcrewError
from tests.functions.conftest import Functions
from tests.functions.handlers import NAMES, ROOT, read_event

pytestmark = pytest.mark.filterwarnings("ignore:No application metrics to publish")

FILES = sorted(path.relative_to(ROOT / "events").as_posix() for path in (ROOT / "events").glob("*/*.json"))
EXPECTED: dict[str, dict[str, Any]] = read_event("expected.json")


def test_every_function_has_event_files_and_every_file_an_expected_answer() -> None:
    assert {name.split("/")[0] for name in FILES} == set(NAMES)
    assert sorted(EXPECTED) == FILES


@pytest.mark.parametrize("name", FILES)
def test_a_function_answers_its_event_file_as_expected(functions: Functions, name: str) -> None:
    expected = EXPECTED[name]["answer"]

    if "errorType" in expected:
        with pytest.raises(Exception, match=r"\w") as raised:
            functions(name.split("/")[0], read_event(name))
        assert raised.typename == expected["errorType"]
    else:
        answer = functions(name.split("/")[0], read_event(name))
        assert {key: answer[key] for key in expected} == expected


@pytest.mark.parametrize("name", [name for name in FILES if not EXPECTED[name].get("stack")])
def test_an_event_that_needs_no_stack_asks_nothing_of_the_world(functions: Functions, name: str) -> None:
    with contextlib.suppress(ValueError, NightcrewError):
        functions(name.split("/")[0], read_event(name))

    assert functions.world.calls == []


@pytest.mark.parametrize("name", [name for name in FILES if "errorType" not in EXPECTED[name]["answer"]])
def test_every_answer_is_json(functions: Functions, name: str) -> None:
    answer = functions(name.split("/")[0], read_event(name))

    assert json.loads(json.dumps(answer)) == answer
