"""What a person may write for a job or a run: a name, an id, the beginning of either, or `@last`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Protocol

from nightcrew.domain.job import Job
from nightcrew.domain.run import Run
from nightcrew.usecases.operate import JobCatalogue, NotFoundError, OperatorError

LAST = "@last"
# How far back the beginning of a run id is looked for; an id in full is found at any age.
_SEARCHED = 200
_TICK = re.compile(r"(?P<job>.+?)-(?P<tick>[0-9]{1,8}(T[0-9]{0,6}Z?(-[a-z]*)?)?)")


class RunRecords(Protocol):
    def get(self, run_id: str) -> Run | None: ...

    def open(self) -> Sequence[Run]: ...

    def recent(self, job_name: str, limit: int) -> Sequence[Run]:
        """Return the newest runs of a job, newest first."""
        ...


def find_job(reference: str, jobs: JobCatalogue) -> Job:
    """Return the one applied job of this name, or whose name begins so. Raises NotFoundError, OperatorError."""
    exact = jobs.current(reference)
    if exact is not None:
        return exact
    everything = {job.name: job for job in jobs.all_current()}
    matches = [name for name in everything if reference and name.startswith(reference)]
    if len(matches) == 1:
        return everything[matches[0]]
    if matches:
        raise _ambiguous("job", reference, matches)
    raise NotFoundError(f"no job {reference!r} is applied", *_nearest(reference, everything, "nightcrew jobs list"))


def find_run(reference: str, jobs: JobCatalogue, runs: RunRecords) -> Run:
    """Return the one run that is meant. A job's name means its newest run. Raises NotFoundError, OperatorError."""
    name, marker, _ = reference.partition(LAST)
    if marker and reference.endswith(LAST):
        return _newest_of(find_job(name, jobs).name, runs) if name else _newest_of_all(jobs, runs)
    exact = runs.get(reference)
    if exact is not None:
        return exact
    names = [job.name for job in jobs.all_current()]
    if reference in names:
        return _newest_of(reference, runs)
    return _by_beginning(reference, names, runs)


def _by_beginning(reference: str, names: Sequence[str], runs: RunRecords) -> Run:
    found = [run for name in _possible_jobs(reference, names) for run in runs.recent(name, _SEARCHED)]
    matches = {run.run_id: run for run in found if run.run_id.startswith(reference)}
    if len(matches) == 1:
        return next(iter(matches.values()))
    if matches:
        raise _ambiguous("run", reference, list(matches))
    known = [run.run_id for run in found] or names
    raise NotFoundError(f"no run {reference!r}", *_nearest(reference, known, "nightcrew ps -a"))


def _possible_jobs(reference: str, names: Iterable[str]) -> list[str]:
    """Jobs whose run ids may begin so; also one that is not applied any more, when the id names it."""
    possible = [name for name in names if name.startswith(reference) or reference.startswith(f"{name}-")]
    match = _TICK.fullmatch(reference)
    if match and match["job"] not in possible:
        possible.append(match["job"])
    return possible


def _newest_of(name: str, runs: RunRecords) -> Run:
    newest = runs.recent(name, 1)
    if not newest:
        raise NotFoundError(f"job {name!r} has no runs yet", f"nightcrew run {name}")
    return newest[0]


def _newest_of_all(jobs: JobCatalogue, runs: RunRecords) -> Run:
    candidates = [run for job in jobs.all_current() for run in runs.recent(job.name, 1)]
    candidates += runs.open()
    if not candidates:
        raise NotFoundError("there are no runs yet", "nightcrew jobs list, then nightcrew run JOB")
    return max(candidates, key=lambda run: (run.created_at, run.run_id))


def _nearest(reference: str, known: Iterable[str], command: str) -> tuple[str, ...]:
    close = difflib.get_close_matches(reference, list(known), n=3, cutoff=0.6)
    suggestion = (f"did you mean {', '.join(close)}?",) if close else ()
    return (*suggestion, f"{command} shows which there are")


def _ambiguous(kind: str, reference: str, matches: Sequence[str]) -> OperatorError:
    shown = ", ".join(matches[:5]) + (", …" if len(matches) > 5 else "")
    return OperatorError(f"{reference!r} is the beginning of {len(matches)} {kind}s: {shown}", "write more of it")
