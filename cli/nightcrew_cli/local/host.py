"""The process of the local stack: the emulator with our EC2 host on top, behind one port.

`/_nightcrew/control/<order>` is the control API, `/_nightcrew/imds/<instance>/…` the metadata of an instance; all else
is AWS. Started by `running.up`, which also sets its environment.
"""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config
from ministack import app as gateway
from ministack.services import eventbridge

from nightcrew_cli.local import clock, patches
from nightcrew_cli.local.control import Control, RefusedError
from nightcrew_cli.local.ec2_api import Ec2Api
from nightcrew_cli.local.events import EventRelay
from nightcrew_cli.local.faults import Faults
from nightcrew_cli.local.guests import GuestHouse
from nightcrew_cli.local.instances import Instance, Instances
from nightcrew_cli.local.launches import Launches
from nightcrew_cli.local.metadata import Metadata
from nightcrew_cli.local.records import Ec2Records, new_id
from nightcrew_cli.local.schedules import Schedules
from nightcrew_cli.local.scope import scope
from nightcrew_cli.local.settings import HostSettings
from nightcrew_cli.local.tokens import TokenLedger

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Answer = tuple[int, dict[str, str], bytes]

PREFIX = "/_nightcrew/"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalHostServer:
    """The parts, put together; also the ASGI application."""

    settings: HostSettings
    instances: Instances
    guests: GuestHouse
    control: Control
    metadata: Metadata

    async def __call__(self, call: dict[str, Any], receive: Receive, send: Send) -> None:
        if call["type"] == "http" and call["path"].startswith(PREFIX):
            await _send(send, await self._own(call, receive))
            return
        try:
            await gateway.app(call, receive, send)
        except patches.LostAnswerError:
            # A head that promises a body which never comes: the client sees a broken connection.
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4096")]})
            await send({"type": "http.response.body", "body": b"<", "more_body": True})

    async def _own(self, call: dict[str, Any], receive: Receive) -> Answer:
        area, _, rest = call["path"].removeprefix(PREFIX).partition("/")
        headers = {name.decode().lower(): value.decode() for name, value in call["headers"]}
        if area == "imds":
            instance_id, _, path = rest.partition("/")
            instance = self.instances.find(instance_id)
            if instance is None or instance.state == "terminated":
                return 404, {}, b""
            with scope(instance.account, instance.region):
                return self.metadata.answer(instance, call["method"], f"/{path}", headers)
        if area == "control":
            return await self._ordered(call, rest, receive, headers)
        return 404, {}, b""

    async def _ordered(self, call: dict[str, Any], name: str, receive: Receive, headers: dict[str, str]) -> Answer:
        # A web page can post to this port but cannot set this header without being asked first.
        if call["method"] != "POST" or headers.get("content-type") != "application/json":
            return 405, {}, b""
        try:
            answer, status = self.control.answer(name, json.loads(await _body(receive) or b"{}")), 200
        except RefusedError as error:
            answer, status = {"error": str(error)}, 400
        return status, {"content-type": "application/json"}, json.dumps(answer).encode()


def assemble(settings: HostSettings, later: Callable[[float, Callable[[], None]], object]) -> LocalHostServer:
    """Build the host and install its changes in the emulator."""
    faults = Faults()
    relay = EventRelay(faults, eventbridge._dispatch_event)  # noqa: SLF001 - the one place where AWS's own events enter
    records, guests, schedules = Ec2Records(), GuestHouse(settings=settings), Schedules()
    instances = Instances(
        settings=settings,
        guests=guests,
        resources=records,
        later=later,
        emit=lambda instance, kind, detail: relay.relay(_event(instance, kind, detail)),
    )
    guests.powered_off = instances.guest_powered_off
    launches = Launches(instances=instances, records=records, faults=faults, ledger=TokenLedger())
    api = Ec2Api(instances=instances, launches=launches, consoles=guests)
    patches.install(api=api, relay=relay, schedules=schedules, faults=faults, home=Path(settings.home))
    control = Control(
        settings=settings, instances=instances, guests=guests, relay=relay, faults=faults, schedules=schedules
    )
    return LocalHostServer(settings=settings, instances=instances, guests=guests, control=control, metadata=Metadata())


def _event(instance: Instance, kind: str, detail: dict[str, str]) -> dict[str, Any]:
    return {
        "EventId": new_id("e"),
        "Source": "aws.ec2",
        "DetailType": kind,
        "Detail": json.dumps(detail),
        "EventBusName": "default",
        "Time": int(clock.now().timestamp()),
        "Resources": [f"arn:aws:ec2:{instance.region}:{instance.account}:instance/{instance.instance_id}"],
        "Account": instance.account,
        "Region": instance.region,
    }


async def run(settings: HostSettings) -> None:
    loop = asyncio.get_running_loop()
    server = assemble(settings, loop.call_later)
    ended = asyncio.Event()
    for what in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(what, ended.set)
    config = Config()
    config.bind = [f"127.0.0.1:{settings.port}"]
    config.keep_alive_timeout = 75
    config.graceful_timeout = 0.5
    config.loglevel = settings.log_level
    await serve(server, config, shutdown_trigger=ended.wait)  # type: ignore[arg-type]
    for worker in server.guests.workers.values():
        with contextlib.suppress(ProcessLookupError):
            worker.kill()


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body"):
            return body


async def _send(send: Send, answer: Answer) -> None:
    status, headers, body = answer
    # Workers set their clock by the metadata service's answers.
    own = {"content-length": str(len(body)), "date": format_datetime(clock.now(), usegmt=True)}
    fields = [(name.encode(), value.encode()) for name, value in {**headers, **own}.items()]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    asyncio.run(run(HostSettings.from_json(sys.argv[1])))
