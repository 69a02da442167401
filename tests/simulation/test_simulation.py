"""Some hundred nights, every story cut at every call, and that a night is the same each time."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from tests.simulation import memory
from tests.simulation.mutants import Mutant, mutants
from tests.simulation.night import live
from tests.simulation.plain import STORIES, cut_everywhere
from tests.simulation.scenario import Deed, Outage, draw
from tests.simulation.shrink import kind_of, shrink

NIGHTS, AT_ONCE = 200, 20
CUT_HERE = ("success", "failure, then a second attempt", "Spot is sold out")
# The seed that notices each of these first; all mutants: python -m tests.simulation --mutants.
NOTICED = {
    "the record is saved after the launch": 0,
    "any launcher may go on to another token": 46,
    "a result of another launch is accepted": 0,
    "the sweep ends whatever looks like ours": 1,
    "the sweep does not see stopped workers": 0,
    "a run that waits for its retry is not in the due index": 0,
}


@pytest.mark.parametrize("first", range(0, NIGHTS, AT_ONCE))
def test_every_promise_holds_in_every_night(first: int) -> None:
    problems = {seed: night.problem for seed in range(first, first + AT_ONCE) if (night := live(draw(seed))).problem}

    assert problems == {}


@pytest.mark.parametrize("name", CUT_HERE)
def test_an_invocation_may_die_at_any_outside_call(name: str) -> None:
    problems = [
        (cut.cut_before, cut.cut_after, night.problem) for cut, night in cut_everywhere(STORIES[name]) if night.problem
    ]

    assert problems == []


@pytest.mark.parametrize("name", STORIES)
def test_a_plain_story_ends_well(name: str) -> None:
    assert live(STORIES[name]).problem == ""


def test_the_stories_end_as_they_are_called() -> None:
    outcomes = {name: set(live(story).outcomes) for name, story in STORIES.items()}

    assert outcomes["success"] == {"succeeded"}
    assert outcomes["failure, then a second attempt"] == {"failed"}
    assert outcomes["the worker hangs to its deadline"] == {"deadline_exceeded"}
    assert outcomes["the tick is lost"] == {"missed"}
    assert outcomes["every event is lost"] == {"succeeded"}
    assert outcomes["Spot is sold out"] == {"no_capacity"}
    assert outcomes["cancelled while it runs"] == {"cancelled"}


def test_the_same_seed_is_the_same_night() -> None:
    def checksums() -> list[int]:
        return [live(draw(seed)).checksum for seed in range(5)]

    assert checksums() == checksums()


def test_the_same_seed_is_the_same_night_in_another_process() -> None:
    code = (
        "from tests.simulation.night import live\n"
        "from tests.simulation.scenario import draw\n"
        "print(*(live(draw(seed)).checksum for seed in range(3)))"
    )
    command = [sys.executable, "-c", code]
    told = subprocess.run(command, env={"PYTHONHASHSEED": "7"}, capture_output=True, text=True, check=True).stdout

    assert told.split() == [str(live(draw(seed)).checksum) for seed in range(3)]


@pytest.fixture
def _without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "enabled", False)


def test_the_memory_for_records_changes_nothing(request: pytest.FixtureRequest) -> None:
    remembered = [live(draw(seed)).checksum for seed in range(5)]

    request.getfixturevalue("_without_memory")

    assert [live(draw(seed)).checksum for seed in range(5)] == remembered


@pytest.mark.parametrize("mutant", [it for it in mutants() if it.name in NOTICED], ids=lambda it: it.name)
def test_a_deliberate_bug_is_noticed(mutant: Mutant) -> None:
    with mutant.patches():
        night = live(draw(NOTICED[mutant.name]))

    assert night.problem.startswith("promise")


def test_a_failure_is_made_smaller() -> None:
    mutant = next(it for it in mutants() if it.name == "the sweep ends whatever looks like ours")
    scenario = replace(
        draw(1), outages=(Outage("s3", "*", "down", 0.0, 60.0),), deeds=(Deed(5.0, "poison"), Deed(9.0, "manual"))
    )
    with mutant.patches():
        whole = live(scenario)
        smaller, night = shrink(scenario)

    assert kind_of(night.problem) == kind_of(whole.problem)
    assert len(smaller.rates) + len(smaller.outages) + len(smaller.deeds) == 0
    assert night.trace
