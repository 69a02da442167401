"""redrive: shown first, asked for, and told what became of each letter."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from nightcrew.usecases.operate import OperatorError
from nightcrew.usecases.redrive import DeadLetterQueue, Letter, LetterKind, Redrive, Target
from nightcrew_cli.exits import ExitCode
from tests.builders import NOW
from tests.cli.stage import Stage

Compare = Callable[[str, str], None]


class Queues:
    """The dead-letter queues in memory."""

    def __init__(self) -> None:
        self.waiting = [
            letter(DeadLetterQueue.LIFECYCLE, LetterKind.EVENT, "EC2 State-change i-00000001", "failed five times"),
            letter(DeadLetterQueue.UNDELIVERED, LetterKind.TICK, "nightly-report at 2026-01-16T02:30:00Z", "throttled"),
            letter(DeadLetterQueue.UNDELIVERED, LetterKind.UNKNOWN, "garbage", ""),
        ]
        self.hidden: list[Letter] = []
        self.sent: list[str] = []
        self.refuses = False

    def receive(self, queue: DeadLetterQueue) -> list[Letter]:
        found = [letter for letter in self.waiting if letter.queue is queue]
        self.waiting = [letter for letter in self.waiting if letter.queue is not queue]
        self.hidden += found
        return found

    def release(self, letter: Letter) -> None:
        self.hidden.remove(letter)
        self.waiting.append(letter)

    def resend(self, letter: Letter) -> None:
        if self.refuses:
            raise OperatorError("AWS refused: Invoke: AccessDeniedException")
        self.sent.append(letter.about)

    def delete(self, letter: Letter) -> None:
        self.hidden.remove(letter)


def letter(queue: DeadLetterQueue, kind: LetterKind, about: str, why: str) -> Letter:
    targets = {LetterKind.EVENT: Target.LIFECYCLE, LetterKind.TICK: Target.LAUNCHER}
    return Letter(
        queue=queue,
        kind=kind,
        about=about,
        why=why,
        sent_at=NOW - timedelta(hours=3),
        target=targets.get(kind),
        content="{}",
        receipt=about,
    )


@pytest.fixture
def queues(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Queues:
    queues = Queues()
    monkeypatch.setattr("nightcrew_cli.recovery.redrive", lambda connection: Redrive(letters=queues))
    return queues


def test_a_dry_run_shows_what_is_there_and_sends_nothing(stage: Stage, queues: Queues, snapshot_of: Compare) -> None:
    result = stage("redrive", "--dry-run")

    assert result.exit_code == 0
    snapshot_of("redrive_dry_run", result.stdout)
    assert (queues.sent, len(queues.waiting)) == ([], 3)


def test_with_yes_everything_that_is_known_is_sent_and_the_rest_stays(
    stage: Stage, queues: Queues, snapshot_of: Compare
) -> None:
    result = stage("redrive", "--yes")

    assert result.exit_code == 0
    snapshot_of("redrive", result.stdout)
    assert len(queues.sent) == 2
    assert [letter.about for letter in queues.waiting] == ["garbage"]


def test_where_nobody_can_answer_nothing_is_sent_without_yes(stage: Stage, queues: Queues) -> None:
    result = stage("redrive")

    assert result.exit_code == ExitCode.USAGE
    assert "2 messages will be sent again" in result.stderr
    assert "nightly-report" in result.stdout
    assert queues.sent == []


@pytest.mark.parametrize(("answer", "sent"), [(True, 2), (False, 0)])
def test_a_person_is_asked_first(
    stage: Stage, queues: Queues, monkeypatch: pytest.MonkeyPatch, answer: bool, sent: int
) -> None:
    from types import SimpleNamespace

    monkeypatch.setattr(
        "nightcrew_cli.commands.redrive.sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
    )
    monkeypatch.setattr("typer.confirm", lambda *_, **__: answer)

    stage("redrive")

    assert len(queues.sent) == sent


def test_one_queue_can_be_chosen(stage: Stage, queues: Queues) -> None:
    stage("redrive", "--queue", "lifecycle", "-y")

    assert queues.sent == ["EC2 State-change i-00000001"]


def test_what_is_refused_is_still_there_and_fails_the_command(stage: Stage, queues: Queues) -> None:
    queues.refuses = True

    result = stage("redrive", "-y")

    assert result.exit_code == ExitCode.ERROR
    assert "still there" in result.stderr
    assert len(queues.waiting) == 3


def test_programs_get_one_answer_with_absolute_times(stage: Stage, queues: Queues) -> None:
    answer: list[dict[str, Any]] = json.loads(stage("redrive", "-y", "-o", "json").stdout)

    assert [item["fate"] for item in answer] == ["redriven", "redriven", "left"]
    assert answer[1]["sent_at"] == "2026-01-15T23:30:00+00:00"


def test_empty_queues_and_queues_of_the_unknown_only_have_nothing_to_send(stage: Stage, queues: Queues) -> None:
    queues.waiting = queues.waiting[2:]
    unknown = stage("redrive")
    queues.waiting = []
    empty = stage("redrive")

    assert (unknown.exit_code, empty.exit_code) == (ExitCode.ERROR, 0)
    assert empty.stdout == "the dead-letter queues are empty\n"
