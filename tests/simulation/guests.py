"""What happens on a worker: the honest program, and all the ways in which a machine can fail, hang or lie."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from nightcrew.domain.tags import parse_time
from tests.simulation.ec2 import Instance
from tests.simulation.kernel import seconds_of

if TYPE_CHECKING:
    from tests.simulation.world import World

ROSTER_WAIT, MARGIN, SHORT_LIFE = 600.0, 120.0, 900.0


class Behaviour(StrEnum):
    SUCCEEDS = "succeeds"
    FAILS = "fails"
    CANNOT_START = "cannot_start"
    HANGS = "hangs"
    """The command never ends, nor does the worker's own timeout work; the timer does."""
    DIES = "dies"
    """The guest is gone, the instance runs on, and no timer is left."""
    POWERS_OFF = "powers_off"
    """The machine goes down in the middle of the work, without a result."""
    NEVER_BOOTS = "never_boots"
    GARBAGE = "garbage"
    FORGES = "forges"
    """Claims success for another launch, under its own prefix."""
    LIES = "lies"
    """Claims success at once and runs for ever."""
    DAWDLES = "dawdles"
    """Reports honestly and never shuts down."""


@dataclass(eq=False)
class Guest:
    """One boot of one instance. `timer_works` is its own deadline; `clock_error` its clock, in seconds."""

    world: World
    instance: Instance
    behaviour: Behaviour
    work: float
    timer_works: bool = True
    clock_error: float = 0.0
    alive: bool = True
    awaited: str = ""
    roster: dict[str, Any] = field(default_factory=dict)
    is_done: bool = False
    is_reclaimed: bool = False

    def __post_init__(self) -> None:
        boot = self.world.dice.between(5, 60, "guest")
        if self.behaviour is not Behaviour.NEVER_BOOTS:
            self._later(boot, self._booted)

    # ---- What the world does to it ---------------------------------------------------------------------------

    def die(self) -> None:
        self.alive = False
        self.world.waiting_guests.pop(self.awaited, None)

    def warned(self) -> None:
        """The guest reads of its interruption in the instance metadata."""
        self._later(self.world.dice.between(0, 5, "guest"), self._reclaimed)

    def found_roster(self) -> None:
        if self.alive and self.awaited:
            self.world.waiting_guests.pop(self.awaited, None)
            self.awaited = ""
            self._later(self.world.dice.between(0, 3, "guest"), self._begin)

    # ---- Its life --------------------------------------------------------------------------------------------

    def _later(self, seconds: float, then: Any, *arguments: Any) -> None:
        self.world.kernel.after(max(0.0, seconds), self._if_alive, then, arguments)

    def _if_alive(self, then: Any, arguments: tuple[Any, ...]) -> None:
        if self.alive:
            then(*arguments)

    def _booted(self) -> None:
        deadline = parse_time(self.instance.tags.get("nightcrew:deadline", ""))
        now = self.world.kernel.now
        left = SHORT_LIFE if deadline is None else seconds_of(deadline) - now - self.clock_error
        if deadline is not None and left <= 0:
            self._power_off()
            return
        if self.timer_works:
            self._later(left + MARGIN, self._power_off)
        launch = self.instance.tags.get("nightcrew:launch", "")
        self.awaited = f"launches/{launch}/roster.json"
        self.world.waiting_guests[self.awaited] = self
        self._later(ROSTER_WAIT, self._give_up_waiting)
        if self.awaited in self.world.bucket.objects:
            self.found_roster()

    def _give_up_waiting(self) -> None:
        if self.awaited:
            self._power_off()

    def _begin(self) -> None:
        if self.world.outage("s3", "GetObject"):
            self._later(3, self._begin)
            return
        launch = self.instance.tags["nightcrew:launch"]
        self.roster = json.loads(self.world.bucket.objects[f"launches/{launch}/roster.json"])
        if self.instance.instance_id not in self.roster["tasks"]:
            self._power_off()
            return
        self.world.worked(self.instance)
        timeout = float(self.roster["timeout"])
        match self.behaviour:
            case Behaviour.HANGS:
                return
            case Behaviour.DIES:
                self._later(self.work / 2, self._crash)
            case Behaviour.POWERS_OFF:
                self._later(self.work / 2, self._power_off)
            case Behaviour.CANNOT_START:
                self._later(1, self._end, "start_failed", None)
            case Behaviour.LIES:
                self._later(1, self._write, self._document("succeeded", 0))
            case Behaviour.GARBAGE:
                self._later(self.work, self._end_with, self.world.dice.choice(GARBAGE, "garbage"))
            case Behaviour.FORGES:
                forged = {**self._document("succeeded", 0), "launch": "0" * 32}
                self._later(self.work, self._end_with, json.dumps(forged).encode())
            case _ if self.work > timeout:
                self._later(timeout, self._end, "timed_out", None)
            case Behaviour.FAILS:
                self._later(self.work, self._end, "failed", 3)
            case _:
                self._later(self.work, self._end, "succeeded", 0)
        if self.behaviour in _KEEPS_TIME:
            end = parse_time(self.roster["deadline"])
            assert end is not None
            left = seconds_of(end) - self.world.kernel.now - self.clock_error - 30
            self._later(left, self._end, "deadline_exceeded", None)

    def _reclaimed(self) -> None:
        self.is_reclaimed = True
        if self.roster and self.behaviour in _KEEPS_TIME:
            self._end("interrupted", None)

    def _crash(self) -> None:
        self.alive = False

    def _document(self, outcome: str, exit_code: int | None) -> dict[str, Any]:
        return {
            "version": 1,
            "launch": self.instance.tags["nightcrew:launch"],
            "instance_id": self.instance.instance_id,
            "outcome": outcome,
            "exit_code": exit_code,
            "message": f"the command ended: {outcome}",
        }

    def _end(self, outcome: str, exit_code: int | None) -> None:
        if not self.is_done:
            self.is_done = True
            self._finish(json.dumps(self._document(outcome, exit_code)).encode(), 1800.0)

    def _end_with(self, body: bytes) -> None:
        self.is_done = True
        self._finish(body, 60.0)

    def _finish(self, body: bytes, patience: float) -> None:
        """Write the result, patiently, then shut down; an interrupted or kept machine is left to others."""
        if self.world.outage("s3", "PutObject") or self.world.dice.fault("worker_put_fails"):
            if patience > 0:
                self._later(5, self._finish, body, patience - 5)
            else:
                self._power_off()
            return
        self._put(body)
        left_to_others = self.is_reclaimed or self.roster["on_finish"] == "stop"
        if not left_to_others and self.behaviour is not Behaviour.DAWDLES:
            self._later(self.world.dice.between(0.2, 3, "guest"), self._power_off)

    def _write(self, document: dict[str, Any]) -> None:
        self._put(json.dumps(document).encode())

    def _put(self, body: bytes) -> None:
        self.world.worker_writes(self.instance, body)

    def _power_off(self) -> None:
        self.die()
        self.world.ec2.power_off(self.instance)


_KEEPS_TIME = frozenset({Behaviour.SUCCEEDS, Behaviour.FAILS, Behaviour.CANNOT_START, Behaviour.DAWDLES})

GARBAGE = (
    b"",
    b"\xff\xfe not json",
    b"[" * 5000,
    b'{"launch": 7, "outcome": "succeeded"}',
    b'{"outcome": "succeeded", "exit_code": 0}',
    b'{"launch": "x", "outcome": "cancelled"}',
    b'{"launch": "x", "outcome": "succeeded", "exit_code": "0"}',
    b'[{"outcome": "succeeded"}]',
    b"9" * 5000,
)
