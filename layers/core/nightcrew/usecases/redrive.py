"""Give what lies in the dead-letter queues another try: resend first, delete after, leave what nobody understands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from nightcrew.usecases.operate import OperatorError

# A pass ends, however many letters there are and however fast they come back.
LIMIT = 1000


class DeadLetterQueue(StrEnum):
    """Events that the lifecycle function failed on; and what never reached its target at all."""

    LIFECYCLE = "lifecycle"
    UNDELIVERED = "undelivered"


class LetterKind(StrEnum):
    EVENT = "event"
    TICK = "tick"
    RETRY = "retry"
    UNKNOWN = "unknown"


class Target(StrEnum):
    """Who gets the letter again."""

    LIFECYCLE = "lifecycle"
    LAUNCHER = "launcher"


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One dead letter. `about` names its job, run or worker; `why` is the last error, as far as it is told.

    `content` is what is sent again; without a `target` nobody knows where it belongs.
    """

    queue: DeadLetterQueue
    kind: LetterKind
    about: str
    why: str
    sent_at: datetime | None
    target: Target | None
    content: str
    receipt: str


class Fate(StrEnum):
    WAITING = "waiting"
    REDRIVEN = "redriven"
    LEFT = "left"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Handled:
    """What became of a letter; `note` says why it is still there, if it is."""

    letter: Letter
    fate: Fate
    note: str = ""


class DeadLetters(Protocol):
    """The two queues. Every method raises OperatorError when AWS refuses."""

    def receive(self, queue: DeadLetterQueue) -> Sequence[Letter]:
        """Return some letters and hide them from everybody else for some minutes; none when no more are there."""
        ...

    def release(self, letter: Letter) -> None:
        """Let others see it again."""
        ...

    def resend(self, letter: Letter) -> None:
        """Return only when the target's queue has accepted it."""
        ...

    def delete(self, letter: Letter) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Redrive:
    letters: DeadLetters
    limit: int = LIMIT

    def look(self, queues: Iterable[DeadLetterQueue]) -> list[Handled]:
        """Return what is there, and change nothing: every letter is visible again afterwards."""
        seen = [letter for queue in queues for letter in self._received(queue)]
        for letter in seen:
            self._release(letter)
        return [Handled(letter, Fate.WAITING if letter.target else Fate.LEFT, _unknown(letter)) for letter in seen]

    def redrive(self, queues: Iterable[DeadLetterQueue]) -> Iterator[Handled]:
        """Send each letter again and delete it once that was accepted; yield what became of it.

        A letter that is sent twice does no harm: ticks, retries and events are all idempotent. One that is lost
        would, so its copy goes last.
        """
        for queue in queues:
            kept: list[Letter] = []
            try:
                for letter in self._received(queue):
                    handled = self._again(letter)
                    if handled.fate is not Fate.REDRIVEN:
                        kept.append(letter)
                    yield handled
            finally:
                for letter in kept:
                    self._release(letter)

    def _received(self, queue: DeadLetterQueue) -> Iterator[Letter]:
        count = 0
        while count < self.limit and (letters := self.letters.receive(queue)):
            count += len(letters)
            yield from letters

    def _again(self, letter: Letter) -> Handled:
        if letter.target is None:
            return Handled(letter, Fate.LEFT, _unknown(letter))
        try:
            self.letters.resend(letter)
        except OperatorError as error:
            return Handled(letter, Fate.FAILED, str(error))
        try:
            self.letters.delete(letter)
        except OperatorError as error:
            return Handled(letter, Fate.REDRIVEN, f"its copy is still in the queue: {error}")
        return Handled(letter, Fate.REDRIVEN)

    def _release(self, letter: Letter) -> None:
        try:
            self.letters.release(letter)
        except OperatorError:
            return  # It becomes visible by itself some minutes later.


def _unknown(letter: Letter) -> str:
    return "" if letter.target else "not a message that Nightcrew knows"
