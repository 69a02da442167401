"""A small cloud for one worker: instance metadata and S3 as the worker sees them, and the machine it runs on."""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from nightcrew import worker

BUCKET, REGION, ROLE, INSTANCE, LAUNCH = "exchange", "eu-central-1", "AROAROLE", "i-0abc", "launch-f00d"
PREFIX = f"workers/{ROLE}:{INSTANCE}/{LAUNCH}/"
ROSTER_KEY = f"launches/{LAUNCH}/roster.json"
KEYS = Credentials("AKIDTEST", "secret/with+signs", "token//with==signs")
PATIENCE = 30.0

# Appended to the texts that are run, so that no test waits as long as a night job may.
FAST_BOOTSTRAP = "POLL = 0.05\n"
FAST_PROGRAM = """
FLUSH_EARLY, HEARTBEAT, TICK, SPOT_POLL = 0.05, 0.3, 0.02, 0.05
GRACE, TERM_ECHO, REQUEST_PATIENCE, LOG_END_PATIENCE = 1.0, 0.5, 3.0, 1.0
DEADLINE_RESERVE = (6.0, 6.0)
"""


def stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def later(**duration: float) -> str:
    return stamp(datetime.now(UTC) + timedelta(**duration))


@dataclass
class Trouble:
    """Requests that match get this answer, or none (status 0), so many times."""

    method: str
    path: str
    status: int
    code: str
    times: int


@dataclass
class Cloud:
    objects: dict[str, bytes] = field(default_factory=dict)
    content_types: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    skew: float = 0.0
    metadata_tells_time: bool = True
    changed: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        cloud = self

        class Handler(_Handler):
            pass

        Handler.cloud = cloud
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.metadata |= {
            "instance-id": INSTANCE,
            "iam/security-credentials/": "worker-role",
            "iam/security-credentials/worker-role": json.dumps(
                {
                    "Code": "Success",
                    "AccessKeyId": KEYS.access_key,
                    "SecretAccessKey": KEYS.secret_key,
                    "Token": KEYS.token,
                    "Expiration": later(hours=6),
                }
            ),
        }
        self.tag(launch=LAUNCH, run="nightly@1", attempt="1", deadline=later(hours=2))

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def now(self) -> float:
        return time.time() + self.skew

    def tag(self, **tags: str) -> None:
        self.metadata |= {f"tags/instance/nightcrew:{name}": value for name, value in tags.items()}

    def trouble(self, method: str, path: str, *, status: int, code: str = "Trouble", times: int = 10_000) -> None:
        self.troubles.append(Trouble(method, path, status, code, times))

    def write_roster(self, **changes: Any) -> None:
        fast = changes.pop("fast", "")
        roster: dict[str, Any] = {
            "version": 1,
            "launch": LAUNCH,
            "run": "nightly@1",
            "job": "nightly",
            "revision": "0123456789ab",
            "attempt": 1,
            "scheduled_time": "2026-11-22T23:00:00Z",
            "deadline": later(hours=2),
            "timeout": 3600,
            "on_finish": "terminate",
            "command": "true",
            "env": {},
            "files": None,
            "tasks": {INSTANCE: 0},
            "program": worker.program_source() + FAST_PROGRAM + fast,
        }
        self.objects[ROSTER_KEY] = json.dumps(roster | changes).encode()

    def result(self) -> dict[str, Any]:
        result: dict[str, Any] = json.loads(self.objects[PREFIX + "result.json"])
        return result

    def log(self) -> str:
        parts = sorted(key for key in self.objects if key.startswith(PREFIX + "log/"))
        return b"".join(self.objects[key] for key in parts).decode(errors="replace")

    def outputs(self) -> dict[str, bytes]:
        start = PREFIX + "outputs/"
        return {key[len(start) :]: body for key, body in self.objects.items() if key.startswith(start)}

    def wait_for(self, is_true: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(is_true, PATIENCE), f"not seen in time; requests: {self.requests[-20:]}"

    def count(self, request: str) -> int:
        return sum(1 for each in self.requests if each.startswith(request))


class _Handler(BaseHTTPRequestHandler):
    cloud: Cloud
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def date_time_string(self, timestamp: float | None = None) -> str:
        is_silent = self.path.startswith("/imds/") and not self.cloud.metadata_tells_time
        return "" if is_silent else email.utils.formatdate(timestamp or self.cloud.now(), usegmt=True)

    def do_GET(self) -> None:
        self._serve()

    do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(self.path)
        cloud = self.cloud
        with cloud.changed:
            cloud.requests.append(f"{self.command} {path}")
            trouble = next((each for each in cloud.troubles if self._is_hit(each, path)), None)
            if trouble:
                trouble.times -= 1
                if trouble.status:
                    self._answer(trouble.status, f"<Error><Code>{trouble.code}</Code></Error>".encode())
                else:
                    self.close_connection = True
            elif path.startswith("/imds/latest/"):
                self._serve_metadata(path.removeprefix("/imds/latest/"))
            else:
                self._serve_s3(body)
            cloud.changed.notify_all()

    def _is_hit(self, trouble: Trouble, path: str) -> bool:
        return trouble.times > 0 and trouble.method == self.command and trouble.path in path

    def _answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        with contextlib.suppress(OSError):
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def _serve_metadata(self, path: str) -> None:
        if path == "api/token":
            is_right = self.command == "PUT" and self.headers.get("X-aws-ec2-metadata-token-ttl-seconds")
            self._answer(*((200, b"imds-token") if is_right else (400, b"")))
        elif self.headers.get("X-aws-ec2-metadata-token") != "imds-token":
            self._answer(401)
        elif (item := self.cloud.metadata.get(path.removeprefix("meta-data/"))) is None:
            self._answer(404)
        else:
            self._answer(200, item.encode())

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, f'<?xml version="1.0"?><Error><Code>{code}</Code></Error>'.encode())

    def _serve_s3(self, body: bytes) -> None:
        at = datetime.strptime(self.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        if abs(at - self.cloud.now()) > 900:
            return self._refuse(403, "RequestTimeTooSkewed")
        problem = self._signature_problem(body)
        if problem:
            self.cloud.violations.append(f"{self.command} {self.path}: {problem}")
            return self._refuse(403, "SignatureDoesNotMatch")
        key = unquote(urlsplit(self.path).path).removeprefix(f"/{BUCKET}/")
        may_read = self.command == "GET" and key.startswith(("launches/", "files/"))
        if not may_read and not (self.command != "GET" and key.startswith(f"workers/{ROLE}:{INSTANCE}/")):
            return self._refuse(403, "AccessDenied")
        query = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        if self.command == "GET":
            found = self.cloud.objects.get(key)
            return self._refuse(403, "AccessDenied") if found is None else self._answer(200, found)
        return self._write(key, query, body)

    def _write(self, key: str, query: dict[str, str], body: bytes) -> None:
        cloud, upload = self.cloud, query.get("uploadId", "")
        if self.command == "PUT" and upload:
            cloud.uploads[upload][int(query["partNumber"])] = body
            self._answer(200, headers={"ETag": f'"{hashlib.md5(body).hexdigest()}"'})
        elif self.command == "PUT":
            cloud.objects[key] = body
            cloud.content_types[key] = self.headers["content-type"]
            self._answer(200, headers={"ETag": f'"{hashlib.md5(body).hexdigest()}"'})
        elif "uploads" in query:
            upload = f"id/of+{len(cloud.uploads)}="
            cloud.uploads[upload] = {}
            cloud.content_types[key] = self.headers["content-type"]
            self._answer(200, f"<r><UploadId>{upload}</UploadId></r>".encode())
        elif self.command == "POST":
            parts = cloud.uploads.pop(upload)
            named = re.findall(rb"<PartNumber>(\d+)</PartNumber><ETag>\"(\w+)\"</ETag>", body)
            assert [(int(number), tag.decode()) for number, tag in named] == [
                (number, hashlib.md5(parts[number]).hexdigest()) for number in sorted(parts)
            ]
            cloud.objects[key] = b"".join(parts[number] for number in sorted(parts))
            self._answer(200, b"<CompleteMultipartUploadResult/>")
        else:
            cloud.uploads.pop(upload)
            self._answer(204)

    def _signature_problem(self, body: bytes) -> str:
        """Sign the request as botocore would and compare."""
        given = re.fullmatch(
            r"AWS4-HMAC-SHA256 "
            r"Credential=(?P<credential>\S+), SignedHeaders=(?P<names>\S+), Signature=(?P<signature>\w+)",
            self.headers["authorization"],
        )
        if not given:
            return "no signature"
        path = urlsplit(self.path).path
        if path != quote(unquote(path), safe="/-_.~"):
            return "the path is not encoded as S3 encodes it"
        names = given["names"].split(";")
        if missing := {"host", "content-type", "x-amz-security-token"} - set(names):
            return f"not signed: {missing}"
        payload = self.headers["x-amz-content-sha256"]
        if payload not in ("UNSIGNED-PAYLOAD", hashlib.sha256(body).hexdigest()):
            return "the body is not the one that was signed"
        request = AWSRequest(
            self.command, self.cloud.endpoint + self.path, headers={name: self.headers[name] for name in names}
        )
        request.context["timestamp"] = self.headers["x-amz-date"]
        signer = S3SigV4Auth(KEYS, "s3", REGION)
        right = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
        return "" if (right, signer.scope(request)) == (given["signature"], given["credential"]) else "wrong signature"


@dataclass
class Machine:
    """The computer that runs the user data. What it would do to itself is only written down."""

    cloud: Cloud
    root: Path
    python: str = sys.executable
    env: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self._bin = self.root / "bin"
        self._bin.mkdir(parents=True)
        self._shutdowns = self.root / "shutdowns"
        self.install("shutdown", f'echo "$@" >>{self._shutdowns}')

    def install(self, name: str, text: str) -> None:
        script = self._bin / name
        script.write_text(f"#!/bin/bash\n{text}\n")
        script.chmod(0o755)

    def user_data(self) -> str:
        text = worker.user_data()
        values = {"MaxWorkerHours": "100", "Bucket": BUCKET, "WorkerRole.RoleId": ROLE, "AWS::Region": REGION}
        for name, value in values.items():
            text = text.replace("${" + name + "}", value)
        return text.replace('if __name__ == "__main__":', FAST_BOOTSTRAP + 'if __name__ == "__main__":')

    def boot(self, user_data: str = "") -> None:
        self.install("python3", f'exec {self.python} "$@"')
        script = self.root / "user-data"
        script.write_text(user_data or self.user_data())
        self._console = (self.root / "console").open("wb")
        self.process = subprocess.Popen(
            [shutil.which("bash") or "bash", str(script)],
            env={
                "PATH": f"{self._bin}:{os.environ['PATH']}",
                "HOME": "/root",
                "SECRET_OF_THE_MACHINE": "x",
                "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.cloud.endpoint + "/imds",
                "AWS_ENDPOINT_URL": self.cloud.endpoint,
                "NIGHTCREW_HOME": str(self.root / "home"),
                **self.env,
            },
            stdin=subprocess.DEVNULL,
            stdout=self._console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def wait(self) -> None:
        assert self.process is not None
        self.process.wait(PATIENCE)
        self._console.close()

    def run(self) -> None:
        self.boot()
        self.wait()

    def terminate(self) -> None:
        """What the operating system does to its processes when it goes down."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def unplug(self) -> None:
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.wait()

    @property
    def shutdowns(self) -> list[str]:
        return self._shutdowns.read_text().splitlines() if self._shutdowns.exists() else []

    @property
    def console(self) -> str:
        return (self.root / "console").read_text()

    @property
    def has_powered_off(self) -> bool:
        return "-P now" in self.shutdowns
