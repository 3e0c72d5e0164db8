"""Comparisons: paired statistics, resumable results, judges a recipe may not select on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from streamt1_plugins import recipe
from streamt1_plugins.compare import stats
from streamt1_plugins.compare.run import RESULTS, Comparison, read, run
from streamt1_plugins.errors import RecipeError

if TYPE_CHECKING:
    from pathlib import Path


def comparison(**changes: object) -> Comparison:
    recipes = {"plain": recipe.load("plain"), "beam": recipe.load("beam", ["rewards.long={bright: {}}"])}
    settings = {"recipes": recipes, "prompts": ["a", "b"], "seeds": [0, 1], "judge": "short-only", "model": "toy"}
    return Comparison(**(settings | changes))


def test_every_recipe_prompt_and_seed_is_run_once_and_judged(tmp_path: Path) -> None:
    rows = list(run(comparison(), tmp_path))
    assert {(r["recipe"], r["prompt"], r["seed"]) for r in rows} == {
        (label, prompt, seed) for label in ("plain", "beam") for prompt in "ab" for seed in (0, 1)
    }
    assert all(0 <= row["judge"]["score"] <= 1 for row in rows)
    assert {row["cost"]["candidates"] for row in rows} == {4, 16}


def test_an_interrupted_comparison_goes_on_where_it_stopped(tmp_path: Path) -> None:
    steps = run(comparison(), tmp_path)
    first = [next(steps) for _ in range(3)]
    steps.close()
    with (tmp_path / RESULTS).open("a") as file:
        file.write('{"recipe": "torn')
    assert read(tmp_path) == first


def test_results_go_on_after_a_torn_line(tmp_path: Path) -> None:
    steps = run(comparison(), tmp_path)
    next(steps)
    steps.close()
    with (tmp_path / RESULTS).open("a") as file:
        file.write('{"recipe": "torn')
    assert len(list(run(comparison(), tmp_path))) == 7
    assert len(read(tmp_path)) == 8


def test_a_judge_the_recipe_selects_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="beam selects on 'bright'"):
        list(run(comparison(judge="bright"), tmp_path))
    assert len(list(run(comparison(judge="bright", allow_circular=True), tmp_path))) == 8


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for i in range(100):
        found = stats.bootstrap({str(p): [v] for p, v in enumerate(rng.normal(0.3, 1, 40))}, seed=i)
        hits += found.low <= 0.3 <= found.high
    assert 88 <= hits <= 99


def test_seeds_of_one_prompt_are_not_independent_evidence() -> None:
    one = stats.bootstrap({"a": [0.0], "b": [1.0], "c": [0.5]})
    many = stats.bootstrap({"a": [0.0] * 9, "b": [1.0] * 9, "c": [0.5] * 9})
    assert (one.low, one.high) == (many.low, many.high)


def test_paired_differences_and_wins() -> None:
    base = {("a", 0): 0.5, ("a", 1): 0.5, ("b", 0): 1.0}
    other = {("a", 0): 0.75, ("a", 1): 0.5, ("c", 0): 9.0}
    differences = stats.paired(base, other)
    assert differences == {"a": [0.25, 0.0]}
    assert stats.wins(differences) == {"better": 1, "equal": 1, "worse": 0}
