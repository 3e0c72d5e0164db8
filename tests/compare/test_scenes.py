"""Videos of several scenes in a comparison: what judges get, and what rows and page have of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from streamt1_plugins.api.reward import Reward, RewardInput, RewardOutput
from streamt1_plugins.compare.page import render
from streamt1_plugins.compare.run import read, run, scores
from streamt1_plugins.compare.scenes import fact, judged, split
from streamt1_plugins.config.schedule import Scene, described
from tests.compare.examples import comparison, row

SCENES = (Scene(0, "sun"), Scene(1, "rain", "flush"), Scene(3, "snow"))
CHUNKS = [torch.full((frames, 3, 2, 2), float(index)) for index, frames in enumerate((5, 3, 3, 3))]


def session(scenes: tuple[Scene, ...] = SCENES) -> Any:
    return SimpleNamespace(scenes=scenes, num_chunks=4, fps=8.0, prompt="sun")


def whole() -> RewardInput:
    frames = torch.cat(CHUNKS)[None]
    return RewardInput(frames, ("sun",), 8.0, 3, 4, slice(0, frames.shape[1]))


class LengthJudge(Reward):
    """The length of the prompt; `even` applies to some only, and the first chunk has the mean of all frames."""

    def score(self, inp: RewardInput) -> RewardOutput:
        length = torch.tensor([float(len(prompt)) for prompt in inp.prompts])
        parts = {"even": torch.where(length % 2 == 0, length, torch.nan), "chunk_01": inp.video.mean((1, 2, 3, 4))}
        return RewardOutput(length, parts)


class TogetherJudge(LengthJudge):
    def score_scenes(self, scenes: Sequence[RewardInput]) -> RewardOutput:
        return RewardOutput(torch.tensor([float(len(scenes))]), {"last": torch.tensor([float(scenes[-1].chunk)])})


def test_a_video_is_split_at_the_frames_where_scenes_begin() -> None:
    found = split(whole(), CHUNKS, session())
    assert [(each.prompts, each.video.shape[1], each.chunk, each.new_frames) for each in found] == [
        (("sun",), 5, 0, slice(0, 5)),
        (("rain",), 6, 2, slice(0, 6)),
        (("snow",), 3, 3, slice(0, 3)),
    ]
    assert torch.equal(torch.cat([each.video for each in found], 1), whole().video)


@pytest.mark.parametrize("one", [session(()), session(SCENES[:1]), SimpleNamespace()])
def test_a_video_of_one_scene_is_not_split(one: Any) -> None:
    inp = whole()
    (found,) = split(inp, CHUNKS, one)
    assert found is inp


def test_a_judge_of_single_videos_judges_each_scene_and_the_mean_over_frames_counts() -> None:
    found = judged(LengthJudge(), split(whole(), CHUNKS, session()))
    assert found.scores.item() == pytest.approx((3 * 5 + 4 * 6 + 4 * 3) / 14)
    assert found.parts["even"].item() == 4
    assert [found.parts[f"scene_{n:02d}"].item() for n in (1, 2, 3)] == [3, 4, 4]
    assert [found.parts[f"chunk_{n:02d}"].item() for n in (1, 2, 4)] == [0, 1.5, 3]
    assert found.parts.keys() == {"even", "scene_01", "scene_02", "scene_03", "chunk_01", "chunk_02", "chunk_04"}


def test_a_part_that_applies_to_no_scene_is_none() -> None:
    one = session((Scene(0, "a"), Scene(1, "b")))
    found = scores(LengthJudge(), torch.cat(CHUNKS), "a", one, chunks=CHUNKS)
    assert found["score"] == 1
    assert found["even"] is None


def test_a_judge_of_scenes_gets_all_of_them() -> None:
    assert scores(TogetherJudge(), torch.cat(CHUNKS), "rain", session(), chunks=CHUNKS) == {"score": 3, "last": 3}
    assert scores(TogetherJudge(), torch.cat(CHUNKS), "rain", session(()), chunks=CHUNKS)["score"] == len("rain")


def test_rows_have_their_schedule_and_the_first_prompt_is_no_identity(tmp_path: Path) -> None:
    """Two videos that begin with the same prompt, and one whose prompt does not change."""
    scenes = {described(each): each for each in (SCENES, SCENES[:2])}
    made = list(run(comparison(prompts=[*scenes, "sun"], scenes=scenes), tmp_path))
    assert len(made) == 6
    assert {each["prompt"] for each in made} == {*scenes, "sun"}
    schedules = {each["prompt"]: each.get("schedule") for each in made}
    assert schedules[described(SCENES[:2])] == [{"chunk": 1, "prompt": "rain", "memory": "flush"}]
    assert schedules["sun"] is None
    assert {"scene_01", "scene_02", "scene_03"} <= made[0]["judge"].keys()
    assert len({each["strip"] for each in made}) == 6
    assert list(run(comparison(prompts=[*scenes, "sun"], scenes=scenes), tmp_path)) == []
    html = render(read(tmp_path), tmp_path, "short-only")
    assert "from chunk 3 (keep): snow" in html
    assert "1 prompt of 1 scene, 1 prompt of 2 scenes, 1 prompt of 3 scenes; memory at cuts: flush, keep" in html
    assert '<th scope="col">scene 02</th>' in html


def test_a_comparison_without_schedules_has_no_word_of_scenes() -> None:
    assert fact([row("plain", "a", 0.5)]) == ""
