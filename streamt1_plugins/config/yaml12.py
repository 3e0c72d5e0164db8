"""Reads and writes YAML 1.2 as recipes have it: the core schema, no duplicate keys, no aliases, errors with a place."""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from streamt1_plugins.errors import RecipeError
from streamt1_plugins.text.printable import printable

MAX_DEPTH = 20
"""Sections inside each other; a recipe needs seven."""

_TAGS = {kind: f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str")}
_CORE = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
)
"""The core schema of YAML 1.2: how an unquoted scalar is typed, and the characters it may start with."""

_LONGEST_NUMBER = 400  # characters; a float needs fewer
_BREAKS = re.compile("[\x85\u2028\u2029]")  # line breaks in YAML 1.1, characters in 1.2


def read(text: str, what: str) -> Any:
    """The data of a YAML text. Raises `RecipeError` with `what`, line and column for anything that is not allowed."""
    if found := _BREAKS.search(text):
        character = found.group()
        raise _error(
            what,
            _place(text, found.start()),
            f"the character U+{ord(character):04X} ends a line in some programs and not in others. Delete it, or write "
            f'"\\u{ord(character):04x}" in double quotes',
        )
    try:
        loader = _Reader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else None
        said = [error.context] if str(error.problem).startswith("but ") else []
        raise _error(what, place, " ".join(" ".join(map(str, [*said, error.problem])).split())) from error
    except yaml.reader.ReaderError as error:
        raise _error(
            what, _place(text, error.position), f"the character U+{error.character:04X} is not allowed"
        ) from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # ValueError: an escape beyond Unicode
        raise _error(what, None, str(error)) from error


def write(data: Any) -> str:
    """The data as YAML that this module, and every reader of YAML 1.1 or 1.2, reads as the same data."""
    text = yaml.dump(data, Dumper=_Writer, sort_keys=False, allow_unicode=True)
    if printable(text) != text:  # with characters that would steer a terminal: spell them out
        text = yaml.dump(data, Dumper=_Writer, sort_keys=False, allow_unicode=False)
    return text


def _place(text: str, position: int) -> tuple[int, int]:
    before = re.split(r"\r\n|\r|\n", text[:position])
    return len(before), len(before[-1]) + 1


def _error(what: str, place: tuple[int, int] | None, problem: str) -> RecipeError:
    where = f"line {place[0]}, column {place[1]}: " if place else ""
    return RecipeError(f"{what} is not YAML, as recipes have it: {where}{problem.rstrip('.')}.")


class _Reader(yaml.SafeLoader):
    """YAML without what makes one text mean several things, or a small text grow: tags, anchors, merge keys."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  filled below

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """The next node. Aliases can grow a small file to gigabytes, and recipes have `extends` instead."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _at(event.start_mark, "aliases (*name) and anchors (&name) are not allowed in recipes; use `extends`")
        if getattr(event, "tag", None):
            raise _at(event.start_mark, f"tags are not allowed in recipes, found {event.tag!r}; quote text instead")
        if self._depth >= MAX_DEPTH:
            raise _at(event.start_mark, f"more than {MAX_DEPTH} levels are nested")
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def compose_document(self) -> yaml.Node | None:
        """The document, which may not declare another version of YAML."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "version", None) not in (None, (1, 2)):
            raise _at(event.start_mark, "recipes are YAML 1.2; delete the %YAML line")
        return super().compose_document()

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Keys and values; each key is text and stands there once."""
        first: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != _TAGS["str"]:
                raise _at(key.start_mark, f"keys are text, found {_kind(key)}; put the key in quotes")
            if key.value == "<<" and key.style is None:
                raise _at(key.start_mark, "merge keys (<<) are not allowed in recipes; use `extends`")
            if key.value in first:
                raise _at(key.start_mark, f"the key {key.value!r} is given twice, first in line {first[key.value]}")
            first[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)

    def int_of(self, node: yaml.ScalarNode) -> int:
        """An integer of the core schema: `012` is twelve, `0o14` too."""
        text = self._number(node)
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)

    def float_of(self, node: yaml.ScalarNode) -> float:
        """A float of the core schema; one that is too large for a float is an error."""
        text = self._number(node).lower()
        value = float(text.replace(".inf", "inf").replace(".nan", "nan"))
        if math.isinf(value) and "inf" not in text:
            raise _at(node.start_mark, f"{text} is too large for a number")
        return value

    def _number(self, node: yaml.ScalarNode) -> str:
        text = str(self.construct_scalar(node))
        if len(text) > _LONGEST_NUMBER:
            raise _at(node.start_mark, f"a number of {len(text)} characters")
        return text


def _at(mark: yaml.Mark, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def _kind(node: yaml.Node) -> str:
    return repr(node.value) if isinstance(node, yaml.ScalarNode) else "a list or a section"


class _Writer(yaml.SafeDumper):
    """Quotes every text that a reader of YAML 1.1 or 1.2 would take for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        """Data that occurs twice is written twice."""
        return True

    def text(self, text: str) -> yaml.Node:
        """A text; its line breaks of YAML 1.1 are escaped."""
        return self.represent_scalar(_TAGS["str"], text, style='"' if _BREAKS.search(text) else None)


for _name, _pattern, _first in _CORE:
    for _class in (_Reader, _Writer):
        _class.add_implicit_resolver(_TAGS[_name], re.compile(f"(?:{_pattern})\\Z"), _first)
_Reader.add_constructor(_TAGS["int"], _Reader.int_of)
_Reader.add_constructor(_TAGS["float"], _Reader.float_of)
_Writer.add_representer(str, _Writer.text)
