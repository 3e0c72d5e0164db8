"""The JSON Schema of recipes, for editors: the schema of `Recipe` plus what is allowed in a file only."""

from __future__ import annotations

import json
from typing import Any

from streamt1_plugins.config.renamed import RENAMED
from streamt1_plugins.config.schema import Recipe

BY_NAME = ("AdapterPart", "WidthPart", "NoisePart", "ScoringPart", "SelectionPart", "MemoryPart", "Place")
"""Sections that may be a bare string too."""


def schema() -> dict[str, Any]:
    """A schema that every valid recipe file passes. It allows any option of a part, because plugins define those."""
    found = Recipe.model_json_schema()
    _add_old_keys(found)
    for name in BY_NAME:
        found["$defs"][name] = {"anyOf": [{"type": "string"}, found["$defs"][name]]}
    extends = {"type": "string", "title": "Extends", "description": "A shipped recipe or a file to start from."}
    found["properties"] = {"extends": extends, **found["properties"]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}


def _add_old_keys(found: dict[str, Any]) -> None:
    for key in RENAMED:
        section = found["$defs"][type(Recipe.model_fields[key.section].default).__name__]["properties"]
        old = {**section[key.new], "title": key.old, "deprecated": True, "description": f"Now {key.now}."}
        renamed = {new: before for before, new in key.values.items()}
        if "enum" in old:
            old["enum"] = [renamed.get(value, value) for value in old["enum"]]
        old["default"] = renamed.get(old["default"], old["default"])
        section[key.old] = old


def text() -> str:
    """The schema as it is written to a file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"
