"""The judge on videos of several scenes: each by its own prompt, the first chunk after a cut, things that come back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from streamt1_plugins.api.reward import JudgesScenes, RewardInput
from streamt1_tinyworld.cuts import SAME_SIZE, ScenesVerdict, judge_scenes
from streamt1_tinyworld.judge import judge
from streamt1_tinyworld.judging import TinyWorldJudge
from streamt1_tinyworld.scene import Scene, render, stage
from streamt1_tinyworld.world import parse

RECORDED = Path(__file__).parents[1] / "data" / "tinyworld-judge.json"
RED = "a red circle moving right slowly on a blue background"
GREEN = "a green star moving up quickly on a white background"


def staged(prompt: str, seed: int) -> Scene:
    return stage([parse(prompt)], seed)


def clip(prompt: str, seed: int, start: int, stop: int) -> Tensor:
    return render(staged(prompt, seed), start, stop)[0]


def there_and_back(last: Scene) -> ScenesVerdict:
    """The verdict on red, green, and a third scene with the prompt of the first."""
    scenes = [(clip(RED, 1, 0, 21), RED), (clip(GREEN, 2, 21, 45), GREEN), (render(last, 45, 69)[0], RED)]
    return judge_scenes(scenes)


def inputs(scenes: list[tuple[Tensor, str]]) -> list[RewardInput]:
    return [RewardInput(v[None], (p,), 16.0, 5, 6, slice(0, len(v))) for v, p in scenes]


@pytest.mark.parametrize("row", json.loads(RECORDED.read_text()), ids=lambda row: row["prompt"])
def test_a_video_of_one_scene_is_judged_as_before_scenes_were(row: dict[str, object]) -> None:
    """Recorded with the judge of 0.2, on clips that fade, so that they drift."""
    frames = clip(str(row["clip"]), int(str(row["seed"])), 0, 45) * torch.linspace(1, 0.85, 45)[:, None, None, None]
    found = TinyWorldJudge().score(*inputs([(frames, str(row["prompt"]))]))
    assert found.scores.item() == pytest.approx(row["score"], abs=1e-5)
    assert found.parts.keys() == row.keys() - {"prompt", "clip", "seed", "score"}
    for name, value in found.parts.items():
        expected = torch.nan if row[name] is None else row[name]
        assert value.item() == pytest.approx(expected, rel=1e-3, abs=1e-4, nan_ok=True), name


def test_a_single_scene_gives_the_same_to_the_last_bit() -> None:
    frames = clip(RED, 1, 0, 45)
    assert vars(judge_scenes([(frames, RED)])).items() >= vars(judge(frames, RED)).items()


def test_each_scene_is_judged_by_its_own_prompt() -> None:
    scenes = [(clip(RED, 1, 0, 21), RED), (clip(GREEN, 2, 21, 57), GREEN)]
    found = judge_scenes(scenes)
    assert found.score == 1
    assert [chunk.mean for chunk in found.chunks] == [1] * 5  # 9 + 12 and 3 x 12 frames
    assert judge(torch.cat([frames for frames, _ in scenes]), RED).score < 0.6
    swapped = judge_scenes([(scenes[0][0], RED), (scenes[1][0], RED)])
    assert swapped.chunks[1].mean == 1
    assert swapped.chunks[2].mean < 0.5


def test_scores_are_means_over_frames() -> None:
    found = judge_scenes([(clip(RED, 1, 0, 21), RED), (clip(RED, 1, 21, 57), RED.replace("blue", "black"))])
    assert found.background == pytest.approx(21 / 57)


def test_a_scene_that_begins_late_is_seen_after_the_cut() -> None:
    late = torch.cat([clip(RED, 1, 21, 33), clip(GREEN, 2, 33, 57)])
    first = (clip(RED, 1, 0, 21), RED)
    found, alone = judge_scenes([first, (late, GREEN)]), judge_scenes([first])
    assert found.after_cut is not None
    assert found.after_cut < 0.5
    assert found.settled_in == 1
    assert (alone.after_cut, alone.settled_in) == (None, None)
    never = judge_scenes([(clip(RED, 1, 0, 21), RED), (clip(RED, 1, 21, 57), GREEN)])
    assert never.settled_in == 3  # all its chunks


def test_drifts_of_a_later_scene_do_not_count_the_chunk_that_fades_in() -> None:
    scene = clip(GREEN, 2, 21, 57)
    faded = torch.cat([scene[:12] * 0.7, scene[12:]])
    first = (clip(RED, 1, 0, 21), RED)
    assert judge_scenes([first, (faded, GREEN)]).background_drift < 2
    assert judge_scenes([(faded, GREEN)]).background_drift > 20


def test_a_thing_that_comes_back_is_compared_with_its_first_appearance() -> None:
    first = staged(RED, 1)
    same, larger = there_and_back(first), there_and_back(replace(first, radius=first.radius * 1.3))
    assert same.returned == 1
    assert same.return_size is not None
    assert same.return_size < SAME_SIZE / 2
    assert larger.returned == 0
    assert larger.return_size == pytest.approx(2 * torch.tensor(1.3).log().item(), abs=0.1)
    tinted = there_and_back(replace(first, colour=first.colour - 0.08))
    assert tinted.returned == 0
    assert tinted.return_colour is not None
    assert tinted.return_colour > 20


def test_a_thing_that_should_come_back_and_does_not_is_not_returned() -> None:
    gone = there_and_back(staged("a blue background", 1))
    assert (gone.returned, gone.return_size) == (0, None)


@pytest.mark.parametrize("third", [RED.replace("circle", "star"), GREEN, "a red thing"])
def test_only_the_same_shape_and_colour_after_an_interlude_come_back(third: str) -> None:
    scenes = [(clip(RED, 1, 0, 21), RED), (clip(GREEN, 2, 21, 33), GREEN), (clip(third, 3, 33, 45), third)]
    assert judge_scenes(scenes).returned is None


def test_the_reward_gives_the_parts_of_every_video() -> None:
    scenes = [(clip(RED, 1, 0, 21), RED), (clip(GREEN, 2, 21, 33), GREEN)]
    reward = TinyWorldJudge()
    assert isinstance(reward, JudgesScenes)
    twice = [replace(each, video=each.video.repeat(2, 1, 1, 1, 1), prompts=each.prompts * 2) for each in inputs(scenes)]
    found = reward.score_scenes(twice)
    assert found.scores.tolist() == [1, 1]
    assert found.parts["after_cut"].tolist() == [1, 1]
    assert found.parts["scene_02"].tolist() == [1, 1]
    assert found.parts["returned"].isnan().all()
    assert {"chunk_01", "chunk_03", "last_chunk"} <= found.parts.keys()
    assert "chunk_04" not in found.parts
