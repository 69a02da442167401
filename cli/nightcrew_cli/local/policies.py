"""Policy variables: `${aws:userid}` and the like in Resource and in condition values.

The emulator compares them as plain text, so such a statement never matches. AWS puts the value in; a variable without a
value makes the statement not match; `${*}`, `${?}` and `${$}` are the characters themselves.
"""

import re
from collections.abc import Mapping
from typing import Any

VARIABLE = re.compile(r"\$\{([^}]*)\}")
ITSELF = {"*", "?", "$"}


class NoValueError(Exception):
    """The request has no value for a variable."""


def values_of(context: Any) -> dict[str, Any]:
    """Return what a request knows, by condition key in lower case; `context` is the emulator's EvalContext."""
    return {
        **{key.lower(): value for key, value in context.service_context.items()},
        **{key.lower(): value for key, value in context.principal_keys.items()},
        "aws:principalaccount": context.principal_account,
        "aws:principalarn": context.principal_arn,
        "aws:requestedregion": context.region,
        "aws:sourceip": context.source_ip,
    }


def has_variables(value: Any) -> bool:
    return isinstance(value, str) and "${" in value


def value_of(name: str, values: Mapping[str, Any]) -> str:
    key, separator, default = (part.strip() for part in name.partition(","))
    found = values.get(key.lower())
    if isinstance(found, str) and found:
        return found
    if separator:
        return str(default).strip("'")
    raise NoValueError(name)


def filled(text: str, values: Mapping[str, Any]) -> str:
    """Return the text with every variable's value put in."""

    def put_in(match: re.Match[str]) -> str:
        name = match.group(1)
        return name if name in ITSELF else value_of(name, values)

    return VARIABLE.sub(put_in, text)


def resource_matches(resource: str, pattern: str, values: Mapping[str, Any]) -> bool:
    """Match a resource; wildcards of the pattern count, those of a value are plain characters."""
    expression, end = "", 0
    for match in VARIABLE.finditer(pattern):
        expression += _wild(pattern[end : match.start()])
        try:
            name = match.group(1)
            expression += re.escape(name if name in ITSELF else value_of(name, values))
        except NoValueError:
            return False
        end = match.end()
    return re.fullmatch(expression + _wild(pattern[end:]), resource) is not None


def _wild(text: str) -> str:
    wild = {"*": ".*", "?": "."}
    return "".join(wild.get(part) or re.escape(part) for part in re.split(r"([*?])", text))


def conditions_filled(conditions: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the condition block with values put in. Raise NoValueError when one is missing."""

    def of(value: Any) -> Any:
        if isinstance(value, list):
            return [of(item) for item in value]
        return filled(value, values) if has_variables(value) else value

    return {
        operator: {key: of(value) for key, value in block.items()} if isinstance(block, dict) else block
        for operator, block in conditions.items()
    }
