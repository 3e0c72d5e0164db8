"""Rows: generated, judged, and continued after an interruption."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from streamt1_plugins.api.hookspecs import hookimpl
from streamt1_plugins.api.reward import RewardInput, RewardOutput
from streamt1_plugins.compare.run import HEIGHT, RESULTS, SHOWN, Pipelines, checker, read, run, scores
from streamt1_plugins.config import load as recipe
from streamt1_plugins.errors import InputError, RecipeError
from tests.compare.examples import comparison

SEEDS = (0, 1)


def test_every_recipe_prompt_and_seed_is_run_once_and_judged(tmp_path: Path) -> None:
    rows = list(run(comparison(seeds=SEEDS), tmp_path))
    assert {(r["recipe"], r["prompt"], r["seed"]) for r in rows} == {
        (label, prompt, seed) for label in ("plain", "beam") for prompt in "ab" for seed in SEEDS
    }
    assert all(0 <= row["judge"]["score"] <= 1 for row in rows)
    assert {row["cost"]["candidates"] for row in rows} == {4, 16}


def test_an_unfinished_line_is_not_read(tmp_path: Path) -> None:
    steps = run(comparison(seeds=SEEDS), tmp_path)
    first = [next(steps) for _ in range(3)]
    steps.close()
    with (tmp_path / RESULTS).open("a") as file:
        file.write('{"recipe": "torn')
    assert read(tmp_path) == first


def test_an_interrupted_comparison_generates_only_what_is_missing(tmp_path: Path) -> None:
    steps = run(comparison(seeds=SEEDS), tmp_path)
    next(steps)
    steps.close()
    with (tmp_path / RESULTS).open("a") as file:
        file.write('{"recipe": "torn')
    assert len(list(run(comparison(seeds=SEEDS), tmp_path))) == 7
    assert len(read(tmp_path)) == 8


def test_two_equal_comparisons_at_once_share_the_videos(tmp_path: Path) -> None:
    one, other = (run(comparison(seeds=SEEDS), tmp_path) for _ in range(2))
    made = [next(one), next(other), next(one), *other, *one]  # each has a video in the making while the other goes on
    assert len(made) == len({(row["recipe"], row["prompt"], row["seed"]) for row in made}) == 8
    assert read(tmp_path) == made
    assert not [each for each in tmp_path.iterdir() if each.name.startswith(".")]


def test_a_judge_the_recipe_selects_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="beam selects on 'bright'"):
        list(run(comparison(seeds=SEEDS, judge="bright"), tmp_path))
    assert len(list(run(comparison(seeds=SEEDS, judge="bright", allow_circular=True), tmp_path))) == 8


def test_every_video_has_a_strip_of_its_own(tmp_path: Path) -> None:
    names = [each["strip"] for each in run(comparison(), tmp_path)]
    assert len(set(names)) == 4
    assert {path.name for path in (tmp_path / "strips").iterdir()} == {Path(name).name for name in names}
    for name in names:
        with Image.open(tmp_path / name) as strip:
            assert strip.format == "JPEG"
            assert strip.height <= HEIGHT
            assert strip.width == SHOWN * strip.height  # the toy's pictures are square


class HalfBlind:
    def score(self, inp: RewardInput) -> RewardOutput:
        return RewardOutput(torch.tensor([0.5]), {"seen": torch.tensor([1.0]), "hidden": torch.tensor([torch.nan])})


def test_a_part_of_the_judge_that_does_not_apply_is_none() -> None:
    pipe = Pipelines("toy")(recipe.load("plain"))
    pipe("a", output_type="latent")
    assert scores(HalfBlind(), torch.zeros(4, 3, 2, 2), "a", pipe.last_run.session) == {
        "score": 0.5,
        "seen": 1.0,
        "hidden": None,
    }


def test_the_model_is_loaded_once() -> None:
    pipelines = Pipelines("toy")
    first, second = pipelines(recipe.load("plain")), pipelines(recipe.load("beam"))
    assert first.pipe is second.pipe
    assert (first.recipe.search.is_wide, second.recipe.search.is_wide) == (False, True)


def test_a_judge_that_needs_the_model_is_refused(tmp_path: Path) -> None:
    for refused in (checker, lambda each: list(run(each, tmp_path))):
        with pytest.raises(InputError, match="'predicted' judges with the model that made a video"):
            refused(comparison(judge="predicted"))


def test_a_line_torn_behind_a_bracket_is_not_read(tmp_path: Path) -> None:
    (tmp_path / RESULTS).write_text('{"recipe": "plain"}\n{"recipe": "beam", "cost": {}\n[]\n{"recipe": "plain"}\n')
    assert read(tmp_path) == [{"recipe": "plain"}] * 2


def test_a_row_is_on_the_disk_before_the_next_video_is_begun(tmp_path: Path) -> None:
    for count, made in enumerate(run(comparison(), tmp_path), start=1):
        assert read(tmp_path)[-1] == made
        assert len(read(tmp_path)) == count
        assert made["cpu_seconds"] >= 0


def test_observers_of_the_pipelines_see_every_chunk(tmp_path: Path) -> None:
    class Counting:
        seen = 0

        @hookimpl
        def streamt1_chunk_selected(self) -> None:
            self.seen += 1

    counting = Counting()
    assert len(list(run(comparison(), tmp_path, Pipelines("toy", observers={"counting": counting})))) == 4
    assert counting.seen == 16


def test_an_oracle_picks_by_the_judge_and_is_never_worse(tmp_path: Path) -> None:
    odd = "rewards={replace: true, long: {scripted: {options: {spreads: [-1.0]}}}}"
    beam = recipe.load("beam", [odd])  # keeps the odd candidates
    rows = list(run(comparison(recipes={"beam": beam, "oracle": beam}, prompts=["a", "b", "c"]), tmp_path))
    assert [row.get("oracle") for row in rows] == [None] * 3 + [True] * 3
    assert not any("circular" in row for row in rows)
    scores = [row["judge"]["score"] for row in rows]
    assert sum(scores[3:]) > sum(scores[:3])
