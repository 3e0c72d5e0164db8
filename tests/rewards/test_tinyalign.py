from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from streamt1_plugins.api.reward import RewardInput
from streamt1_plugins.errors import PluginError
from streamt1_plugins.testing import RewardContract
from streamt1_tinyalign import reward as tinyalign
from streamt1_tinyalign.model import CONFIG
from streamt1_tinyalign.reward import TinyAlign, at_world_size
from streamt1_tinyworld import scene, world

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

torch.set_num_threads(1)
needs_weights = pytest.mark.skipif(not (tinyalign.WEIGHTS / CONFIG).is_file(), reason="the weights are not trained yet")
NEW = 12


@pytest.fixture(scope="module")
def loaded() -> TinyAlign:
    reward = TinyAlign()
    reward.load("cpu")
    return reward


def scores(reward: TinyAlign, video: Tensor, prompts: list[str]) -> Tensor:
    inp = RewardInput(video, tuple(prompts), float(world.FPS), 0, 7, slice(0, video.shape[1]))
    with torch.inference_mode():
        return reward.score(inp).scores


def another(spec: world.Spec, attribute: str) -> world.Spec:
    """The spec with one word changed."""
    thing = spec.things[0]
    if attribute == "background":
        return replace(spec, background=next(b for b in world.BACKGROUNDS if b not in (spec.background, thing.colour)))
    values = {"colour": world.COLOURS, "shape": world.SHAPES, "motion": tuple(world.DIRECTIONS)}[attribute]
    wrong = next(v for v in values if v not in (getattr(thing, attribute), spec.background))
    return replace(spec, things=(replace(thing, **{attribute: wrong}),))


@needs_weights
class TestContract(RewardContract):
    tolerance = 1e-4
    prompts = (
        "a red circle moving right slowly on a blue background",
        "a green square bouncing quickly on a black background",
        "a white star moving up slowly on a gray background",
        "two cats, playing",
    )

    def make_reward(self) -> TinyAlign:
        return TinyAlign()


@needs_weights
@pytest.mark.parametrize(
    ("attribute", "share"), [("colour", 0.95), ("background", 0.95), ("shape", 0.75), ("motion", 0.8)]
)
def test_prefers_the_clip_that_the_prompt_describes(loaded: TinyAlign, attribute: str, share: float) -> None:
    specs = world.sample_split("test", 48, random.Random(11))
    prompts = [world.caption(spec) for spec in specs]
    right = scene.render(scene.stage(specs, 7), 0, NEW)
    wrong = scene.render(scene.stage([another(spec, attribute) for spec in specs], 7), 0, NEW)
    better = scores(loaded, right, prompts) > scores(loaded, wrong, prompts)
    assert better.float().mean() >= share


@needs_weights
def test_an_empty_picture_never_wins(loaded: TinyAlign) -> None:
    specs = world.sample_split("test", 48, random.Random(12))
    prompts = [world.caption(spec) for spec in specs]
    staged = scene.stage(specs, 8)
    empty = scene.render(replace(staged, present=torch.zeros_like(staged.present)), 0, NEW)
    better = scores(loaded, scene.render(staged, 0, NEW), prompts) > scores(loaded, empty, prompts)
    assert better.float().mean() >= 0.95


def test_other_sizes_are_brought_to_the_world() -> None:
    video = torch.rand(2, 3, 3, 48, 80)
    assert at_world_size(video).shape == (2, 3, 3, 64, 64)
    same = torch.rand(2, 3, 3, 64, 64)
    assert torch.equal(at_world_size(same), same)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"needs config\.json in"):
        TinyAlign(folder=tmp_path).load("cpu")


def test_score_before_load_says_so() -> None:
    with pytest.raises(PluginError, match="not loaded"):
        scores(TinyAlign(), torch.rand(1, 2, 3, 64, 64), ["a red circle"])


def test_it_declares_what_its_loaded_weights_take(loaded: TinyAlign) -> None:
    assert loaded._model is not None
    taken = sum(tensor.nbytes for tensor in loaded._model.state_dict().values())
    assert taken / 1e6 == pytest.approx(loaded.weights_mb, rel=0.02)
