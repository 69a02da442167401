"""Job files from disk: finds them, reads every job in them, and reports all that is wrong at once."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from nightcrew.domain.job import Job
from nightcrew_cli.jobfile import archive, checks
from nightcrew_cli.jobfile.compiler import compile_job
from nightcrew_cli.jobfile.document import Document, SyntaxProblemError, read_documents
from nightcrew_cli.jobfile.problem import WHOLE_FILE, Finding, JobFileError, Mark, Problem
from nightcrew_cli.jobfile.validate import validate

MAX_FILE_BYTES = 256 * 1024
_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFile:
    """One job and where it was written; `files_archive` is what belongs at `job.files.key`."""

    path: Path
    job: Job
    warnings: tuple[Problem, ...] = ()
    files_archive: bytes | None = None


def load(paths: Iterable[str | os.PathLike[str]], *, now: datetime | None = None) -> list[JobFile]:
    """Read job files and all job files below folders, or raise JobFileError with every problem.

    `now` adds the warnings that depend on the date: clock changes of the coming year, schedules that are over.
    """
    loading = _Loading(now)
    for path in loading.find(Path(os.fspath(path)) for path in paths):
        loading.read(path)
    if loading.problems:
        raise JobFileError(loading.problems)
    return loading.jobs


class _Loading:
    """One call of `load`: the jobs and problems so far."""

    def __init__(self, now: datetime | None) -> None:
        self.now = now
        self.jobs: list[JobFile] = []
        self.problems: list[Problem] = []
        self.names: dict[str, str] = {}

    def find(self, paths: Iterable[Path]) -> Iterator[Path]:
        seen: set[Path] = set()
        for path in paths:
            for found in self._files_of(path):
                if found.resolve() not in seen:
                    seen.add(found.resolve())
                    yield found

    def read(self, path: Path) -> None:
        text = self._text_of(path)
        if text is None:
            return
        documents = 0
        try:
            for document in read_documents(text):
                documents += 1
                self._job_of(path, document)
        except SyntaxProblemError as error:
            self._report(path, str(error), error.mark)
            return
        if not documents:
            self._report(path, "the file is empty, it holds no job")

    def _files_of(self, path: Path) -> list[Path]:
        if not path.is_dir():
            return [path]
        found = [
            file
            for file in path.rglob("*")
            if file.suffix in _SUFFIXES
            and file.is_file()
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
        ]
        if not found:
            self._report(path, "there is no .yaml or .yml file in this folder")
        return sorted(found)

    def _text_of(self, path: Path) -> str | None:
        try:
            with path.open("rb") as file:
                content = file.read(MAX_FILE_BYTES + 1)
        except FileNotFoundError:
            self._report(path, "there is no such file")
            return None
        except OSError as error:
            self._report(path, f"the file cannot be read: {error.strerror or error}")
            return None
        if len(content) > MAX_FILE_BYTES:
            self._report(path, "the file is larger than 256 KiB, too large for a job file")
            return None
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            before = content[: error.start]
            mark = Mark(before.count(b"\n") + 1, len(before) - (before.rfind(b"\n") + 1) + 1)
            self._report(path, f"the byte 0x{content[error.start]:02x} is not UTF-8: save the file as UTF-8", mark)
            return None

    def _job_of(self, path: Path, document: Document) -> None:
        section, findings = validate(document)
        name = document.data.get("name") if isinstance(document.data, dict) else None
        if isinstance(name, str):
            findings += self._claim(name, path, document)
        packed, unpackable = archive.pack(path.parent, _patterns(document, findings))
        findings += unpackable
        if section is None or findings:
            self.problems += sorted((_problem(path, document, f) for f in findings), key=lambda p: (p.line, p.column))
            return
        job = compile_job(section, archive.address(packed) if packed is not None else None)
        warnings = tuple(_problem(path, document, warning) for warning in checks.warnings(section, job, self.now))
        self.jobs.append(JobFile(path=path, job=job, warnings=warnings, files_archive=packed))

    def _claim(self, name: str, path: Path, document: Document) -> list[Finding]:
        mark = document.mark(("name",))
        first = self.names.setdefault(name, f"{path}:{mark.line}")
        if first == f"{path}:{mark.line}":
            return []
        return [Finding(("name",), f"the job name {name!r} is already taken by {first}")]

    def _report(self, path: Path, message: str, mark: Mark = WHOLE_FILE) -> None:
        self.problems.append(Problem(file=str(path), line=mark.line, column=mark.column, message=message))


def _patterns(document: Document, findings: list[Finding]) -> list[str]:
    """Return what `files` lists, also of a job that has other faults, so that its faults show too."""
    if not isinstance(document.data, dict) or any(finding.path[:1] == ("files",) for finding in findings):
        return []
    files: list[str] = document.data.get("files", [])
    return files


def _problem(path: Path, document: Document, finding: Finding) -> Problem:
    mark = document.mark(finding.path, at_key=finding.at_key)
    return Problem(file=str(path), line=mark.line, column=mark.column, message=finding.message, hint=finding.hint)
