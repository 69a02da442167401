"""Stage 2 of a worker: one attempt, from unpacking the job's files to the result that everybody waits for.

The launcher sends this text with the roster, and stage 1 runs it: one file, only the standard library of Python 3.9.

What a job may rely on:
- The command is run by `bash -e -o pipefail -c`: a script of several lines ends at the first one that fails, because
  nobody looks at the lines in between at night. `set +e` in the command takes that back.
- Standard output and error go into one log, unaltered, in order; lines of ours begin with `[nightcrew]`. The log
  keeps its first LOG_HEAD and its last LOG_TAIL bytes. Standard input is empty.
- SIGTERM comes before SIGKILL, GRACE seconds ahead: at the timeout, at the deadline, at a Spot interruption. What the
  command leaves running in the background when it exits is ended the same way.
- Every regular file under NIGHTCREW_OUTPUT_DIR is uploaded, however the command ended. When one cannot be uploaded
  a success becomes a failure: the outputs are what the job was run for.
"""
# ruff: noqa: TID251, UP035 (a script has nobody to pass it a clock or settings; Callable[...] is no alias in 3.9's abc)

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import http.client
import json
import math
import mimetypes
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import tarfile
import threading
import time
import urllib.error
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Iterator, NamedTuple, TypeVar
from urllib.parse import quote

from nightcrew.worker import bootstrap
from nightcrew.worker.bootstrap import Worker, clock, parse_time, say

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

GRACE = 10.0  # seconds from SIGTERM to SIGKILL
TICK = 0.2  # seconds between looks at the command
TERM_ECHO = 2.0  # seconds in which a SIGTERM that ended the command reaches us too, if the machine shuts down
DEADLINE_SHARE, DEADLINE_RESERVE = 0.05, (15.0, 300.0)  # of the time left at the start, kept for outputs and result
SHUTDOWN_TIME = 40.0  # seconds we count on after a SIGTERM of our own
SPOT_POLL, SPOT_NOTICE, SPOT_RESERVE = 5.0, 120.0, 10.0

FLUSH_EARLY, EARLY, HEARTBEAT = 2.0, 60.0, 30.0
LOG_PART, LOG_PART_MAX = 256 * KIB, MIB
LOG_HEAD, LOG_TAIL = 48 * MIB, 16 * MIB

OUTPUT_FILES, OUTPUT_BYTES = 5000, 1024 * GIB
UPLOADS, PART_UPLOADS, PART, PARTS = 8, 4, 64 * MIB, 10_000
CHUNK = 256 * KIB
GIVE_UP = 16  # failed uploads after which the rest is not tried: each of them has used up its patience
NOTED = 20  # lines in the log about one kind of trouble with outputs
REQUEST_PATIENCE, LOG_END_PATIENCE, RESULT_PATIENCE = 90.0, 60.0, 1800.0

Kept = TypeVar("Kept")


def iso(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def duration(seconds: float) -> str:
    """1 h 30 min: the two largest units are what people read."""
    left = max(0, round(seconds))
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if left >= size:
            parts.append(f"{left // size} {unit}")
            left %= size
    return " ".join(parts[:2]) or "0 s"


def size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def one_line(text: str) -> str:
    return " ".join(text.split())[:500]


# --- S3 -------------------------------------------------------------------------------------------------------------


class AttemptError(Exception):
    """Something that the result can tell in one line."""


class StorageError(AttemptError):
    """The bucket refused, or could not be reached for as long as was worth trying."""


class LocalFileError(AttemptError):
    """A file of this machine could not be read or written: no reason to ask the bucket again."""


class Section:
    """A stretch of a file as a request body that can be sent again. It neither grows nor outlasts the time there is."""

    def __init__(self, path: str, start: int, length: int, seconds_left: Callable[[], float]) -> None:
        self._path, self._start, self._length, self._seconds_left = path, start, length, seconds_left

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        left = self._length
        try:
            # Not through a link: one that was put here after we looked would lead out of the output directory.
            with open(os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
                file.seek(self._start)
                while left:
                    chunk = file.read(min(CHUNK, left))
                    if not chunk:
                        raise LocalFileError("it became shorter while it was read")
                    if self._seconds_left() <= 0:
                        raise LocalFileError("no time was left")
                    left -= len(chunk)
                    yield chunk
        except OSError as error:
            raise LocalFileError(error.strerror or str(error)) from error


def read_body(response: http.client.HTTPResponse) -> bytes:
    return response.read()


def read_etag(response: http.client.HTTPResponse) -> str:
    return response.headers["ETag"]


class Store:
    """The bucket, asked again for as long as the trouble may pass."""

    def __init__(self, worker: Worker, seconds_left: Callable[[], float]) -> None:
        self._worker, self._seconds_left = worker, seconds_left

    def put(self, name: str, body: bytes, content_type: str, patience: float) -> None:
        headers = {"content-type": content_type}
        self._request("PUT", self._worker.prefix + name, read_body, body=body, headers=headers, patience=patience)

    def fetch(self, key: str, into: Path) -> str:
        """Write the object to a file and return its SHA-256."""
        return self._request("GET", key, lambda response: self._save(response, into))

    def put_file(self, name: str, path: str, length: int) -> None:
        """Upload a file: in parts when it is large, because one PUT takes 5 GiB at most and starts again from zero."""
        key = self._worker.prefix + name
        content_type, encoding = mimetypes.guess_type(name)
        headers = {"content-type": content_type if content_type and not encoding else "application/octet-stream"}
        if length <= PART:
            body = Section(path, 0, length, self._seconds_left)
            self._request("PUT", key, read_body, body=body, headers=headers)
            return
        answer = self._request("POST", key, read_body, query="uploads=", body=b"", headers=headers).decode()
        upload = "uploadId=" + quote(answer.partition("<UploadId>")[2].partition("</UploadId>")[0], safe="-_.~")
        try:
            self._put_parts(key, upload, path, length)
        except BaseException:
            # Parts of an unfinished upload are paid for and seen by nobody.
            with contextlib.suppress(StorageError):
                self._request("DELETE", key, read_body, query=upload, patience=5)
            raise

    def _put_parts(self, key: str, upload: str, path: str, length: int) -> None:
        step = max(PART, -(-length // PARTS))

        def put_part(number: int) -> str:
            start = (number - 1) * step
            body = Section(path, start, min(step, length - start), self._seconds_left)
            return self._request("PUT", key, read_etag, query=f"partNumber={number}&{upload}", body=body)

        with ThreadPoolExecutor(PART_UPLOADS) as pool:
            etags = list(pool.map(put_part, range(1, -(-length // step) + 1)))
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in enumerate(etags, 1)
        )
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        answer = self._request("POST", key, read_body, query=upload, body=body)
        # S3 answers 200 before it has put the parts together, so a failure comes as a body.
        if b"<Error>" in answer:
            raise StorageError(error_code(answer) or "the parts could not be put together")

    @staticmethod
    def _save(response: http.client.HTTPResponse, into: Path) -> str:
        digest, received = hashlib.sha256(), 0
        try:
            with into.open("wb") as file:
                while chunk := receive(response):
                    received += len(chunk)
                    digest.update(chunk)
                    file.write(chunk)
        except OSError as error:
            raise LocalFileError(f"{into.name}: {error.strerror or error}") from error
        if received != int(response.headers["Content-Length"] or received):
            raise http.client.IncompleteRead(b"")
        return digest.hexdigest()

    def _request(
        self,
        method: str,
        key: str,
        read: Callable[[http.client.HTTPResponse], Kept],
        *,
        query: str = "",
        body: bytes | Section | None = None,
        headers: dict[str, str] | None = None,
        patience: float = REQUEST_PATIENCE,
    ) -> Kept:
        end, pause = time.monotonic() + patience, 0.25
        while True:
            try:
                with self._worker.bucket.send(method, key, query, body, headers) as response:
                    return read(response)
            except urllib.error.HTTPError as error:
                problem, may_pass = self._judge(error)
            except bootstrap.NETWORK_ERRORS as error:
                problem, may_pass = f"{type(error).__name__}: {error}", True
            if not may_pass or time.monotonic() + pause > end:
                raise StorageError(problem)
            time.sleep(pause)
            pause = min(pause * 2, 8)

    def _judge(self, error: urllib.error.HTTPError) -> tuple[str, bool]:
        body = b""
        with contextlib.suppress(*bootstrap.NETWORK_ERRORS):
            body = error.read()
        code = error_code(body) or str(error.reason)
        if code == "ExpiredToken":
            self._worker.metadata.renew_at = 0
        # RequestTimeTooSkewed: the clock has just learned the time from this answer.
        passing = ("ExpiredToken", "RequestTimeTooSkewed", "RequestTimeout")
        return f"{code} ({error.code})", error.code >= 500 or error.code in (408, 429) or code in passing


def receive(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(CHUNK)
    except OSError as error:  # kept apart from errors of the disk that it is written to
        raise http.client.HTTPException(str(error)) from error


def error_code(body: bytes) -> str:
    found = re.search(rb"<Code>([^<]*)</Code>", body)
    return found.group(1).decode(errors="replace") if found else ""


# --- the log --------------------------------------------------------------------------------------------------------


class Log:
    """The attempt's log: written by the command and by us, sent in parts, the last of which is sent again as it grows.

    It lives in memory, so that neither a full disk nor a talkative command can end the work. Sending is also the sign
    of life: the last part is sent again when there is nothing new.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock, self._sending = threading.Lock(), threading.Lock()
        self._current = bytearray()  # the part that is being filled, and what comes after it
        self._number = 1
        self._last = (0, b"")  # what was sent last
        self._sent_at = -math.inf
        self._head_left = LOG_HEAD
        self._tail = bytearray()
        self._left_out = 0
        self._line_open = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._flush_regularly, name="log", daemon=True)

    @property
    def parts(self) -> int:
        return self._last[0]

    def start(self) -> None:
        self._thread.start()

    def note(self, text: str) -> None:
        say(text)
        line = f"[nightcrew] {iso(clock.now())} {one_line(text)}\n".encode()
        with self._lock:
            if self._line_open:
                line = b"\n" + line
            # A line of ours stays in its place among those of the command, and is never what is left out.
            (self._current if self._head_left else self._tail).extend(line)
            self._line_open = False

    def write(self, data: bytes) -> None:
        """Take output of the command."""
        with self._lock:
            self._line_open = not data.endswith(b"\n")
            if self._head_left:
                data = self._fill_head(data)
            self._tail += data
            if len(self._tail) > LOG_TAIL + LOG_PART_MAX:
                self._drop(len(self._tail) - LOG_TAIL)

    def _fill_head(self, data: bytes) -> bytes:
        """Return what did not fit."""
        if len(data) < self._head_left:
            self._current += data
            self._head_left -= len(data)
            return b""
        cut = data.rfind(b"\n", 0, self._head_left) + 1 or self._head_left
        self._current += data[:cut]
        if not data[:cut].endswith(b"\n"):
            self._current += b"\n"
        self._current += (
            f"[nightcrew] {iso(clock.now())} the log has reached {size(LOG_HEAD)}: of what follows the last "
            f"{size(LOG_TAIL)} will be shown when the command has ended\n"
        ).encode()
        self._head_left = 0
        return data[cut:]

    def _drop(self, count: int) -> None:
        """Leave out whole lines."""
        line_end = self._tail.find(b"\n", count, count + LOG_PART_MAX)
        count = line_end + 1 if line_end >= 0 else count
        self._left_out += count
        del self._tail[:count]

    def close_output(self) -> None:
        """The command has ended: what was kept back is shown, and our own lines follow it."""
        with self._lock:
            if self._left_out:
                self._current += f"[nightcrew] {iso(clock.now())} {size(self._left_out)} are left out here\n".encode()
            self._current += self._tail
            self._tail.clear()
            # Our own lines are few.
            self._head_left = LOG_HEAD

    def flush(self, patience: float) -> None:
        """Send what is new, or the last part again."""
        with self._sending:
            while self._send_part(patience):
                pass
            self._sent_at = time.monotonic()

    def _send_part(self, patience: float) -> bool:
        """Return whether there is more to send."""
        with self._lock:
            number, part = (self._number, self._next_part()) if self._current else self._last
        self._store.put(f"log/{number:05}.txt", part, "text/plain; charset=utf-8", patience)
        with self._lock:
            self._last = (number, part)
            if number == self._number and len(part) >= LOG_PART:
                del self._current[: len(part)]
                self._number += 1
                return bool(self._current)
            return False

    def _next_part(self) -> bytes:
        if len(self._current) <= LOG_PART_MAX:
            return bytes(self._current)
        line_end = self._current.rfind(b"\n", LOG_PART, LOG_PART_MAX) + 1
        return bytes(self._current[: line_end or LOG_PART_MAX])

    def _is_new(self) -> bool:
        with self._lock:
            number, part = self._last
            return bool(self._current) and (number, len(part)) != (self._number, len(self._current))

    def _flush_regularly(self) -> None:
        began = time.monotonic()
        while not self._stop.wait(FLUSH_EARLY):
            now = time.monotonic()
            early = now - began < EARLY and self._is_new()
            if early or now - self._sent_at >= HEARTBEAT:
                try:
                    self.flush(patience=0)  # the next round is the next try
                except StorageError as error:
                    say(f"the log could not be sent: {error}")

    def finish(self, patience: float) -> None:
        self._stop.set()
        try:
            self.flush(patience)
        except StorageError as error:
            say(f"the end of the log could not be sent: {error}")


# --- the job's files ------------------------------------------------------------------------------------------------


class PreparationError(AttemptError):
    """The command cannot be run."""


def unpack(archive: Path, root: Path) -> int:
    """Unpack an archive so that nothing is written, and no link leads, outside the root. Return the number of files."""
    links = []
    count = 0
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            target = _place(member, root)
            _clear(target)
            if member.isdir():
                target.mkdir(mode=0o755, exist_ok=True)
            elif member.isreg():
                _write(tar, member, target)
                count += 1
            elif member.issym():
                target.symlink_to(member.linkname)
                links.append(target)
            elif member.islnk():
                os.link(_inside(root / member.linkname, root, member), target, follow_symlinks=False)
                count += 1
            else:
                raise PreparationError(f"{member.name!r} is neither a file nor a directory nor a link")
    # Links are judged at the end: one may lead out by way of another that came later.
    for link in links:
        if not _is_inside(link, root):
            raise PreparationError(f"the link {link.name!r} leads out of the work directory")
    return count


def _place(member: tarfile.TarInfo, root: Path) -> Path:
    if member.name.startswith("/") or ".." in member.name.split("/"):
        raise PreparationError(f"{member.name!r} is not a path inside the work directory")
    target = root / member.name
    if target == root:
        return root
    _inside(target.parent, root, member)
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _inside(path: Path, root: Path, member: tarfile.TarInfo) -> Path:
    if not _is_inside(path, root):
        raise PreparationError(f"{member.name!r} leads out of the work directory")
    return path


def _is_inside(path: Path, root: Path) -> bool:
    real, real_root = os.path.realpath(path), os.path.realpath(root)
    return real == real_root or real.startswith(real_root + os.sep)


def _clear(target: Path) -> None:
    """Make way: writing to a link would write to where it leads."""
    if target.is_symlink() or target.is_file():
        target.unlink()


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    source = tar.extractfile(member)
    if source is None:
        raise PreparationError(f"{member.name!r} cannot be read")
    with source, target.open("xb") as file:
        shutil.copyfileobj(source, file, CHUNK)
    # Whether it can be run matters; who owned it elsewhere, or whose rights it takes on, does not.
    target.chmod(0o755 if member.mode & 0o100 else 0o644)


# --- the command ----------------------------------------------------------------------------------------------------


class Stop(NamedTuple):
    """Why the command is not allowed to go on."""

    outcome: str
    message: str


class Ending(NamedTuple):
    outcome: str
    message: str
    exit_code: int | None = None
    signal: int | None = None


def oom_kills() -> int:
    """Return how many processes this machine has killed for want of memory."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/vmstat").read_text().partition("oom_kill ")[2].split()[0])
    return 0


def signal_name(number: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


def describe_exit(return_code: int, *, out_of_memory: bool) -> Ending:
    if return_code == 0:
        return Ending("succeeded", "command exited with 0", 0)
    # A shell reports the signal that ended its last program as 128 + n.
    number = -return_code if return_code < 0 else return_code - 128
    memory = " (out of memory)" if out_of_memory else " (out of memory?)" if number == signal.SIGKILL else ""
    if return_code < 0:
        return Ending("failed", f"command was killed by {signal_name(number)}{memory}", 128 + number, number)
    if 0 < number < 65:
        memory = f": {signal_name(number)}{memory}"
    return Ending("failed", f"command exited with {return_code}{memory}", return_code)


def adopt_orphans() -> None:
    """Become the parent of processes whose parent exits, so that a daemon of the command cannot get away."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER; Linux only


def bury_orphans(command: int) -> None:
    """Collect ended processes that we adopted, but not the command: its exit code is still to be read."""
    with contextlib.suppress(ChildProcessError, AttributeError):
        while True:
            child = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if child is None or child.si_pid in (0, command):
                return
            os.waitpid(child.si_pid, 0)


def descendants() -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            state, parent = entry.read_text(errors="replace").rpartition(")")[2].split()[:2]
            # A zombie is dead, but its children may live.
            children.setdefault(int(parent), []).append(int(entry.parent.name) * (-1 if state in "ZX" else 1))
    found: list[int] = []
    todo = [os.getpid()]
    while todo:
        below = children.get(todo.pop(), [])
        todo += [abs(pid) for pid in below]
        found += [pid for pid in below if pid > 0]
    return found


class Command:
    """The job's command and every process that comes of it."""

    def __init__(self, text: str, env: dict[str, str], work: Path, log: Log) -> None:
        adopt_orphans()
        self._log = log
        self._oom_kills = oom_kills()
        reading, writing = os.pipe()
        try:
            self._process = subprocess.Popen(
                ["bash", "-e", "-o", "pipefail", "-c", text, "nightcrew"],
                cwd=work,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                start_new_session=True,
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        # When memory runs out the job has to go, not we who are to tell.
        with contextlib.suppress(OSError):
            Path(f"/proc/{self._process.pid}/oom_score_adj").write_text("500")
        self._reader = threading.Thread(target=self._read, args=(reading,), name="output", daemon=True)
        self._reader.start()

    def _read(self, pipe: int) -> None:
        with open(pipe, "rb", buffering=0) as output:
            while data := output.read(64 * KIB):
                self._log.write(data)

    def is_running(self) -> bool:
        bury_orphans(self._process.pid)
        return self._process.poll() is None

    def end(self, grace: float) -> None:
        """End all of its processes; those that SIGTERM does not end in time, with SIGKILL."""
        for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
            end = time.monotonic() + seconds
            self._send(number)
            while self._is_any_left():
                if time.monotonic() > end:
                    break
                if number == signal.SIGKILL:
                    self._send(number)  # to those that were born meanwhile
                time.sleep(min(0.05, TICK))
        bury_orphans(self._process.pid)
        # What still writes now cannot be ended, and need not be heard.
        self._reader.join(timeout=5)

    def _is_any_left(self) -> bool:
        return self.is_running() or bool(descendants())

    def _send(self, number: int) -> None:
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)
        for pid in descendants():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    def ending(self) -> Ending:
        code = self._process.poll()
        if code is None:
            return Ending("failed", "command could not be killed")
        return describe_exit(code, out_of_memory=oom_kills() > self._oom_kills)


# --- outputs --------------------------------------------------------------------------------------------------------


class Output(NamedTuple):
    name: str
    path: str
    bytes: int


def find_outputs(root: Path) -> tuple[list[Output], list[str], list[str]]:
    """Return the regular files, why others are not among them, and the directories that cannot be read."""
    found: list[Output] = []
    skipped: list[str] = []
    unreadable: list[str] = []
    for directory, subdirectories, names in os.walk(root, onerror=lambda error: unreadable.append(str(error))):
        subdirectories.sort()
        links = [name for name in subdirectories if os.path.islink(os.path.join(directory, name))]
        skipped += [f"{_key(directory, name, root)}: a link to a directory" for name in links]
        for name in sorted(names):
            output = _find_output(os.path.join(directory, name), _key(directory, name, root), root)
            if isinstance(output, Output):
                found.append(output)
            else:
                skipped.append(f"{_key(directory, name, root)}: {output}")
    return found, skipped, unreadable


def _find_output(path: str, key: str, root: Path) -> Output | str:
    try:
        if os.path.islink(path):
            if not _is_inside(Path(path), root):
                return "a link that leads out of the output directory"
            path = os.path.realpath(path)
        status = os.lstat(path)
    except OSError as error:
        return error.strerror or str(error)
    if not stat.S_ISREG(status.st_mode):
        return "not a regular file"
    return Output(key, path, status.st_size)


def _key(directory: str, name: str, root: Path) -> str:
    """Return the path below the root as a key: bytes that are no UTF-8 and control characters are spelled out."""
    relative = os.path.relpath(os.path.join(directory, name), root)
    text = os.fsencode(relative).decode("utf-8", "backslashreplace")
    return "".join(f"\\x{ord(character):02x}" if ord(character) < 32 else character for character in text)


class Uploads:
    """The outputs of the attempt on their way to the bucket."""

    def __init__(self, store: Store, log: Log) -> None:
        self._store, self._log = store, log
        self.done: list[Output] = []
        self.failed: list[str] = []
        self._lost = 0

    def run(self, root: Path) -> None:
        outputs, skipped, unreadable = find_outputs(root)
        self._note_some("output skipped", skipped)
        self.failed += unreadable
        outputs = self._bounded(outputs)
        with ThreadPoolExecutor(UPLOADS) as pool:
            list(pool.map(self._upload, outputs))
        self._note_some("output not uploaded", self.failed)
        self.done.sort()
        self._log.note(f"outputs uploaded: {len(self.done)} files, {size(sum(each.bytes for each in self.done))}")

    def _note_some(self, title: str, reasons: list[str]) -> None:
        for reason in reasons[:NOTED]:
            self._log.note(f"{title}: {reason}")
        if len(reasons) > NOTED:
            self._log.note(f"{title}: {len(reasons) - NOTED} more")

    def _bounded(self, outputs: list[Output]) -> list[Output]:
        kept: list[Output] = []
        total = 0
        for output in outputs:
            total += output.bytes
            if len(kept) == OUTPUT_FILES or total > OUTPUT_BYTES:
                break
            kept.append(output)
        over = f"over the limit of {OUTPUT_FILES} files or {size(OUTPUT_BYTES)} in all"
        self.failed += [f"{output.name}: {over}" for output in outputs[len(kept) :]]
        return kept

    def _upload(self, output: Output) -> None:
        if self._lost >= GIVE_UP:
            self.failed.append(f"{output.name}: given up after {GIVE_UP} others")
            return
        try:
            self._store.put_file("outputs/" + output.name, output.path, output.bytes)
            self.done.append(output)
        except AttemptError as error:
            self._lost += 1
            self.failed.append(f"{output.name}: {one_line(str(error))}")


# --- the attempt ----------------------------------------------------------------------------------------------------


class Attempt:
    """The life of one attempt on this worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker, self._roster = worker, worker.roster
        self._stop: Stop | None = None
        self._is_reclaimed = False
        # When everything but the result must be done.
        self._end = worker.deadline - 5
        least, most = DEADLINE_RESERVE
        reserve = min(max((worker.deadline - clock.now()) * DEADLINE_SHARE, least), most)
        self._command_end = worker.deadline - reserve
        self._store = Store(worker, self._seconds_left)
        self._log = Log(self._store)
        self._uploads = Uploads(self._store, self._log)
        home = Path(os.environ.get("NIGHTCREW_HOME") or "/var/lib/nightcrew") / self._roster["launch"]
        # Named by the launch: an image made from a worker must not bring that worker's outputs along.
        self._work, self._outputs = home / "work", home / "outputs"
        self._started_at: float | None = None
        self._ended_at: float | None = None

    def run(self) -> bool:
        """Return whether the machine is left to others to stop."""
        signal.signal(signal.SIGTERM, self._on_sigterm)
        threading.Thread(target=self._watch_spot, name="spot", daemon=True).start()
        self._log.note(
            f"worker {self._worker.instance_id} is up: run {self._roster['run']}, attempt {self._roster['attempt']}, "
            f"deadline {iso(self._worker.deadline)}"
        )
        self._log.start()
        ending = self._make_ending()
        self._log.note(f"{ending.outcome}: {ending.message}")
        self._log.finish(min(LOG_END_PATIENCE, max(5.0, self._seconds_left())))
        written = self._write_result(ending)
        # A Spot machine that EC2 takes back in its first hour is free of charge, unless it ends itself.
        return written and (self._is_reclaimed or self._roster["on_finish"] == "stop")

    def _make_ending(self) -> Ending:
        """Whatever goes wrong is told in the result."""
        try:
            ending = self._do_work()
        except Exception as error:
            outcome = "failed" if self._started_at else "start_failed"
            ending = Ending(outcome, one_line(f"the worker itself failed: {type(error).__name__}: {error}"))
        if self._uploads.failed:
            count, why = len(self._uploads.failed), self._uploads.failed[0]
            outcome = "failed" if ending.outcome == "succeeded" else ending.outcome
            message = f"{ending.message}; outputs that were not uploaded: {count} ({why})"
            ending = ending._replace(outcome=outcome, message=one_line(message))
        return ending

    def _do_work(self) -> Ending:
        try:
            self._prepare()
            self._check_deadline()
            if self._stop:
                return Ending(*self._stop)
            self._log.note("starting the command")  # before it can say anything itself
            command = Command(self._roster["command"], self._environment(), self._work, self._log)
        except (AttemptError, OSError, ValueError, tarfile.TarError) as error:
            # ValueError: a null character in the command or its environment.
            return Ending("start_failed", one_line(f"could not start: {error}"))
        self._started_at = clock.now()
        ending = self._see_through(command)
        self._ended_at = clock.now()
        self._log.close_output()
        self._log.note(f"{ending.message} (after {duration(self._ended_at - self._started_at)})")
        self._uploads.run(self._outputs)
        return ending

    def _prepare(self) -> None:
        for directory in (self._work, self._outputs):
            directory.mkdir(parents=True, exist_ok=True)
        files = self._roster["files"]
        if not files:
            return
        archive = self._work.parent / "files.tar.gz"
        if self._store.fetch(files["key"], archive) != files["sha256"]:
            raise PreparationError(f"{files['key']} is damaged: its SHA-256 is not {files['sha256']}")
        count = unpack(archive, self._work)
        archive.unlink()
        self._log.note(f"files unpacked: {count}")

    def _environment(self) -> dict[str, str]:
        """Return what the command sees: nothing that this process happens to have, but what is promised."""
        roster, own = self._roster, os.environ
        env = {
            "PATH": own.get("PATH") or "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": own.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir,
            "LANG": own.get("LANG") or "C.UTF-8",
            "AWS_REGION": own["AWS_REGION"],
            "AWS_DEFAULT_REGION": own["AWS_REGION"],
        }
        standard = ("AWS_ENDPOINT_URL", "AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_CA_BUNDLE")
        env.update({name: value for name, value in own.items() if name.startswith(standard)})
        env.update(roster["env"])
        env.update(
            NIGHTCREW_RUN_ID=roster["run"],
            NIGHTCREW_JOB=roster["job"],
            NIGHTCREW_ATTEMPT=str(roster["attempt"]),
            NIGHTCREW_SCHEDULED_TIME=roster["scheduled_time"],
            NIGHTCREW_SCHEDULED_DATE=roster["scheduled_time"][:10],
            NIGHTCREW_DEADLINE=roster["deadline"],
            NIGHTCREW_OUTPUT_DIR=str(self._outputs),
            NIGHTCREW_TASK_INDEX=str(self._task),
            NIGHTCREW_INSTANCE_ID=self._worker.instance_id,
        )
        return env

    @property
    def _task(self) -> int:
        return int(self._roster["tasks"][self._worker.instance_id])

    def _see_through(self, command: Command) -> Ending:
        timeout = float(self._roster["timeout"])
        timeout_end = time.monotonic() + timeout
        stop: Stop | None = None
        while command.is_running() and stop is None:
            self._check_deadline()
            if time.monotonic() > timeout_end:
                self._stop = self._stop or Stop("timed_out", f"timed out after {duration(timeout)}")
            stop = self._stop
            if stop is None:
                time.sleep(TICK)
        if stop:
            self._log.note(f"{stop.message}: ending the command")
        command.end(max(0.0, min(GRACE, self._seconds_left())))
        ending = command.ending()
        if stop is None and ending.exit_code == 128 + signal.SIGTERM:
            # Somebody else ended it. If that was the shutdown of the machine, we are told as well.
            end = time.monotonic() + TERM_ECHO
            while self._stop is None and time.monotonic() < end:
                time.sleep(TICK)
            stop = self._stop
        return ending._replace(outcome=stop.outcome, message=stop.message) if stop else ending

    def _check_deadline(self) -> None:
        if clock.now() >= self._command_end and not self._stop:
            when = iso(self._worker.deadline)
            self._stop = Stop("deadline_exceeded", f"not done in time for the run's deadline, {when}")

    def _on_sigterm(self, _number: int, _frame: Any) -> None:
        # No log and no lock here: the code that was interrupted may hold it.
        self._end = min(self._end, clock.now() + SHUTDOWN_TIME)
        self._stop = self._stop or Stop("interrupted", "the machine is being shut down (SIGTERM)")

    def _watch_spot(self) -> None:
        while True:
            notice = None
            with contextlib.suppress(OSError):
                notice = self._worker.metadata.get("spot/instance-action", tries=1)
            if notice:
                break
            time.sleep(SPOT_POLL)
        action, at = "interruption", None
        with contextlib.suppress(ValueError, TypeError, AttributeError):
            found = json.loads(notice)
            action, at = str(found.get("action")), parse_time(found.get("time"))
        at = at or clock.now() + SPOT_NOTICE
        self._is_reclaimed = True
        self._end = min(self._end, at - SPOT_RESERVE)
        self._stop = self._stop or Stop("interrupted", f"Spot interruption: EC2 announced {action} at {iso(at)}")

    def _seconds_left(self) -> float:
        return self._end - clock.now()

    def _write_result(self, ending: Ending) -> bool:
        """Write the fact that everything else rests on; the more patient, the longer the machine may live."""
        worker, roster = self._worker, self._roster
        result = {
            "version": 1,
            "run": roster["run"],
            "attempt": roster["attempt"],
            "launch": roster["launch"],
            "instance_id": worker.instance_id,
            "task": self._task,
            "outcome": ending.outcome,
            "exit_code": ending.exit_code,
            "signal": ending.signal,
            "message": ending.message,
            "booted_at": iso(worker.booted_at),
            "started_at": iso(self._started_at) if self._started_at else None,
            "ended_at": iso(self._ended_at or clock.now()),
            "outputs": [{"path": output.name, "bytes": output.bytes} for output in self._uploads.done],
            "log_parts": self._log.parts,
        }
        body = json.dumps(result, ensure_ascii=False).encode()
        end = time.monotonic() + min(max(worker.deadline - clock.now(), 60.0), RESULT_PATIENCE)
        while True:
            try:
                self._store.put("result.json", body, "application/json", max(5.0, end - time.monotonic()))
            except StorageError as error:
                # Even a refusal: the rights of a role take a while to be known everywhere.
                say(f"the result could not be written: {error}")
                if time.monotonic() > end:
                    return False
                time.sleep(min(5.0, HEARTBEAT))
            else:
                say(f"result written: {ending.outcome}")
                return True


def run(worker: Worker) -> bool:
    return Attempt(worker).run()
