"""Outputs to files. Their names were chosen by a worker: none may lead out of the folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from nightcrew.domain.run import Attempt
from nightcrew_cli.failures import CommandError


class OutputSource(Protocol):
    def outputs(self, attempt: Attempt) -> Sequence[tuple[str, int]]: ...

    def download(self, attempt: Attempt, path: str) -> Iterator[bytes]: ...


def download_outputs(source: OutputSource, attempt: Attempt, folder: Path) -> list[Path]:
    """Write every output below the folder and return the files. Raises CommandError before a name could do harm."""
    paths = [(name, safe_path(name, folder)) for name, _ in source.outputs(attempt)]
    for name, path in paths:
        _write(source.download(attempt, name), path, folder)
    return [path for _, path in paths]


def safe_path(name: str, folder: Path) -> Path:
    """Return where an output of this name goes, or raise CommandError when that is not below the folder."""
    parts = PurePosixPath(name).parts
    plain = bool(parts) and not name.startswith("/") and ".." not in parts and "\\" not in name and "\0" not in name
    if not plain or any(not part.isprintable() for part in parts):
        raise CommandError(f"the output {name!r} has a name that is not safe to write; nothing was downloaded")
    return folder.joinpath(*parts)


def _write(content: Iterator[bytes], path: Path, folder: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A link that stands there already may lead anywhere.
    if not path.parent.resolve().is_relative_to(folder.resolve()):
        raise CommandError(f"{path.parent} leads out of {folder}")
    draft = path.with_name(f".{path.name[:100]}.part")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644), "wb") as file:
        for chunk in content:
            file.write(chunk)
    draft.replace(path)
