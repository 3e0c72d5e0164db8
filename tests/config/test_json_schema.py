"""The committed JSON Schema is the code's, and it accepts every shipped recipe and refuses what the code refuses."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamt1_plugins.config import json_schema
from streamt1_plugins.config import load as recipe
from streamt1_plugins.config.schema import Recipe

FILE = Path(__file__).parents[2] / "docs" / "recipe.schema.json"


def test_the_committed_schema_is_the_codes() -> None:
    written = FILE.read_text(encoding="utf-8")
    assert written == json_schema.text(), "write it anew: streamt1 recipes schema docs/recipe.schema.json"


def test_it_knows_every_section_and_extends() -> None:
    schema = json_schema.schema()
    assert set(schema["properties"]) == {"extends", *Recipe.model_fields}
    assert schema["additionalProperties"] is False
    assert set(json_schema.BY_NAME) <= set(schema["$defs"])
    assert json.loads(json_schema.text()) == schema


def errors(text: str) -> list[str]:
    jsonschema: Any = importlib.import_module("jsonschema")
    validator: Any = jsonschema.Draft202012Validator(json_schema.schema())
    return [error.message for error in validator.iter_errors(yaml.safe_load(text))]


@pytest.mark.parametrize("name", sorted(recipe.names()))
def test_every_shipped_recipe_passes(name: str) -> None:
    assert errors(recipe.find(name).read_text(encoding="utf-8")) == []
    assert errors(recipe.load(name).to_yaml()) == []


@pytest.mark.parametrize(
    "text",
    [
        "selection: top_k",
        "rewards: {long: {hpsv3: {where: 'http://127.0.0.1:8000'}}}",
        "rewards: {long: {basic: {calibration: {mean: 1}}}}",
        "extends: mine.yaml\nnoise: {name: theirs, depth: 3}",
        "search: {park: device}\nparallel: {previews: false}",
    ],
)
def test_what_the_code_takes_passes(text: str) -> None:
    assert errors(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "searchh: {}",
        "search: {top_k: 0}",
        "search: {final: best}",
        "search: {offload: device}",
        "search: {park: none}",
        "rewards: {long: {basic: {weight: -1}}}",
        "seed: -1",
    ],
)
def test_what_the_code_refuses_fails(text: str) -> None:
    assert errors(text)
