"""What a comparison is, and its conditions beside its rows."""

from __future__ import annotations

import json
import re
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest

from streamt1_plugins.compare.comparison import CONDITIONS, Comparison
from streamt1_plugins.config import load as recipe
from streamt1_plugins.errors import InputError
from tests.compare.examples import comparison


def test_model_and_call_are_optional_and_circular_judges_refused_by_default() -> None:
    plain = Comparison(recipes={}, prompts=["a"], seeds=[0], judge="short-only")
    assert (plain.model, plain.call, plain.allow_circular) == (None, None, False)


def test_a_comparison_is_changed_only_as_a_copy() -> None:
    given = comparison()
    assert replace(given, prompts=["c"]).prompts == ["c"]
    assert given.prompts == ["a", "b"]
    with pytest.raises(FrozenInstanceError):
        given.judge = "bright"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"judge": "picky"}, "judge = 'short-only', and this call has 'picky'"),
        ({"call": {"chunks": 2}}, "call.chunks = None, and this call has 2"),
        ({"model": "other"}, "model = 'toy', and this call has 'other'"),
        ({"device": "cuda:1"}, "device = 'cpu', and this call has 'cuda'"),
        (
            {"recipes": {"plain": recipe.load("plain", ["search.candidates=2"])}},
            "recipes.plain.search.candidates = 1, and this call has 2",
        ),
    ],
    ids=lambda each: str(each)[:20],
)
def test_a_folder_does_not_mix_rows_that_do_not_compare(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    given = {"recipes": {"plain": recipe.load("plain")}}
    comparison(**given).record_to(tmp_path)
    comparison(recipes={"beam": recipe.load("beam")}).record_to(tmp_path)
    comparison(**given).record_to(tmp_path)
    with pytest.raises(InputError, match=re.escape(message)):
        comparison(**(given | changed)).record_to(tmp_path)
    assert set(json.loads((tmp_path / CONDITIONS).read_text())["recipes"]) == {"plain", "beam"}


def test_a_description_is_no_condition(tmp_path: Path) -> None:
    comparison().record_to(tmp_path)
    described = {name: each.model_copy(update={"description": "new"}) for name, each in comparison().recipes.items()}
    comparison(recipes=described).record_to(tmp_path)


def test_a_folder_from_before_devices_were_recorded_was_made_on_the_cpu(tmp_path: Path) -> None:
    comparison().record_to(tmp_path)
    old = json.loads((tmp_path / CONDITIONS).read_text())
    del old["device"]
    (tmp_path / CONDITIONS).write_text(json.dumps(old))
    comparison(device="cpu").record_to(tmp_path)
    (tmp_path / CONDITIONS).write_text(json.dumps(old))
    with pytest.raises(InputError, match="device = 'cpu', and this call has 'cuda'"):
        comparison(device="cuda").record_to(tmp_path)


@pytest.mark.parametrize("label", ["oracle", "oracle@4", "oracle-30s", "oracle-30s@2"])
def test_an_oracle_selects_on_the_judge_alone(label: str) -> None:
    beam = recipe.load("beam", ["rewards.long={bright: {}}", "rewards.window=2"])
    found = comparison(recipes={label: beam, "beam": beam, "my-oracle": beam})
    assert found.is_oracle(label)
    rewards = found.recipes[label].rewards
    assert (set(rewards.short), set(rewards.long), rewards.replace) == ({"short-only"}, set(), True)
    assert found.recipes["beam"] == found.recipes["my-oracle"] == beam
    judged = comparison(recipes={label: beam}, judge="bright").recipes[label].rewards
    assert (set(judged.short), set(judged.long)) == (set(), {"bright"})
    assert judged.window > 100
