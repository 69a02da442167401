"""The local stack as the functions in their containers see it: its variables, and a way to reach it."""

# ruff: noqa: T201, TID251 - a command prints, and looks at the stack with a client of its own

import json
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3

from sam_local import shell
from sam_local.errors import SamLocalError
from sam_local.functions import region

CHUNK = 65536
UP_SECONDS, DOWN_SECONDS = 300, 60


@dataclass(frozen=True, slots=True)
class LocalStack:
    endpoint: str
    stack: str
    region: str

    def variables_of(self, logical_id: str) -> dict[str, str]:
        """Return the environment of the deployed function, with the endpoint as its container reaches it."""
        session = boto3.Session(
            region_name=self.region,
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106 - the emulator's well-known key, worth nothing elsewhere
        )
        described = session.client("cloudformation", endpoint_url=self.endpoint).describe_stack_resource(
            StackName=self.stack, LogicalResourceId=logical_id
        )
        deployed = session.client("lambda", endpoint_url=self.endpoint).get_function_configuration(
            FunctionName=described["StackResourceDetail"]["PhysicalResourceId"]
        )
        variables = dict(deployed.get("Environment", {}).get("Variables", {}))
        port = urlsplit(self.endpoint).port
        return variables | {"AWS_ENDPOINT_URL": f"http://host.docker.internal:{port}"}


@contextmanager
def running_stack(host_address: str) -> Iterator[LocalStack]:
    """Hold the deployed local stack for the length of the block; a host that was up before stays up."""
    status = _status()
    was_up = status is not None
    try:
        if not status or not status.get("stack"):
            print("starting the local stack", flush=True)
            _nightcrew("up", timeout=UP_SECONDS)
            status = _status()
        if not status or not status.get("stack"):
            raise SamLocalError("`nightcrew local up` ended well, but `nightcrew local status` shows no stack")
        stack = LocalStack(status["endpoint"], status["stack"], status.get("region") or region())
        with _reachable_from_containers(stack.endpoint, host_address):
            yield stack
    finally:
        if not was_up:
            _nightcrew("down", timeout=DOWN_SECONDS)


def _nightcrew(*arguments: str, timeout: float) -> str:
    return shell.run([str(Path(sys.executable).with_name("nightcrew")), "local", *arguments], timeout=timeout)


def _status() -> dict[str, Any] | None:
    try:
        status = json.loads(_nightcrew("status", "-o", "json", timeout=60))
    except (SamLocalError, ValueError):
        return None
    return status if isinstance(status, dict) and status.get("endpoint") else None


@contextmanager
def _reachable_from_containers(endpoint: str, host_address: str) -> Iterator[None]:
    """Pass connections from the containers' bridge on to the local stack, which listens on loopback only.

    The emulator runs code for whoever reaches it, so it must not listen on every address of the machine. Where the
    engine lives in a virtual machine the bridge is not ours to bind, and the engine forwards by itself.
    """
    url = urlsplit(endpoint)
    if url.hostname is None or url.port is None:
        raise SamLocalError(f"the local stack's endpoint {endpoint} names no host and port")
    try:
        listener = socket.create_server((host_address, url.port))
    except OSError:
        yield
        return
    target = (url.hostname, url.port)
    threading.Thread(target=_accept, args=(listener, target), daemon=True).start()
    try:
        yield
    finally:
        listener.close()


def _accept(listener: socket.socket, target: tuple[str, int]) -> None:
    while True:
        try:
            inner, _ = listener.accept()
        except OSError:
            return
        try:
            outer = socket.create_connection(target)
        except OSError:
            inner.close()
            continue
        for source, sink in ((inner, outer), (outer, inner)):
            threading.Thread(target=_copy, args=(source, sink), daemon=True).start()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(CHUNK):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        source.close()
        sink.close()
