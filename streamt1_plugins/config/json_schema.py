"""The JSON Schema of recipes, for editors: the schema of `recipe.Recipe` plus what is allowed in a file only."""

from __future__ import annotations

import json
from typing import Any

from streamt1_plugins.config.schema import Recipe

BY_NAME = ("AdapterPart", "WidthPart", "NoisePart", "ScoringPart", "SelectionPart", "MemoryPart", "Place")
"""Sections that may be a bare string too."""


def schema() -> dict[str, Any]:
    """A schema that every valid recipe file passes; options of parts are open, for they are the plugins'."""
    found = Recipe.model_json_schema()
    for name in BY_NAME:
        found["$defs"][name] = {"anyOf": [{"type": "string"}, found["$defs"][name]]}
    extends = {"type": "string", "title": "Extends", "description": "A shipped recipe or a file to start from."}
    found["properties"] = {"extends": extends, **found["properties"]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}


def text() -> str:
    """The schema as it is written to a file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"
