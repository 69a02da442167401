"""YAML text to plain values, with the position of every key and value, and nothing that YAML guesses.

Text stays as written unless it is plainly a whole number, a decimal or true/false, so `no`, `12:30`, `010`
and dates are text. Anchors work, within a bound; tags, merge keys and values left empty are refused.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from nightcrew_cli.jobfile.problem import WHOLE_FILE, Finding, Mark, Path

MAX_NODES = 5_000
MAX_DEPTH = 20
_PREFIX = "tag:yaml.org,2002:"
_PLAIN_TAGS = {_PREFIX + name for name in ("str", "int", "float", "bool", "null", "timestamp", "merge", "value")}
_TEXT_MAPPINGS = {("env",), ("tags",)}


class SyntaxProblemError(Exception):
    """The text is not YAML; the message says what, `mark` where."""

    def __init__(self, message: str, mark: Mark) -> None:
        super().__init__(message)
        self.mark = mark


@dataclass(slots=True)
class Document:
    """One YAML document: its values, where each stands, and what is wrong with its form."""

    data: Any = None
    start: Mark = WHOLE_FILE
    keys: dict[Path, Mark] = field(default_factory=dict)
    values: dict[Path, Mark] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def mark(self, path: Path, *, at_key: bool = False) -> Mark:
        """Return where a path stands, or else the nearest thing around it."""
        places = (self.keys, self.values) if at_key else (self.values, self.keys)
        for end in range(len(path), 0, -1):
            for place in places:
                if path[:end] in place:
                    return place[path[:end]]
            places = (self.keys, self.values)
        return self.start


def read_documents(text: str) -> Iterator[Document]:
    """Yield the documents that are not empty, or raise SyntaxProblemError where the text stops being YAML."""
    yaml = YAML(typ="safe", pure=True)
    yaml.allow_duplicate_keys = True  # we report them ourselves, with both positions
    nodes = iter(yaml.compose_all(io.StringIO(text)))
    while True:
        try:
            node = next(nodes, None)
        except MarkedYAMLError as error:
            raise SyntaxProblemError(_in_words(error), _mark(error.problem_mark or error.context_mark)) from error
        except ReaderError as error:
            before = text[: error.position]
            mark = Mark(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)
            raise SyntaxProblemError(f"the character U+{int(error.character):04X} is not allowed", mark) from error
        except (YAMLError, ValueError) as error:
            raise SyntaxProblemError(f"this is not YAML: {error}", WHOLE_FILE) from error
        except RecursionError as error:
            raise SyntaxProblemError("the values are nested too deeply", WHOLE_FILE) from error
        if node is None:
            return
        if not (isinstance(node, ScalarNode) and node.tag == _PREFIX + "null"):
            yield _Builder().build(node)


class _Builder:
    """Turns one node tree into a Document; counts, so that aliases cannot blow it up."""

    def __init__(self) -> None:
        self.document = Document()
        self.count = 0

    def build(self, node: Node) -> Document:
        self.document.start = _mark(node.start_mark)
        self.document.data = self._value(node, ())
        return self.document

    def _value(self, node: Node, path: Path) -> Any:
        self.document.values.setdefault(path, _mark(node.start_mark))
        self.count += 1
        if self.count > MAX_NODES or len(path) > MAX_DEPTH:
            if self.count <= MAX_NODES + 1:
                self._report(path, "too many or too deeply nested values (do aliases repeat each other?)")
                self.count = MAX_NODES + 1
            return ""
        match node:
            case MappingNode():
                return self._mapping(node, path)
            case SequenceNode():
                return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]
            case ScalarNode():
                return self._scalar(node, path)
            case _:
                raise AssertionError(f"YAML has no node {node!r}")

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            mark = _mark(key_node.start_mark)
            if not isinstance(key_node, ScalarNode) or key_node.tag == _PREFIX + "null":
                self.document.values[(*path, "?")] = mark
                self._report((*path, "?"), "a key must be a plain word")
                continue
            key = str(key_node.value)
            here = (*path, key)
            if key in mapping or here in self.document.keys:
                first = self.document.keys[here]
                where = (*path, key, "(again)")
                self.document.values[where] = mark
                self._report(where, f"duplicate key {key!r}, first given at line {first.line}, column {first.column}")
                continue
            self.document.keys[here] = mark
            if key == "<<":
                self._report(here, "merge keys ('<<') are not supported", "repeat the values", at_key=True)
            elif _is_empty(value_node):
                self._report(here, f"{key!r} has no value", "give it one or leave the key out", at_key=True)
            else:
                mapping[key] = self._value(value_node, here)
        return mapping

    def _scalar(self, node: ScalarNode, path: Path) -> Any:
        text = str(node.value)
        if node.tag not in _PLAIN_TAGS:
            self._report(path, f"YAML tags such as {str(node.tag).replace(_PREFIX, '!!')!r} are not supported")
            return text
        if path[:-1] in _TEXT_MAPPINGS or node.style is not None:
            return text
        if re.fullmatch("-?(0|[1-9][0-9]{0,17})", text):
            return int(text)
        if re.fullmatch(r"-?[0-9]{1,18}\.[0-9]{1,18}", text):
            return float(text)
        return {"true": True, "false": False}.get(text, text)

    def _report(self, path: Path, message: str, hint: str = "", *, at_key: bool = False) -> None:
        self.document.findings.append(Finding(path, message, hint, at_key))


def _is_empty(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.tag == _PREFIX + "null" and node.style is None


def _mark(mark: Any) -> Mark:
    return WHOLE_FILE if mark is None else Mark(mark.line + 1, mark.column + 1)


def _in_words(error: MarkedYAMLError) -> str:
    problem = str(error.problem)
    if "'\\t'" in problem:
        return "a tab cannot indent YAML, use spaces"
    context = f" {error.context}" if error.context else ""
    if error.context and error.context_mark is not None:
        context += f" that starts at line {error.context_mark.line + 1}"
    return f"this is not YAML: {problem}{context}"
