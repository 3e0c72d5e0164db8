"""Properties of loading recipes that hold for any data: merging, overrides, round trips, errors of one kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

from streamt1_plugins.config import yaml12
from streamt1_plugins.config.load import load
from streamt1_plugins.config.merge import flat, merged
from streamt1_plugins.config.schema import PARTS, Recipe
from streamt1_plugins.errors import RecipeError, UnknownNameError

settings.register_profile("here", deadline=None, derandomize=True, database=None)
settings.load_profile("here")

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
KEYS = sorted({*Recipe.model_fields, "extends", "name", "park", "offload", "short", "long", "calibration", "where"})
NAMES = st.sampled_from(KEYS) | TEXT
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
DATA = st.dictionaries(
    NAMES,
    st.recursive(
        SCALARS | st.floats(allow_nan=False) | st.sampled_from(["plain", "stream-t1", "running"]),
        lambda below: st.lists(below, max_size=3) | st.dictionaries(NAMES, below, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


def rewards() -> st.SearchStrategy[dict[str, Any]]:
    """The rewards of one horizon."""
    calibration = st.sampled_from(["none", "running", "group", "rank"]) | st.fixed_dictionaries({"mean": st.just(0.5)})
    options = st.dictionaries(TEXT, SCALARS | st.lists(SCALARS, max_size=3), max_size=2)
    part = {"weight": st.floats(0, 10), "calibration": calibration, "stage": st.integers(1, 3), "options": options}
    return st.dictionaries(TEXT.filter(bool), st.fixed_dictionaries({}, optional=part), max_size=2)


def sections() -> dict[str, st.SearchStrategy[Any]]:
    """Valid values for the keys of a recipe."""
    search = {
        "candidates": st.integers(1, 8),
        "top_k": st.integers(1, 8),
        "final": st.sampled_from(["whole_video", "last_chunk"]),
        "offload": st.sampled_from(["none", "cpu", "recompute"]),
    }
    found = {
        "description": TEXT,
        "model": st.none() | TEXT,
        "seed": st.integers(0, 2**64 - 1),
        "search": st.fixed_dictionaries({}, optional=search),
        "early": st.fixed_dictionaries({}, optional={"steps": st.integers(0, 9), "keep": st.floats(0.1, 1)}),
        "rewards": st.fixed_dictionaries({}, optional={"short": rewards(), "long": rewards()}),
    }
    names = st.sampled_from(["one", "another"])
    options = st.dictionaries(st.sampled_from(["a", "b", "ä b: #"]), SCALARS, max_size=2)
    for part in PARTS:
        found[part] = names | st.builds(lambda name, given: {**given, "name": name}, names, options)
    return found


SECTIONS = sections()
RECIPES = st.fixed_dictionaries({}, optional=SECTIONS)
"""The data of valid recipes."""

OVERLAYS = RECIPES.map(lambda data: {key: value for key, value in data.items() if key not in PARTS})
"""The same without parts."""


# Any data at all.


def is_recipe_or_error(source: Any, overrides: Sequence[str] = ()) -> bool:
    """Whether loading gives a recipe or one of the errors it promises; any other one gets through."""
    try:
        return isinstance(load(source, overrides), Recipe)
    except (RecipeError, UnknownNameError) as error:
        return bool(str(error))


@given(DATA)
def test_any_data_is_a_recipe_or_an_error_of_one(data: dict[str, Any]) -> None:
    assert is_recipe_or_error(data)


@given(st.text() | st.builds("{}={}".format, NAMES, st.text()))
def test_any_override_is_one_or_an_error_of_one(override: str) -> None:
    assert is_recipe_or_error("plain", [override])


@given(text=st.text() | DATA.map(yaml12.write))
def test_any_file_is_a_recipe_or_an_error_of_one(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path: Path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(text.encode())
    assert is_recipe_or_error(path)


@pytest.mark.parametrize("value", ["[" * 5000, "&a [*a]", "!!int x", "? [1]\n: 2", "\0"])
def test_yaml_that_libraries_stumble_over_is_an_error_of_the_recipe(value: str) -> None:
    with pytest.raises(RecipeError, match="is not YAML"):
        load({}, [f"seed={value}"])


# Round trips.


@given(RECIPES)
def test_a_recipe_survives_yaml(data: dict[str, Any]) -> None:
    recipe = load(data)
    assert load(yaml12.read(recipe.to_yaml(), "it")) == recipe


@given(RECIPES, RECIPES)
def test_overrides_survive_yaml(data: dict[str, Any], over: dict[str, Any]) -> None:
    given_keys = {key: value for key, value in over.items() if key != "rewards"}
    recipe = load(data, [f"{key}={yaml12.write(value)}" for key, value in given_keys.items()])
    assert load(yaml12.read(recipe.to_yaml(), "it")) == recipe
    found, wanted = flat(recipe.model_dump()), flat(load(given_keys).model_dump())
    assert all(found[key] == wanted[key] for key in flat(given_keys) if key in found)


@given(
    RECIPES, st.sampled_from(["search.top_k", "search.candidates", "early.steps", "rewards.window"]), st.integers(1, 9)
)
def test_an_override_changes_its_own_key_alone(data: dict[str, Any], key: str, value: int) -> None:
    before, after = (flat(load(data, overrides).model_dump()) for overrides in ((), (f"{key}={value}",)))
    assert after == {**before, key: value}


# Merging.


@given(DATA)
def test_nothing_on_top_changes_nothing(data: dict[str, Any]) -> None:
    assert merged(data, {}) == data
    assert merged({}, data) == data


@given(DATA, DATA)
def test_the_same_on_top_again_changes_nothing(base: dict[str, Any], over: dict[str, Any]) -> None:
    once = merged(base, over)
    assert merged(once, over) == once


@given(OVERLAYS, OVERLAYS, OVERLAYS)
def test_merging_sections_is_associative(one: dict[str, Any], two: dict[str, Any], three: dict[str, Any]) -> None:
    for each in (one, two, three):  # a calibration may be a word in one recipe and a section in another
        for horizon in each.get("rewards", {}).values():
            for reward in horizon.values():
                reward.pop("calibration", None)
    assert merged(merged(one, two), three) == merged(one, merged(two, three))


@given(RECIPES, RECIPES)
def test_merging_leaves_its_arguments_alone(base: dict[str, Any], over: dict[str, Any]) -> None:
    before = yaml12.write([base, over])
    merged(base, over)
    assert yaml12.write([base, over]) == before


@given(RECIPES, st.sampled_from(PARTS))
def test_a_part_of_another_name_replaces_the_whole_part(data: dict[str, Any], part: str) -> None:
    assert merged(data, {part: {"name": "third", "x": 1}})[part] == {"name": "third", "x": 1}
