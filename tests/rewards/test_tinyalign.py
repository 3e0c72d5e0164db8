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


def lineage(chunks: int, ordinal: int = 0, window: int = 10) -> RewardInput:
    """A candidate of the last of `chunks` chunks, on a branch that all candidates share before it."""
    shared = [f"{chunk:03d}.00" for chunk in range(max(0, chunks - window), chunks - 1)]
    names = [*shared, f"{chunks - 1:03d}.{ordinal:02d}"]
    lengths = [9 if name.startswith("000") else NEW for name in names]
    frames = [noise(int(name.replace(".", "")), count) for name, count in zip(names, lengths, strict=True)]
    ids = tuple((name, frame) for name, count in zip(names, lengths, strict=True) for frame in range(count))
    video = torch.cat(frames)[None]
    new = slice(video.shape[1] - lengths[-1], video.shape[1])
    return RewardInput(video, ("a red circle moving right",), 16.0, chunks - 1, 40, new, None, (ids,))


def noise(seed: int, frames: int) -> Tensor:
    return torch.rand(frames, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


@needs_weights
def test_what_was_seen_of_earlier_chunks_changes_no_bit(loaded: TinyAlign) -> None:
    fresh, empty = TinyAlign(), TinyAlign(cache_mb=0)
    for reward in (fresh, empty):
        reward.load("cpu")
    loaded.reset()
    with torch.inference_mode():
        for chunks in (1, 2, 3, 5, 6, 7):
            for ordinal in (0, 1):
                inp = lineage(chunks, ordinal, window=4)
                fresh.reset()
                found = [reward.score(inp).scores for reward in (loaded, fresh, empty)]
                assert torch.equal(found[0], found[1])
                assert torch.equal(found[0], found[2])
                whole = loaded._model.score(inp.video, inp.prompts)  # the network on all frames at once
                torch.testing.assert_close(found[0], whole, atol=1e-5, rtol=0)


@needs_weights
@pytest.mark.parametrize("lengths", [(1,), (2, 2, 2), (3, 1, 9, 2), (12, 12)])
def test_chunks_of_any_length_are_seen_as_one_clip(loaded: TinyAlign, lengths: tuple[int, ...]) -> None:
    ids = tuple((f"{chunk:03d}.00", frame) for chunk, count in enumerate(lengths) for frame in range(count))
    video = noise(3, sum(lengths))[None]
    loaded.reset()
    with torch.inference_mode():
        found = loaded._seen(loaded._model, video, ids)
        torch.testing.assert_close(found, loaded._model.video.frames(video), atol=1e-5, rtol=0)


@needs_weights
def test_a_late_chunk_costs_no_more_than_an_early_one(loaded: TinyAlign, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, real = list[int](), tinyalign.frame_vectors

    def counted(model: object, video: Tensor) -> Tensor:
        seen.append(video.shape[1])
        return real(model, video)

    monkeypatch.setattr(tinyalign, "frame_vectors", counted)
    loaded.reset()
    with torch.inference_mode():
        for chunks in range(1, 7):
            loaded.score(lineage(chunks))
        seen.clear()
        for ordinal in range(4):
            loaded.score(lineage(7, ordinal))
    assert seen == [NEW + 8] * 4
