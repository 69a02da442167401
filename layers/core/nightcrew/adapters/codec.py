"""Frozen dataclasses to JSON and back, by their type hints.

Records outlive the code that wrote them: keys we do not know are left out when reading, and fields that an
older record lacks take their defaults.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from nightcrew.domain.job import Job

T = TypeVar("T")


def encode(value: Any) -> Any:
    """Return the value in JSON's own types."""
    if isinstance(value, Job):
        return value.to_json()  # The compiled job has a format of its own, which the CLI writes too.
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: encode(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    if isinstance(value, Mapping):
        return {key: encode(item) for key, item in value.items()}
    return value


def decode(cls: type[T], data: Any) -> T:
    """Return the dataclass that `encode` wrote. Raises KeyError, TypeError or ValueError on other data."""
    result: T = _decode(cls, data)
    return result


def _decode(hint: Any, data: Any) -> Any:
    if data is None:
        return None
    origin = get_origin(hint)
    if origin in {Union, types.UnionType}:
        return _decode(next(option for option in get_args(hint) if option is not type(None)), data)
    if origin is tuple:
        return _decode_tuple(get_args(hint), data)
    if hint is Job:
        return Job.from_json(data)
    if is_dataclass(hint):
        return _decode_dataclass(hint, data)
    return _decode_plain(hint, data)


def _decode_tuple(items: tuple[Any, ...], data: Any) -> tuple[Any, ...]:
    if len(items) == 2 and items[1] is Ellipsis:
        return tuple(_decode(items[0], item) for item in data)
    return tuple(_decode(hint, item) for hint, item in zip(items, data, strict=True))


def _decode_dataclass(cls: Any, data: Mapping[str, Any]) -> Any:
    hints = _hints(cls)
    values = {}
    for field in fields(cls):
        if field.name in data:
            values[field.name] = _decode(hints[field.name], data[field.name])
        elif field.default is MISSING and field.default_factory is MISSING:
            raise KeyError(f"{cls.__name__}.{field.name}")
    return cls(**values)


def _decode_plain(hint: Any, data: Any) -> Any:
    if hint is datetime:
        return datetime.fromisoformat(data)
    if hint is timedelta:
        return timedelta(seconds=data)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint(data)
    return data


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)
