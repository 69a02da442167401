"""One document against the model: every problem of every field, each with its place and the nearest right word."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from nightcrew_cli.jobfile import checks
from nightcrew_cli.jobfile.document import Document
from nightcrew_cli.jobfile.model import BackoffSection, ComputeSection, JobSection, RetrySection, ScheduleSection
from nightcrew_cli.jobfile.problem import Finding, Path, dotted, suggest

_SECTIONS: dict[Path, type[BaseModel]] = {
    (): JobSection,
    ("schedule",): ScheduleSection,
    ("compute",): ComputeSection,
    ("retry",): RetrySection,
    ("retry", "backoff"): BackoffSection,
}
# Stand-ins, so that what fields say about each other is checked even when a required one is missing.
_STAND_INS = {"name": "job", "command": "true"}


def validate(document: Document) -> tuple[JobSection | None, list[Finding]]:
    """Return the job as written and what is wrong with it; there is a job only when nothing is."""
    if not isinstance(document.data, dict):
        return None, [Finding((), "a job file is a mapping of fields, such as 'name: nightly-report'")]
    findings = list(document.findings)
    wrong: set[Path] = {finding.path for finding in findings}
    section, errors = _read(document.data)
    for error in errors:
        path: Path = tuple(part for part in error["loc"] if part != "[key]")
        if path not in wrong:
            findings.append(_finding(path, error))
        wrong.add(path)
    checked = section or _read(_without(document.data, wrong))[0]
    if checked is not None:
        findings += [finding for finding, about in checks.contradictions(checked) if not _touches(about, wrong)]
    return (None if findings else section), findings


def _read(data: Mapping[str, Any]) -> tuple[JobSection | None, list[Any]]:
    try:
        return JobSection.model_validate(data), []
    except ValidationError as error:
        return None, list(error.errors(include_url=False, include_input=True))


def _without(value: Any, wrong: Iterable[Path], path: Path = ()) -> Any:
    """Return the values that are not wrong themselves."""
    if isinstance(value, dict):
        kept = {key: _without(item, wrong, (*path, key)) for key, item in value.items() if (*path, key) not in wrong}
        return kept if path else _STAND_INS | kept
    if isinstance(value, list):
        return [_without(item, wrong, (*path, i)) for i, item in enumerate(value) if (*path, i) not in wrong]
    return value


def _touches(about: Iterable[Path], wrong: Iterable[Path]) -> bool:
    """Whether one of the paths is wrong itself, or lies in or around something wrong."""
    return any(one[: len(other)] == other[: len(one)] for one in about for other in wrong)


def _finding(path: Path, error: Mapping[str, Any]) -> Finding:
    match error["type"]:
        case "extra_forbidden":
            return _unknown_key(path)
        case "missing":
            return Finding(path, f"{dotted(path)!r} is missing", at_key=True)
        case "enum":
            words = re.findall("'([^']*)'", error["ctx"]["expected"])
            given = str(error["input"])
            allowed = f"{dotted(path)}: {given!r} is not one of {', '.join(words)}"
            return Finding(path, allowed, suggest(given, words))
        case _:
            at_key = error["loc"][-1] == "[key]"
            return Finding(path, f"{dotted(path[:-1] if at_key else path)}: {_in_words(error)}", at_key=at_key)


def _unknown_key(path: Path) -> Finding:
    key, around = str(path[-1]), path[:-1]
    known = tuple(_SECTIONS[around].model_fields)
    homes = [section for section, model in _SECTIONS.items() if key in model.model_fields]
    where = f" in {dotted(around)!r}" if around else ""
    hint = suggest(key, known)
    if homes and not hint:
        hint = f"it belongs in {dotted(homes[0])!r}" if homes[0] else "it belongs at the top"
    return Finding(path, f"unknown key {key!r}{where}", hint or f"known are {', '.join(known)}", at_key=True)


_WORDS: dict[str, Callable[[Any, dict[str, Any]], str]] = {
    "value_error": lambda _given, context: str(context["error"]),
    "string_type": lambda given, _: f"this must be text, not {_kind(given)}",
    "int_type": lambda given, _: f"this must be a whole number, not {_kind(given)}",
    "bool_type": lambda given, _: f"this must be true or false, not {_kind(given)}",
    "list_type": lambda given, _: f"this must be a list, not {_kind(given)}; write [{_sample(given)}]",
    "dict_type": lambda given, _: f"this must be a mapping, not {_kind(given)}",
    "model_type": lambda given, _: f"this must be a mapping, not {_kind(given)}",
    "too_short": lambda _given, context: f"this needs at least {context['min_length']}",
    "too_long": lambda _given, context: (
        f"this has {context['actual_length']}, at most {context['max_length']} are allowed"
    ),
    "greater_than_equal": lambda given, context: f"{given} is too small, the least is {context['ge']}",
    "less_than_equal": lambda given, context: f"{given} is too large, the most is {context['le']}",
    "literal_error": lambda given, context: f"{given!r} is unknown here, this Nightcrew reads {context['expected']}",
}


def _in_words(error: Mapping[str, Any]) -> str:
    words = _WORDS.get(error["type"])
    return words(error["input"], error.get("ctx", {})) if words else str(error["msg"])


def _kind(value: Any) -> str:
    match value:
        case bool() | int() | float():
            spelled = str(value).lower()
            return f"{spelled} (in quotes it is text: '{spelled}')"
        case str():
            return f"the text {value[:40]!r}"
        case list():
            return "a list"
        case _:
            return "a mapping"


def _sample(value: Any) -> str:
    return value if isinstance(value, str) and len(value) <= 40 else "…"


def iterate_sections() -> Iterator[tuple[Path, type[BaseModel]]]:
    """Yield every section of the format with its place, for the documentation."""
    yield from _SECTIONS.items()
