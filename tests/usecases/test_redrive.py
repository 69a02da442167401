"""Dead letters: sent again before they are deleted, and nothing is deleted that nobody has accepted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from nightcrew.usecases.operate import OperatorError
from nightcrew.usecases.redrive import DeadLetterQueue, Fate, Letter, LetterKind, Redrive, Target
from tests.builders import NOW

BOTH = tuple(DeadLetterQueue)


def letter(name: str, queue: DeadLetterQueue = DeadLetterQueue.UNDELIVERED, target: Target | None = None) -> Letter:
    kind = LetterKind.TICK if target is Target.LAUNCHER else LetterKind.EVENT if target else LetterKind.UNKNOWN
    return Letter(
        queue=queue, kind=kind, about=name, why="", sent_at=NOW, target=target, content=name, receipt=f"receipt {name}"
    )


@dataclass
class Queues:
    """Two queues in memory; what was received is hidden until it is released."""

    waiting: list[Letter]
    hidden: list[Letter] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    refuse: set[str] = field(default_factory=set)
    batch: int = 2

    def receive(self, queue: DeadLetterQueue) -> Sequence[Letter]:
        found = [letter for letter in self.waiting if letter.queue is queue][: self.batch]
        self.waiting = [letter for letter in self.waiting if letter not in found]
        self.hidden += found
        return found

    def release(self, letter: Letter) -> None:
        self._called("release", letter)
        self.hidden.remove(letter)
        self.waiting.append(letter)

    def resend(self, letter: Letter) -> None:
        self._called("resend", letter)

    def delete(self, letter: Letter) -> None:
        self._called("delete", letter)
        self.hidden.remove(letter)

    def _called(self, name: str, letter: Letter) -> None:
        if f"{name} {letter.about}" in self.refuse:
            raise OperatorError("denied")
        self.log.append(f"{name} {letter.about}")


def test_each_letter_is_sent_to_its_target_before_it_is_deleted() -> None:
    queues = Queues([letter("tick", target=Target.LAUNCHER), letter("event", target=Target.LIFECYCLE)])

    handled = list(Redrive(letters=queues).redrive(BOTH))

    assert [item.fate for item in handled] == [Fate.REDRIVEN, Fate.REDRIVEN]
    assert queues.log == ["resend tick", "delete tick", "resend event", "delete event"]
    assert (queues.waiting, queues.hidden) == ([], [])


def test_what_nobody_knows_stays_and_is_shown() -> None:
    unknown = letter("unknown")
    queues = Queues([unknown, letter("tick", target=Target.LAUNCHER)])

    handled = list(Redrive(letters=queues).redrive(BOTH))

    assert [(item.letter.about, item.fate) for item in handled] == [("unknown", Fate.LEFT), ("tick", Fate.REDRIVEN)]
    assert handled[0].note
    assert queues.waiting == [unknown]


def test_a_letter_that_is_not_accepted_is_not_deleted_and_stops_no_other() -> None:
    first, second = letter("first", target=Target.LAUNCHER), letter("second", target=Target.LAUNCHER)
    queues = Queues([first, second], refuse={"resend first"})

    handled = list(Redrive(letters=queues).redrive(BOTH))

    assert [(item.fate, item.note) for item in handled] == [(Fate.FAILED, "denied"), (Fate.REDRIVEN, "")]
    assert queues.waiting == [first]


def test_a_copy_that_cannot_be_deleted_is_told() -> None:
    queues = Queues([letter("tick", target=Target.LAUNCHER)], refuse={"delete tick"})

    [handled] = Redrive(letters=queues).redrive(BOTH)

    assert (handled.fate, handled.note) == (Fate.REDRIVEN, "its copy is still in the queue: denied")


def test_a_look_changes_nothing_and_makes_all_visible_again() -> None:
    letters = [letter(str(number), target=Target.LAUNCHER) for number in range(5)] + [letter("unknown")]
    queues = Queues(list(letters))

    seen = Redrive(letters=queues).look(BOTH)

    assert [item.fate for item in seen] == [Fate.WAITING] * 5 + [Fate.LEFT]
    assert queues.waiting == letters
    assert {line.split()[0] for line in queues.log} == {"release"}


@pytest.mark.parametrize("queue", BOTH)
def test_only_the_queue_that_was_asked_for_is_touched(queue: DeadLetterQueue) -> None:
    queues = Queues([letter(name, name, Target.LIFECYCLE) for name in DeadLetterQueue])

    handled = list(Redrive(letters=queues).redrive([queue]))

    assert [item.letter.queue for item in handled] == [queue]
    assert len(queues.waiting) == 1


def test_a_pass_ends_although_letters_come_back_at_once() -> None:
    queues = Queues([letter("poison", target=Target.LIFECYCLE)])
    resend = queues.resend

    def coming_back(sent: Letter) -> None:
        resend(sent)
        queues.waiting.append(sent)

    queues.resend = coming_back  # type: ignore[method-assign]

    handled = list(Redrive(letters=queues, limit=7).redrive([DeadLetterQueue.UNDELIVERED]))

    assert len(handled) == 7


def test_whoever_stops_in_the_middle_leaves_what_was_kept_visible() -> None:
    queues = Queues([letter("unknown"), letter("tick", target=Target.LAUNCHER)])
    pass_ = Redrive(letters=queues).redrive([DeadLetterQueue.UNDELIVERED])

    next(pass_)
    pass_.close()  # type: ignore[attr-defined]

    assert letter("unknown") in queues.waiting
