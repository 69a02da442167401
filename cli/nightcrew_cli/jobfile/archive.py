"""The files of a job as one archive whose bytes depend on nothing but names, contents and the executable bit."""

import hashlib
import io
import os
import stat
import struct
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from nightcrew.domain.job import Files
from nightcrew_cli.jobfile.problem import Finding

MAX_BYTES = 50 * 1024 * 1024
MAX_FILES = 5_000
_IGNORED = {".git", "__pycache__", ".DS_Store"}
_BLOCK = 0xFFFF


class _RefusedError(Exception):
    """One entry of `files` cannot be packed; the message says why."""


def pack(root: Path, patterns: Iterable[str]) -> tuple[bytes | None, list[Finding]]:
    """Return the archive of what the patterns name below root, or None when that is nothing or something is wrong."""
    members: dict[str, Path] = {}
    findings: list[Finding] = []
    for index, pattern in enumerate(patterns):
        try:
            for path in _match(root, pattern):
                members[_name(root, path)] = path
            _check_size(members)
        except _RefusedError as error:
            findings.append(Finding(("files", index), f"files: {error}"))
        except OSError as error:
            findings.append(Finding(("files", index), f"files: {pattern!r} cannot be read: {error.strerror or error}"))
    if findings or not members:
        return None, findings
    try:
        return _gzip(_tar(members)), []
    except OSError as error:
        return None, [Finding(("files",), f"files: {error.filename} cannot be read: {error.strerror or error}")]


def address(archive: bytes) -> Files:
    """Return where the archive is kept: its content is its name."""
    digest = hashlib.sha256(archive).hexdigest()
    return Files(key=f"files/{digest}.tar.gz", sha256=digest)


def _match(root: Path, pattern: str) -> Iterator[Path]:
    posix = PurePosixPath(pattern)
    if not pattern or posix.is_absolute() or "\\" in pattern:
        raise _RefusedError(f"{pattern!r} must be a path relative to the job file, with '/' between folders")
    if ".." in posix.parts:
        raise _RefusedError(f"{pattern!r} leaves the folder of the job file: put the job file beside what it needs")
    matches = sorted(root.glob(pattern)) if any(sign in pattern for sign in "*?[") else [root / pattern]
    if not any(match.exists() for match in matches):
        raise _RefusedError(f"{pattern!r} matches nothing in {root}")
    for match in matches:
        if not _IGNORED.intersection(match.relative_to(root).parts):
            yield from _files_in(root, match)


def _files_in(root: Path, path: Path) -> Iterator[Path]:
    if not path.resolve().is_relative_to(root.resolve()):
        raise _RefusedError(f"{_name(root, path)!r} is a link to something outside of {root}")
    if not path.is_dir():
        if not stat.S_ISREG(path.stat().st_mode):
            raise _RefusedError(f"{_name(root, path)!r} is neither a file nor a folder")
        if path.suffix != ".pyc":
            yield path
        return
    if path.is_symlink():
        raise _RefusedError(f"{_name(root, path)!r} is a link to a folder: name the folder itself")
    for child in sorted(path.iterdir()):
        if child.name not in _IGNORED:
            yield from _files_in(root, child)


def _name(root: Path, path: Path) -> str:
    name = path.relative_to(root).as_posix()
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise _RefusedError(f"the file name {os.fsencode(name)!r} is not UTF-8") from error
    return name


def _check_size(members: Mapping[str, Path]) -> None:
    instead = "keep large inputs in S3 and fetch them in the command"
    if len(members) > MAX_FILES:
        raise _RefusedError(f"more than {MAX_FILES} files together: {instead}")
    size = sum(path.stat().st_size for path in members.values())
    if size > MAX_BYTES:
        raise _RefusedError(f"{size >> 20} MiB together, {MAX_BYTES >> 20} MiB are allowed: {instead}")


def _tar(members: Mapping[str, Path]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(members):
            content = members[name].read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mode = 0o755 if members[name].stat().st_mode & stat.S_IXUSR else 0o644
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _gzip(content: bytes) -> bytes:
    """Wrap the bytes as gzip without compressing them.

    Builds of zlib compress differently, and the archive's hash is part of the job's revision: a colleague's or
    a CI machine's Python would see a changed job where nothing changed.
    """
    parts = [b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"]
    for start in range(0, len(content), _BLOCK):
        block = content[start : start + _BLOCK]
        is_last = start + _BLOCK >= len(content)
        parts += [struct.pack("<BHH", is_last, len(block), len(block) ^ 0xFFFF), block]
    parts.append(struct.pack("<II", zlib.crc32(content), len(content)))
    return b"".join(parts)
