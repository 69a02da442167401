"""The kinds of value in a job file: how each is read, what it must look like, and its JSON Schema."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any
from zoneinfo import available_timezones

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from nightcrew_cli.jobfile import crontab, machine, quantity
from nightcrew_cli.jobfile.problem import suggest

MAX_COMMAND_BYTES = 32 * 1024
MAX_ENV_BYTES = 32 * 1024
NAME_PATTERN = "[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?"
_RESERVED_TAGS = ("nightcrew:", "aws:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Annotates a `str`. `scalar`: YAML numbers and booleans are taken as they are written."""

    check: Callable[[str], None] | None = None
    longest: int = 0
    pattern: str = ""
    examples: tuple[str, ...] = ()
    scalar: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._read, handler(source))

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema: dict[str, Any] = {"type": ["string", "number", "boolean"] if self.scalar else "string"}
        if self.pattern:
            schema["pattern"] = f"^{self.pattern}$"
        if self.longest:
            schema["maxLength"] = self.longest
        if self.examples:
            schema["examples"] = list(self.examples)
        return schema

    def _read(self, value: str) -> str:
        if self.longest and len(value) > self.longest:
            raise ValueError(f"this has {len(value)} characters, {self.longest} are allowed")
        # Surrogates cannot be written as UTF-8, and NUL ends a string for everything that runs the command.
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            raise ValueError("this contains a character that is not text")
        if self.check is not None:
            self.check(value)
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Duration:
    """Annotates a `timedelta` written as `1h30m`."""

    lowest: timedelta
    highest: timedelta

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        # Serialised only as a default in the JSON Schema.
        spelled = core_schema.plain_serializer_function_ser_schema(quantity.format_duration)
        return core_schema.no_info_plain_validator_function(self._read, serialization=spelled)

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "pattern": f"^{quantity.DURATION_PATTERN}$", "examples": ["2h", "90m", "1h30m"]}

    def _read(self, value: Any) -> timedelta:
        duration = quantity.parse_duration(value)
        if not self.lowest <= duration <= self.highest:
            bounds = f"{quantity.format_duration(self.lowest)} and {quantity.format_duration(self.highest)}"
            raise ValueError(f"{value} is not between {bounds}")
        return duration


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Annotates an `int` of GiB written as `30GiB`."""

    lowest: int
    highest: int

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._read)

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "pattern": f"^{quantity.SIZE_PATTERN}$", "examples": ["30GiB", "1TiB"]}

    def _read(self, value: Any) -> int:
        gibibytes = quantity.parse_gibibytes(value)
        if not self.lowest <= gibibytes <= self.highest:
            raise ValueError(f"{value} is not between {self.lowest}GiB and {self.highest}GiB")
        return gibibytes


def check_name(value: str) -> None:
    if not re.fullmatch(NAME_PATTERN, value):
        raise ValueError(f"{value!r} is not a job name: 1 to 48 of a-z, 0-9 and '-', no '-' first or last")


def check_subnet(value: str) -> None:
    if not re.fullmatch("subnet-[0-9a-f]{8,17}", value):
        raise ValueError(f"{value!r} is not a subnet such as subnet-0123456789abcdef0")


def check_command(value: str) -> None:
    if not value.strip():
        raise ValueError("the command is empty")
    if len(value.encode()) > MAX_COMMAND_BYTES:
        raise ValueError("the command is longer than 32 KiB: put it in a script and ship that with 'files'")


def check_cron(value: str) -> None:
    crontab.cron_expression(value)


def check_at(value: str) -> None:
    crontab.at_expression(value)


@cache
def _timezones() -> frozenset[str]:
    return frozenset(available_timezones() - {"localtime", "Factory"})  # these two are not places


def check_timezone(value: str) -> None:
    if value not in _timezones():
        by_lower_case = {name.lower(): name for name in _timezones()}
        hint = suggest(value, by_lower_case)
        for lower_case, name in by_lower_case.items():
            hint = hint.replace(repr(lower_case), repr(name))
        raise ValueError(f"{value!r} is not an IANA time zone such as Europe/Berlin" + (f", {hint}" if hint else ""))


def check_image(value: str) -> None:
    if value not in machine.ALIASES and not re.fullmatch(r"ami-[0-9a-f]{8,17}|ssm:/[A-Za-z0-9_.\-/]{1,1000}", value):
        aliases = ", ".join(machine.ALIASES)
        hint = suggest(value, machine.ALIASES)
        raise ValueError(
            f"{value!r} is not an image; allowed: {aliases}, ami-…, ssm:/path" + (f", {hint}" if hint else "")
        )


def check_instance_type(value: str) -> None:
    if not machine.is_instance_type(value):
        raise ValueError(f"{value!r} is not an instance type such as m7g.large")
    if value.startswith("mac"):
        raise ValueError(f"{value!r} needs a dedicated host, which Nightcrew does not allocate")


def check_env_name(value: str) -> None:
    if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]{0,127}", value):
        raise ValueError(f"{value!r} is not a variable name: letters, digits and _, not a digit first")
    if value.upper().startswith("NIGHTCREW_"):
        raise ValueError(f"{value!r}: names that start with NIGHTCREW_ are set by Nightcrew")


def check_tag_key(value: str) -> None:
    if value.lower().startswith(_RESERVED_TAGS) or value == "Name":
        raise ValueError(f"the tag {value!r} is reserved: Nightcrew and AWS set 'Name', 'nightcrew:…' and 'aws:…'")
    if value in (".", "..", "_index") or not re.fullmatch(r"[A-Za-z0-9+\-=.,_:@]{1,128}", value):
        raise ValueError(
            f"{value!r} is not a tag key the instance can read: 1 to 128 of letters, digits and + - = . , _ : @,"
            " without spaces and '/'"
        )


def check_tag_value(value: str) -> None:
    if not re.fullmatch(r"[\w .:/=+\-@]*", value):
        raise ValueError(f"{value!r} is not a tag value: letters, digits, spaces and _ . : / = + - @")


def check_env_size(value: dict[str, str]) -> dict[str, str]:
    if sum(len(name.encode()) + len(text.encode()) for name, text in value.items()) > MAX_ENV_BYTES:
        raise ValueError("all variables together are longer than 32 KiB: ship a file instead")
    return value


def check_no_repeats(value: list[str]) -> list[str]:
    repeated = [item for index, item in enumerate(value) if item in value[:index]]
    if repeated:
        raise ValueError(f"{repeated[0]!r} is listed twice")
    return value
