"""template.yaml as data, CloudFormation's short tags written out: `!Ref X` is {"Ref": "X"}."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.nodes import MappingNode, ScalarNode

ROOT = Path(__file__).parents[2]
PATH = ROOT / "template.yaml"
_PLACE = re.compile(r"\$\{([^!}][^}]*)\}")


class _Constructor(SafeConstructor):
    """The safe constructor, with a subclass of its own so that nobody else's YAML learns our tags."""


def _tagged(constructor: SafeConstructor, tag: str, node: Any) -> Any:
    if isinstance(node, ScalarNode):
        value: Any = constructor.construct_scalar(node)
    elif isinstance(node, MappingNode):
        value = constructor.construct_mapping(node, deep=True)
    else:
        value = constructor.construct_sequence(node, deep=True)
    if tag == "Ref":
        return {"Ref": value}
    if tag == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {f"Fn::{tag}": value}


_Constructor.add_multi_constructor("!", _tagged)


@cache
def template() -> dict[str, Any]:
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _Constructor
    loaded: dict[str, Any] = yaml.load(PATH.read_text(encoding="utf-8"))
    return loaded


def resources(kind: str) -> dict[str, dict[str, Any]]:
    """The properties of every resource of a type, by logical id."""
    return {name: item.get("Properties", {}) for name, item in template()["Resources"].items() if item["Type"] == kind}


def resource(name: str) -> dict[str, Any]:
    found: dict[str, Any] = template()["Resources"][name]["Properties"]
    return found


def parameter(name: str) -> Any:
    return template()["Parameters"][name]["Default"]


def walk(value: Any) -> Iterator[Any]:
    """Yield the value and everything in it."""
    yield value
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        yield from walk(child)


def references(value: Any) -> set[str]:
    """Logical ids, parameters and pseudo parameters that a piece of the template names."""
    found: set[str] = set()
    for part in walk(value):
        if not isinstance(part, dict) or len(part) != 1:
            continue
        ((function, argument),) = part.items()
        if function == "Ref":
            found.add(argument)
        elif function == "Fn::GetAtt":
            found.add(argument[0])
        elif function == "Fn::Sub":
            text, own = (argument, {}) if isinstance(argument, str) else argument
            found |= {place.split(".")[0] for place in _PLACE.findall(text)} - set(own)
    return found


def conditions_used(value: Any) -> set[str]:
    """Names of the conditions that a piece of the template depends on."""
    found: set[str] = set()
    for part in walk(value):
        if isinstance(part, dict):
            if isinstance(part.get("Condition"), str):
                found.add(part["Condition"])
            if "Fn::If" in part:
                found.add(part["Fn::If"][0])
    return found


def statements(value: Any) -> list[dict[str, Any]]:
    """Every statement of every policy in a piece of the template."""
    return [
        statement
        for part in walk(value)
        if isinstance(part, dict) and isinstance(part.get("Statement"), list)
        for statement in part["Statement"]
    ]


def listed(value: Any) -> list[Any]:
    """The value as a list: policies write one item without brackets."""
    return value if isinstance(value, list) else [value]
