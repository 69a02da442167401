"""What is wrong with a job file, and where: the one shape in which all checks report."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from nightcrew.usecases.errors import NightcrewError

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a file, both counted from 1; line 0 means the file as a whole."""

    line: int = 0
    column: int = 0


WHOLE_FILE = Mark()


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing to put right (or, as a warning, to know). `hint` is how."""

    file: str
    line: int
    column: int
    message: str
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{where}: {self.message}" + (f", {self.hint}" if self.hint else "")


class JobFileError(NightcrewError):
    """Job files that cannot be used, with everything that is wrong with them."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem in terms of the document: `path` says where, `at_key` whether the key itself is meant."""

    path: Path
    message: str
    hint: str = ""
    at_key: bool = False


def dotted(path: Path) -> str:
    """Spell a path as people write it: `compute.instance_types[0]`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def suggest(word: str, known: Iterable[str]) -> str:
    """Return the hint that names the nearest right word, or nothing."""
    nearest = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return f"did you mean {nearest[0]!r}?" if nearest else ""
