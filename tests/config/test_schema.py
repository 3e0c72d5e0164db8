"""The sections of a recipe: defaults, shorthand and what is derived from them."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from streamt1_plugins.config.schema import PARTS, ParallelSettings, Recipe, SearchSettings, cannot_draft


def test_every_key_has_a_default() -> None:
    recipe = Recipe()
    assert (recipe.search.candidates, recipe.search.top_k, recipe.search.offload) == (2, 2, "none")
    assert recipe.parallel == ParallelSettings(thumbnails=True)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_may_be_a_bare_name(part: str) -> None:
    found = getattr(Recipe.model_validate({part: "mine"}), part)
    assert (found.name, found.options) == ("mine", {})


@pytest.mark.parametrize("part", PARTS)
def test_the_other_keys_of_a_part_are_its_options(part: str) -> None:
    found = getattr(Recipe.model_validate({part: {"name": "mine", "gain": 2.5}}), part)
    assert found.options == {"gain": 2.5}


def test_only_an_adapter_may_have_no_name() -> None:
    assert Recipe().adapter.name is None
    assert all(getattr(Recipe(), part).name for part in PARTS if part != "adapter")


@pytest.mark.parametrize(("candidates", "top_k", "wide"), [(1, 1, False), (2, 1, True), (1, 2, True), (4, 2, True)])
def test_a_search_is_wide_where_there_is_something_to_choose(candidates: int, top_k: int, wide: bool) -> None:
    assert SearchSettings(candidates=candidates, top_k=top_k).is_wide is wide


def test_yaml_has_every_section_in_the_order_of_the_schema() -> None:
    data: dict[str, Any] = yaml.safe_load(Recipe(description="größe").to_yaml())
    assert list(data) == list(Recipe.model_fields)
    assert data["description"] == "größe"


def test_a_section_cannot_be_changed_and_takes_no_other_keys() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Recipe().search.top_k = 3
    with pytest.raises(ValidationError, match="Extra inputs"):
        SearchSettings.model_validate({"width": 3})


def test_an_adapter_without_drafts_is_named_with_the_way_out() -> None:
    assert "'helios'" in str(cannot_draft("helios"))
    assert "early.steps=0" in str(cannot_draft("helios"))
