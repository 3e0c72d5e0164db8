"""docs/api.md, from the docstrings of every public name.

python tests/docs/api_page.py      # writes the page
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_origin

import streamt1_plugins as streamt1

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "api.md"
WIDTH = 100
INTRODUCTION = """# API reference

Every public name of `streamt1_plugins`, from its docstring. [In Python](python.md) shows how they are used together,
[stability](stability.md) how they change. Written by `python tests/docs/api_page.py`.
"""
SECTIONS = {
    "Wrap and call": ["wrap", "load", "StreamPipeline", "StreamedChunk", "CostEstimate"],
    "Record, resume, replay": ["record_to", "resume", "regenerate", "branch", "export_runs", "ExportedRun"],
    "Results": ["Tree", "Node", "Reading", "Run", "Cost", "Recipe", "read_prompts", "Scene"],
    "Probe a model": ["probe_model", "ProbeOptions", "Probed"],
    "Trust rewards": ["fit_weights", "FittedWeights"],
    "Errors": [name for name in streamt1.__all__ if name.endswith("Error")],
}
"""What a caller meets; all other names are for authors of plugins."""


def page() -> str:
    """The whole page."""
    listed = {name for names in SECTIONS.values() for name in names}
    authors = {"For authors of plugins": [name for name in streamt1.__all__ if name not in listed]}
    parts = [
        f"## {title}\n\n" + "\n".join(map(entry, names)) for title, names in {**SECTIONS, **authors}.items() if names
    ]
    return "\n".join([INTRODUCTION, *parts])


def entry(name: str) -> str:
    """One public name: signature, docstring and, of a class, its public methods and properties."""
    value = getattr(streamt1, name)
    if get_origin(value) is not None or not callable(value):
        return f"### `{name}`\n\n```text\n{name} = {_plain(repr(value))}\n```\n"
    lines = [f"### `{name}`", "", *_signature(name, value), *_document(value), ""]
    if inspect.isclass(value):
        lines += [line for member in _members(value) for line in member]
    return "\n".join(lines)


def _members(kind: type) -> Iterator[list[str]]:
    """The public methods and properties that a class defines itself, in order."""
    for name, found in vars(kind).items():
        value = getattr(found, "__func__", found)
        if name.startswith("_") or not (inspect.isfunction(value) or isinstance(value, property)):
            continue
        if isinstance(value, property):
            yield [f"**`{name}`** {_line(value)}".rstrip(), ""]
        else:
            yield [*_signature(f"{kind.__name__}.{name}", value), *_document(value), ""]


def _line(value: property) -> str:
    return " ".join(_document(value))


def _signature(name: str, value: Any) -> list[str]:
    """A block with the signature, an argument per line where it is long; none where a class takes no arguments."""
    if inspect.isclass(value) and issubclass(value, BaseException):
        return []
    if value is streamt1.StreamPipeline:  # `wrap` and `load` make it
        return []
    try:
        found = inspect.signature(value)
    except ValueError:  # a class that is made as the built-in one that it extends
        return []
    parameters = [each for each in found.parameters.values() if each.name != "self"]
    if inspect.isclass(value) and [each.name for each in parameters] == ["args", "kwargs"]:
        return []
    found = found.replace(parameters=parameters)
    text = f"{name}{_plain(str(found))}"
    if len(text) > WIDTH:
        end = (
            "" if found.return_annotation is inspect.Signature.empty else f" -> {_plain(str(found.return_annotation))}"
        )
        stars = any(each.kind is inspect.Parameter.KEYWORD_ONLY for each in parameters)
        shown = [_plain(str(each)) for each in parameters]
        if stars and not any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in parameters):
            first = next(i for i, each in enumerate(parameters) if each.kind is inspect.Parameter.KEYWORD_ONLY)
            shown.insert(first, "*")
        text = "\n".join([f"{name}(", *(f"    {each}," for each in shown), f"){end}"])
    return ["```text", text, "```", ""]


def _plain(text: str) -> str:
    """A signature or value without quoted annotations, and without addresses."""
    text = re.sub(r" at 0x[0-9a-f]+", "", text)
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)


def _document(value: Any) -> list[str]:
    """The docstring as Markdown: literals in backticks, and arguments, ``name: meaning``, as a list."""
    text = re.sub(r"``(.+?)``", r"`\1`", inspect.getdoc(value) or "")
    names = "|".join(_arguments(value))
    parts: list[str] = []
    for paragraph in text.split("\n\n"):
        joined = " ".join(paragraph.split())
        found = re.split(rf"(?:^|(?<=[.)]) )((?:{names})(?:, (?:{names}))*): ", joined) if names else [joined]
        parts += [found[0].strip()] if found[0].strip() else []
        items = zip(found[1::2], found[2::2], strict=True)
        parts += ["\n".join(_wrapped(f"* `{each}`: {meaning.strip()}") for each, meaning in items)] if found[1:] else []
    return [
        line for part in parts if part for line in ("", *(part if part[0] == "*" else _wrapped(part)).splitlines())
    ][1:]


def _arguments(value: Any) -> list[str]:
    if not callable(value):
        return []
    try:
        return [name for name in inspect.signature(value).parameters if name != "self"]
    except ValueError:
        return []


def _wrapped(text: str) -> str:
    return textwrap.fill(
        text, 110, subsequent_indent="  " * (text[0] == "*"), break_long_words=False, break_on_hyphens=False
    )


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
