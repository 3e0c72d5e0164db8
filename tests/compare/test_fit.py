"""Weights fitted to a judge, as a recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

import streamt1_plugins as streamt1
from streamt1_plugins.compare import fit
from streamt1_plugins.compare.fit import FittedWeights, fit_weights
from streamt1_plugins.compare.run import append, run
from streamt1_plugins.config import load as recipes
from streamt1_plugins.config.rewards import FixedCalibration
from streamt1_plugins.errors import InputError, RecipeError
from streamt1_plugins.plugins.resolve import resolve
from tests.compare.examples import comparison, row

REWARDS = "rewards={replace: true, short: {bright: {}}, long: {scripted: {}, bright: {weight: 3.0}}}"


def wrapped(*overrides: str) -> streamt1.StreamPipeline:
    return streamt1.load("toy", "beam", overrides=[REWARDS, *overrides])


def test_weights_follow_from_the_candidates_and_the_recipe_has_them(tmp_path: Path) -> None:
    pipe = wrapped()
    found = fit_weights(pipe, ["a", "b", "a"], "short-only", tmp_path, seeds=2)
    assert (found.videos, found.judge) == (4, "short-only")
    assert set(found.rewards) == {"short.bright", "long.scripted", "long.bright"}
    assert found.rewards["short.bright"]["correlation"]["prompts"] == 2
    assert found.rewards["short.bright"]["correlation"]["mean"] > 0.5
    short = found.recipe.rewards.short["bright"]
    assert short.weight == pytest.approx(found.rewards["short.bright"]["correlation"]["mean"])
    assert short.calibration == FixedCalibration(
        mean=found.rewards["short.bright"]["mean"], std=found.rewards["short.bright"]["spread"]
    )
    assert found.recipe.rewards.long["bright"].weight != 3.0
    assert found.recipe.search == pipe.recipe.search
    again = fit_weights(pipe, ["a", "b"], "short-only", tmp_path, seeds=2)  # the folder has them
    assert again.rewards == found.rewards
    assert streamt1.wrap(pipe, found.recipe).recipe.rewards.long["bright"] == found.recipe.rewards.long["bright"]


def test_the_file_extends_its_recipe_by_the_weights_alone(tmp_path: Path) -> None:
    base = recipes.load("beam")
    table = {"long.bright": {"correlation": None, "mean": 0.125, "spread": 0.5, "weight": 0.25}}
    text = FittedWeights(table, "the-judge", base, 3).to_yaml("beam")
    (tmp_path / "weights.yaml").write_text(text)
    assert "fitted to the-judge on the candidates of 3 videos" in text
    assert "never ranks" in text
    loaded = resolve(recipes.load(tmp_path / "weights.yaml"), "toy")
    plain = resolve("beam", "toy")
    assert loaded.rewards.long["bright"].weight == 0.25
    assert loaded.rewards.long["bright"].calibration == FixedCalibration(mean=0.125, std=0.5)
    assert loaded.rewards.short == plain.rewards.short  # suggested by the adapter
    assert loaded.search == plain.search


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompts": "a"}, "`prompts` has to be a list of texts"),
        ({"prompts": []}, "`prompts` has to be a list of texts"),
        ({"seeds": 0}, "`seeds` has to be a count from 1 on, got 0"),
        ({"seeds": True}, "`seeds` has to be a count"),
        ({"pipe": object()}, "takes a wrapped pipeline, got object"),
    ],
)
def test_wrong_arguments_are_named(tmp_path: Path, arguments: dict[str, object], message: str) -> None:
    given = {"pipe": wrapped(), "prompts": ["a"], "judge": "short-only", "out": tmp_path / "out", **arguments}
    with pytest.raises(InputError, match=message):
        fit_weights(**given)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_pipelines_that_cannot_be_fitted_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="makes one per chunk"):
        fit_weights(streamt1.load("toy", "plain"), ["a"], "short-only", tmp_path)
    given = streamt1.load("toy", "beam", rewards={"mine": wrapped()._rewards.bound[0].reward})
    with pytest.raises(InputError, match="was given objects"):
        fit_weights(given, ["a"], "short-only", tmp_path)
    with pytest.raises(RecipeError, match="selects on 'bright'"):
        fit_weights(wrapped(), ["a"], "bright", tmp_path)


def test_rewards_that_rank_against_the_judge_lead_to_no_weights() -> None:
    chunk = {"judge": [0.0, 1.0], "readings": {"long.bad": [1.0, 0.0]}}
    rows = [row("beam", "a", 0.5, judged=[chunk])]
    with pytest.raises(InputError, match=r"No reward of beam ranks candidates like 'j'(.|\n)*long\.bad"):
        fit.fitted(rows, "beam", "j", recipes.load("beam"))


def test_videos_that_were_made_without_judging_candidates_are_refused(tmp_path: Path) -> None:
    append(tmp_path, row("beam", "a", 0.5))
    fit.check_judged(tmp_path, "plain")
    with pytest.raises(InputError, match="holds 1 videos of beam whose candidates were not judged"):
        fit.check_judged(tmp_path, "beam")


def test_an_interrupted_fit_is_continued(tmp_path: Path) -> None:
    steps = run(comparison(fitted="beam"), tmp_path)
    for _ in range(3):
        next(steps)
    steps.close()
    fit.check_judged(tmp_path, "beam")
    rows = [*run(comparison(fitted="beam"), tmp_path)]
    assert [each["recipe"] for each in rows] == ["beam"]
    assert rows[0]["judged"]
