"""How things reach our functions: Scheduler, EventBridge, the queue, and Lambda's asynchronous invocation."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.simulation.calls import Client
from tests.simulation.kernel import Invocation

if TYPE_CHECKING:
    from tests.simulation.dice import Dice
    from tests.simulation.kernel import Kernel
    from tests.simulation.world import World

Invoke = Callable[[str, Any, Callable[[Invocation], None]], None]
RETRY_WAITS = (60.0, 120.0)


@dataclass(frozen=True, slots=True)
class AsyncConfig:
    """A function's EventInvokeConfig."""

    retries: int
    longest_age: float


@dataclass(eq=False, kw_only=True)
class AsyncInvocations:
    """At least once: accepted at once, run later, again after an error, sometimes twice, at last given up."""

    kernel: Kernel
    dice: Dice
    invoke: Invoke
    configs: dict[str, AsyncConfig]
    given_up: list[tuple[str, Any]] = field(default_factory=list)
    waiting: int = 0

    def accept(self, function: str, payload: Any) -> None:
        if self.dice.fault("async_lost"):
            self.given_up.append((function, payload))
            return
        for _ in range(2 if self.dice.fault("async_twice") else 1):
            delay = self.dice.between(0.02, 1.0, "async")
            if self.dice.fault("async_late"):
                delay = self.dice.between(5, 900, "async")
            self._later(delay, function, payload, 0, self.kernel.now)

    def _later(self, delay: float, function: str, payload: Any, tries: int, since: float) -> None:
        self.waiting += 1
        self.kernel.after(delay, self._run, function, payload, tries, since)

    def _run(self, function: str, payload: Any, tries: int, since: float) -> None:
        self.waiting -= 1
        config = self.configs[function]
        if self.kernel.now - since > config.longest_age:
            self.given_up.append((function, payload))
            return

        def done(invocation: Invocation) -> None:
            if invocation.succeeded:
                return
            if tries < config.retries:
                self._later(RETRY_WAITS[tries], function, payload, tries + 1, since)
            else:
                self.given_up.append((function, payload))

        self.invoke(function, payload, done)


class LambdaClient(Client):
    service = "lambda"

    def __init__(self, world: World, queue: AsyncInvocations) -> None:
        super().__init__(world)
        self._queue = queue

    def invoke(self, *, FunctionName: str, InvocationType: str, Payload: bytes) -> None:  # noqa: N803
        assert InvocationType == "Event"
        name = FunctionName.removeprefix("nightcrew-")
        self._call("Invoke", lambda: self._queue.accept(name, json.loads(Payload)), writes=True)


@dataclass(eq=False, slots=True)
class Message:
    body: str
    received: int = 0
    in_flight: bool = False
    deleted: bool = False


@dataclass(eq=False, kw_only=True)
class Queue:
    """A standard queue with a mapping to a function: batches, partial failures, visibility, dead letters."""

    kernel: Kernel
    dice: Dice
    invoke: Invoke
    function: str = "lifecycle"
    batch: int = 10
    visibility: float = 360.0
    most_receives: int = 5
    concurrency: int = 10
    visible: list[Message] = field(default_factory=list)
    dead: list[Message] = field(default_factory=list)
    in_flight: int = 0
    running: int = 0
    _polling: bool = False

    @property
    def is_empty(self) -> bool:
        return not self.visible and not self.in_flight

    def send(self, body: str) -> None:
        self.visible.append(Message(body))
        self._poll()

    def _poll(self) -> None:
        if not self._polling and self.visible:
            self._polling = True
            self.kernel.after(self.dice.between(0.05, 1.5, "poll"), self._receive)

    def _receive(self) -> None:
        self._polling = False
        if self.running < self.concurrency and self.visible:
            count = min(self.batch, len(self.visible), self.dice.stream("batch").randint(1, self.batch))
            order = self.dice.stream("batch").sample(range(len(self.visible)), count)
            chosen = [self.visible[i] for i in order]
            self.visible = [message for message in self.visible if message not in chosen]
            self._hand_over(chosen)
        self._poll()

    def _hand_over(self, messages: list[Message]) -> None:
        records = [{"messageId": f"m{i}", "body": message.body} for i, message in enumerate(messages)]
        self.running += 1
        self.in_flight += len(messages)
        for message in messages:
            message.received += 1

        def done(invocation: Invocation) -> None:
            self.running -= 1
            failed = set(range(len(messages)))
            if invocation.succeeded:
                answer = invocation.result or {}
                failed = {int(item["itemIdentifier"][1:]) for item in answer.get("batchItemFailures", [])}
            for number, message in enumerate(messages):
                if number not in failed and not self.dice.fault("redelivered"):
                    self.in_flight -= 1
                    continue
                left = self.visibility - (self.kernel.now - invocation.started)
                self.kernel.after(max(0.0, left), self._reappear, message)
            self._poll()

        self.invoke(self.function, {"Records": records}, done)

    def _reappear(self, message: Message) -> None:
        self.in_flight -= 1
        (self.dead if message.received >= self.most_receives else self.visible).append(message)
        self._poll()


@dataclass(eq=False, kw_only=True)
class EventBridge:
    """Best effort: lost, duplicated, late and hence out of order."""

    kernel: Kernel
    dice: Dice
    deliver: Callable[[str], None]
    silent: Callable[[], bool] = lambda: False
    on_the_way: int = 0

    def emit(self, source: str, kind: str, detail: dict[str, Any]) -> None:
        if self.silent() and self.dice.happens("events_silenced"):
            return
        if self.dice.fault("event_lost"):
            return
        body = json.dumps({"source": source, "detail-type": kind, "detail": detail})
        for _ in range(2 if self.dice.fault("event_twice") else 1):
            delay = self.dice.between(0.1, 2.0, "event")
            if self.dice.fault("event_late"):
                delay = self.dice.between(5, 1200, "event")
            self.on_the_way += 1
            self.kernel.after(delay, self._arrive, body)

    def _arrive(self, body: str) -> None:
        self.on_the_way -= 1
        self.deliver(body)


@dataclass(eq=False, kw_only=True)
class Scheduler:
    """At least once, within a minute or late; the scheduled time is the tick's, however late it comes."""

    kernel: Kernel
    dice: Dice
    accept: Callable[[str, Any], None]
    pending: int = 0

    def fire(self, tick: float, function: str, payload: Any) -> None:
        self.pending += 1
        self.kernel.at(tick, self._fire, function, payload)

    def _fire(self, function: str, payload: Any) -> None:
        self.pending -= 1
        if self.dice.fault("tick_lost"):
            return
        for _ in range(2 if self.dice.fault("tick_twice") else 1):
            delay = self.dice.between(0, 55, "scheduler")
            if self.dice.fault("tick_late"):
                delay = self.dice.between(60, 3600, "scheduler")
            self.pending += 1
            self.kernel.after(delay, self._deliver, function, payload)

    def _deliver(self, function: str, payload: Any) -> None:
        self.pending -= 1
        self.accept(function, payload)
