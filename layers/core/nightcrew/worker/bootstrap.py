"""Stage 1 of a worker: limit the machine's life, find out what it was launched for, run stage 2.

It is a part of the user data (16 KB), so it holds what is needed to read the roster and no more. Stage 2 is the text
of program.py, comes with the roster and borrows what is here. Only the standard library of Python 3.9.
"""
# ruff: noqa: S102, S310, TID251 (a script has nobody to pass it a clock or settings; its addresses are not a user's)

from __future__ import annotations

import calendar
import contextlib
import email.utils
import hashlib
import hmac
import http.client
import json
import os
import subprocess
import sys
import time
import types
import urllib.error
import urllib.request
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

SHORT_LIFE = 15  # minutes for a worker that cannot read its deadline: what the shell armed before us is left as it is
MARGIN = 2  # minutes past the deadline: the control plane acts first, the timer only if it does not
POLL = 3.0
NETWORK_ERRORS = (OSError, http.client.HTTPException)


def say(text: str) -> None:
    """Tell the serial console: all that is left of a worker that never reached its bucket."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.write(f"[nightcrew] {text}\n")
        sys.stdout.flush()


class Clock:
    """The machine's clock, set right by AWS's answers: a wrong one would spoil signatures and deadlines."""

    offset = 0.0

    def now(self) -> float:
        return time.time() + self.offset

    def learn(self, date: str | None) -> None:
        with contextlib.suppress(TypeError, ValueError, IndexError):
            offset = email.utils.parsedate_to_datetime(date or "").timestamp() - time.time()
            if abs(offset - self.offset) > 60:
                say(f"the clock is off by {offset:.0f} s")
                self.offset = offset


clock = Clock()


def parse_time(text: str | None) -> float | None:
    try:
        return float(calendar.timegm(time.strptime(text or "", "%Y-%m-%dT%H:%M:%SZ")))
    except ValueError:
        return None


def shut_down(when: str) -> None:
    for pause in (1, 5, 0):
        try:
            subprocess.run(["shutdown", "-P", when], stdin=subprocess.DEVNULL, check=True, timeout=60)
            return
        except (OSError, subprocess.SubprocessError) as error:
            say(f"shutdown -P {when}: {error}")
            time.sleep(pause)


def limit_life(deadline: float) -> None:
    """Arm the timer in place of the one before, and never for longer than the stack allows."""
    minutes = int(-(-(deadline - clock.now()) // 60)) + MARGIN
    shut_down(f"+{max(1, min(minutes, int(os.environ.get('NIGHTCREW_CEILING') or SHORT_LIFE)))}")


class Metadata:
    """The instance metadata service, version 2."""

    def __init__(self) -> None:
        endpoint = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or "http://169.254.169.254"
        self._base = endpoint.rstrip("/") + "/latest/"
        # A proxy that is set for the machine must not get the token.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._token = ""
        self._keys: dict[str, str] = {}
        self.renew_at = 0.0

    def get(self, path: str, tries: int = 8) -> str | None:
        """Return the item's text, or None when there is no such item."""
        problem: Exception | None = None
        for number in range(tries):
            time.sleep(min(number, 4))
            try:
                if not self._token:
                    self._token = self._ask("PUT", "api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "21600"})
                return self._ask("GET", "meta-data/" + path, {"X-aws-ec2-metadata-token": self._token})
            except urllib.error.HTTPError as error:
                if error.code == 404:
                    return None
                problem, self._token = error, ""
            except NETWORK_ERRORS as error:
                problem = error
        raise OSError(f"instance metadata {path}: {problem}")

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> str:
        request = urllib.request.Request(self._base + path, headers=headers, method=method)
        with self._opener.open(request, timeout=2) as response:
            clock.learn(response.headers.get("Date"))
            return str(response.read().decode())

    def keys(self) -> dict[str, str]:
        """Return the role's keys. New ones are offered some minutes before the old ones expire."""
        if clock.now() < self.renew_at:
            return self._keys
        path = "iam/security-credentials/"
        try:
            keys = json.loads(self.get(path + str(self.get(path)).strip()) or "{}")
            self._keys = {name: keys[name] for name in ("AccessKeyId", "SecretAccessKey", "Token")}
            self.renew_at = max((parse_time(keys.get("Expiration")) or 0) - 600, clock.now() + 60)
        except (OSError, ValueError, KeyError) as error:
            if not self._keys:
                raise OSError(f"no keys for the worker's role: {error!r}") from error
        return self._keys


class Bucket:
    """The exchange bucket."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata, self._region = metadata, os.environ["AWS_REGION"]
        name = os.environ["NIGHTCREW_BUCKET"]
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        if endpoint:
            self._base = f"{endpoint.rstrip('/')}/{name}/"
        else:
            domain = metadata.get("services/domain") or "amazonaws.com"
            self._base = f"https://{name}.s3.{self._region}.{domain}/"

    def send(
        self, method: str, key: str, query: str = "", body: Any = None, headers: dict[str, str] | None = None
    ) -> http.client.HTTPResponse:
        """Send a request once. The body: bytes, or a sized iterable of bytes. The query: encoded and sorted."""
        url = self._base + quote(key, safe="/-_.~") + ("?" + query if query else "")
        signed = self._sign(method, url, body, headers or {})
        if body is not None:
            signed["Content-Length"] = str(len(body))
        request = urllib.request.Request(url, data=body, headers=signed, method=method)
        try:
            response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=30)
        except urllib.error.HTTPError as error:
            clock.learn(error.headers.get("Date"))
            raise
        clock.learn(response.headers.get("Date"))
        return response

    def _sign(self, method: str, url: str, body: Any, headers: dict[str, str]) -> dict[str, str]:
        """Return the headers with a Signature Version 4. A stream goes unhashed, or it would be read twice."""
        keys, parts = self._metadata.keys(), urlsplit(url)
        at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(clock.now()))
        hashable = body is None or isinstance(body, bytes)
        payload = hashlib.sha256(body or b"").hexdigest() if hashable else "UNSIGNED-PAYLOAD"
        headers = {"content-type": "application/octet-stream", **headers, "host": parts.netloc, "x-amz-date": at}
        headers.update({"x-amz-content-sha256": payload, "x-amz-security-token": keys["Token"]})
        names = sorted(headers)
        canonical = [method, parts.path, parts.query, *(f"{name}:{headers[name]}" for name in names)]
        digest = hashlib.sha256("\n".join([*canonical, "", ";".join(names), payload]).encode()).hexdigest()
        scope = f"{at[:8]}/{self._region}/s3/aws4_request"
        key = b"AWS4" + keys["SecretAccessKey"].encode()
        for text in (*scope.split("/"), f"AWS4-HMAC-SHA256\n{at}\n{scope}\n{digest}"):
            key = hmac.new(key, text.encode(), hashlib.sha256).digest()
        credential = f"AWS4-HMAC-SHA256 Credential={keys['AccessKeyId']}/{scope}"
        headers["authorization"] = f"{credential}, SignedHeaders={';'.join(names)}, Signature={key.hex()}"
        return headers


class Worker(NamedTuple):
    """What stage 2 gets."""

    instance_id: str
    booted_at: float
    deadline: float
    metadata: Metadata
    bucket: Bucket
    prefix: str
    roster: dict[str, Any]


class UnexpectedWorkerError(Exception):
    """Nobody knows of this worker, so it does no work."""


def await_roster(bucket: Bucket, launch: str | None) -> dict[str, Any]:
    """Wait for the launcher's word. Until it is there S3 answers 403, because we may not list."""
    wait = float(os.environ.get("NIGHTCREW_ROSTER_WAIT") or 600)
    end = time.monotonic() + wait
    while True:
        try:
            with bucket.send("GET", f"launches/{launch}/roster.json") as response:
                roster: dict[str, Any] = json.load(response)
                return roster
        except NETWORK_ERRORS as error:
            if time.monotonic() > end:
                raise UnexpectedWorkerError(f"no roster within {wait:.0f} s: {error}") from error
        time.sleep(POLL)


def check_roster(roster: dict[str, Any], tags: dict[str, str | None], instance_id: str) -> None:
    for name, value in tags.items():
        if str(roster.get(name)) != value:
            raise UnexpectedWorkerError(f"the roster is for {name} {roster.get(name)}, this worker for {value}")
    if instance_id not in roster["tasks"]:
        raise UnexpectedWorkerError("the roster has no task for this worker")


def work() -> bool:
    """Return whether the machine is left to others to stop."""
    booted_at = time.time()
    metadata = Metadata()
    deadline = parse_time(metadata.get("tags/instance/nightcrew:deadline"))
    if deadline is None:
        say(f"no readable deadline: this worker lives for {SHORT_LIFE} min")
    elif deadline <= clock.now():
        raise UnexpectedWorkerError("its deadline has passed")
    else:
        limit_life(deadline)
    offset = clock.offset
    instance_id = str(metadata.get("instance-id"))
    tags = {name: metadata.get("tags/instance/nightcrew:" + name) for name in ("launch", "run", "attempt")}
    say(f"worker {instance_id} of run {tags['run']}, attempt {tags['attempt']}, waits for its roster")
    if not all(tags.values()):
        raise UnexpectedWorkerError("its tags are not in the instance metadata")
    bucket = Bucket(metadata)
    roster = await_roster(bucket, tags["launch"])
    check_roster(roster, tags, instance_id)
    booted_at += clock.offset
    if deadline is None:
        deadline = booted_at + (SHORT_LIFE - MARGIN) * 60
    elif clock.offset != offset:
        limit_life(deadline)
    deadline = min(deadline, parse_time(roster["deadline"]) or deadline)
    prefix = f"workers/{os.environ['NIGHTCREW_WORKER_ROLE_ID']}:{instance_id}/{tags['launch']}/"
    worker = Worker(instance_id, booted_at, deadline, metadata, bucket, prefix, roster)
    # Stage 2 imports this stage by the name it has in the package.
    this, program = sys.modules[__name__], types.ModuleType("nightcrew.worker.program")
    this.__dict__["bootstrap"] = this
    sys.modules.update(dict.fromkeys(("nightcrew", "nightcrew.worker", "nightcrew.worker.bootstrap"), this))
    sys.modules[program.__name__] = program
    exec(compile(roster["program"], "program.py", "exec"), program.__dict__)
    return bool(program.__dict__["run"](worker))


def main() -> None:
    leave_running = False
    try:
        leave_running = work()
    except BaseException as error:
        say(f"this worker ends: {type(error).__name__}: {error}")
    finally:
        if not leave_running:
            shut_down("now")


if __name__ == "__main__":
    main()
