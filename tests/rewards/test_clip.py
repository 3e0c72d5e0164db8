from __future__ import annotations

import gc
import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import torch

from streamt1_backbones.consistency import consistency
from streamt1_backbones.frames import centre_crop, letterbox, short_side
from streamt1_clip import rewards as clip
from streamt1_clip.backbone import CLIPS, pooled
from streamt1_clip.openclip import from_open_clip
from streamt1_plugins.errors import PluginError, RecipeError
from streamt1_plugins.plugins import build
from streamt1_plugins.plugins.discovery import discovery
from streamt1_plugins.testing import RewardContract
from tests.rewards import tiny_clip as tiny

if TYPE_CHECKING:
    from streamt1_plugins.api.reward import Reward

torch.set_num_threads(1)
NAMES = ("clipscore", "pickscore", "hpsv2", "laion-aesthetic", "background-consistency")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_all(tmp_path_factory.mktemp("clip"))


def make(kind: type, folder: Path, **options: Any) -> Any:
    beside = {"checkpoint": str(folder)} if kind in (clip.HPSv2, clip.LaionAesthetic) else {}
    return kind(**{"model": str(folder / "clip"), **beside, **options})


def load(kind: type, folder: Path, **options: Any) -> Any:
    reward = make(kind, folder, **options)
    reward.load("cpu")
    return reward


class Contract(RewardContract):
    kind: ClassVar[type]

    @classmethod
    def setup_class(cls) -> None:
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = tiny.save_all(Path(cls.temporary.name))
        super().setup_class()

    @classmethod
    def teardown_class(cls) -> None:
        super().teardown_class()
        cls.temporary.cleanup()

    def make_reward(self) -> Reward:
        return make(self.kind, self.folder)


class TestClipScore(Contract):
    kind = clip.ClipScore


class TestPickScore(Contract):
    kind = clip.PickScore
    tolerance = 5e-5  # about 15..25, not 0..1


class TestHPSv2(Contract):
    kind = clip.HPSv2


class TestLaionAesthetic(Contract):
    kind = clip.LaionAesthetic


class TestBackgroundConsistency(Contract):
    kind = clip.BackgroundConsistency


# Embeddings.


def test_embeddings_are_projected_and_of_length_one(folder: Path) -> None:
    """transformers 5 returns an object; its `last_hidden_state` or an unprojected vector would have another width."""
    held = load(clip.ClipScore, folder).clip
    frames = torch.rand(2, 3, 28, 28)
    with torch.inference_mode():
        for found in (held.frames(frames), held.texts(["a cat", "a dog"])):
            assert found.shape == (2, tiny.WIDTH)
            assert torch.allclose(found.norm(dim=1), torch.ones(2), atol=1e-6)


def test_scores_are_those_of_the_whole_model(folder: Path) -> None:
    """Against CLIPModel's own forward, which projects, normalises and multiplies with the temperature itself."""
    from streamt1_backbones.frames import CLIP_MEAN, CLIP_STD, normalise

    reward = load(clip.PickScore, folder)
    frames, prompts = torch.rand(3, 3, 28, 28), ("a cat", "a dog", "a cat")
    tokenizer = reward.clip._tokenizer
    coded = tokenizer(list(prompts), padding="max_length", truncation=True, max_length=16, return_tensors="pt")
    with torch.inference_mode():
        whole = reward.clip.model(pixel_values=normalise(frames, CLIP_MEAN, CLIP_STD), **coded)
        assert torch.allclose(reward.score_frames(frames, prompts), whole.logits_per_image.diagonal(), atol=1e-5)


def test_pooled_takes_tensors_and_outputs() -> None:
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    value = torch.rand(2, 3)
    assert pooled(value) is value
    assert pooled(BaseModelOutputWithPooling(last_hidden_state=torch.rand(2, 5, 3), pooler_output=value)) is value


def test_long_prompts_are_cut_off(folder: Path) -> None:
    held = load(clip.ClipScore, folder).clip
    with torch.inference_mode():
        long, longer = held.texts(["abcdefghijklmnopq " * 9, "abcdefghijklmnopq " * 99])
    assert torch.equal(long, longer)


def test_the_text_matters(folder: Path) -> None:
    reward = load(clip.ClipScore, folder)
    with torch.inference_mode():
        one, other = reward.score_frames(torch.rand(1, 3, 40, 60).expand(2, -1, -1, -1), ("a cat", "two dogs"))
    assert one != other


@pytest.mark.parametrize("size", [(480, 832), (64, 64), (90, 50)])
def test_frames_are_cut_to_squares(size: tuple[int, int]) -> None:
    frames = torch.rand(1, 3, *size)
    assert centre_crop(short_side(frames, 28), 28).shape == (1, 3, 28, 28)
    boxed = letterbox(frames, 28)
    assert boxed.shape == (1, 3, 28, 28)
    if size[1] > size[0]:
        assert boxed[:, :, 0].abs().max() == 0
        assert boxed[:, :, 14, 0].min() > 0


# One copy.


def test_rewards_share_one_model_and_the_last_frees_it(folder: Path) -> None:
    gc.collect()
    before = len(CLIPS)
    one, two = load(clip.ClipScore, folder), load(clip.LaionAesthetic, folder)
    assert one.clip is two.clip
    assert load(clip.ClipScore, folder, dtype="bfloat16").clip is not one.clip
    one.unload()
    gc.collect()
    assert len(CLIPS) == before + 1
    two.unload()
    gc.collect()
    assert len(CLIPS) == before


def test_bfloat16_gives_float32_scores_close_to_it(folder: Path) -> None:
    frames = torch.rand(2, 3, 28, 28)
    with torch.inference_mode():
        exact, rough = (
            load(clip.ClipScore, folder, dtype=kind).score_frames(frames, ("a cat",) * 2)
            for kind in ("float32", "bfloat16")
        )
    assert rough.dtype == torch.float32
    assert torch.allclose(exact, rough, atol=0.1)


# Checkpoints.


def test_open_clip_names_become_those_of_transformers() -> None:
    model = tiny.make_model()
    converted, own = from_open_clip(tiny.open_clip_state(model)), model.state_dict()
    assert converted.keys() == own.keys()
    assert all(torch.equal(converted[name], own[name]) for name in own)


@pytest.mark.parametrize("name", ["surprise", "visual.transformer.resblocks.0.attn.x.weight"])
def test_an_unknown_open_clip_name_is_refused(name: str) -> None:
    with pytest.raises(PluginError, match=name):
        from_open_clip({name: torch.zeros(1)})


def test_the_preference_checkpoint_is_used(folder: Path, tmp_path: Path) -> None:
    state = tiny.open_clip_state(tiny.make_model())
    state["visual.proj"] = state["visual.proj"].flip(1)
    torch.save({"state_dict": state}, tmp_path / "HPS_v2.1_compressed.pt")
    frames = torch.rand(1, 3, 28, 28)
    with torch.inference_mode():
        one, other = (
            load(clip.HPSv2, folder, checkpoint=str(place)).score_frames(frames, ("a cat",))
            for place in (folder, tmp_path)
        )
    assert one != other


BROKEN = {
    "missing": (lambda s: s.pop("visual.transformer.resblocks.1.mlp.c_fc.bias"), r"lacks .*layers\.1\.mlp\.fc1\.bias"),
    "extra": (
        lambda s: s.update({"visual.transformer.resblocks.7.ln_1.bias": torch.zeros(20)}),
        r"has unknown .*layers\.7",
    ),
    "nan": (lambda s: s["logit_scale"].fill_(math.nan), "NaN .*logit_scale"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_checkpoint_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    change, problem = BROKEN[name]
    state = tiny.open_clip_state(tiny.make_model())
    change(state)
    torch.save({"state_dict": state}, tmp_path / "HPS_v2.1_compressed.pt")
    with pytest.raises(PluginError, match=problem):
        load(clip.HPSv2, folder, checkpoint=str(tmp_path))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda s: s.pop("layers.6.bias"), r"lacks layers\.6\.bias"),
        (lambda s: s.pop("layers.6.weight"), r"lacks layers\.6\.weight"),
        (lambda s: s.update(x=torch.zeros(1)), "unknown x"),
        (lambda s: s["layers.7.bias"].fill_(math.inf), "infinite"),
    ],
)
def test_a_broken_aesthetic_head_is_refused(folder: Path, tmp_path: Path, change: Any, problem: str) -> None:
    state = tiny.aesthetic_state()
    change(state)
    torch.save(state, tmp_path / "aesthetic-model.pth")
    with pytest.raises(PluginError, match=problem):
        load(clip.LaionAesthetic, folder, checkpoint=str(tmp_path))


def test_the_aesthetic_head_is_five_linear_layers() -> None:
    state, x = tiny.aesthetic_state(), torch.rand(3, tiny.WIDTH)
    expected = x
    for layer in (0, 2, 4, 6, 7):
        expected = expected @ state[f"layers.{layer}.weight"].T + state[f"layers.{layer}.bias"]
    assert torch.allclose(clip.aesthetic_head(state)(x), expected, atol=1e-5)


def test_a_model_that_cannot_be_had_is_named(folder: Path) -> None:
    with pytest.raises(PluginError, match="hf download nobody/nothing"):
        load(clip.ClipScore, folder, model="nobody/nothing")


@pytest.mark.parametrize(
    "kind", [clip.ClipScore, clip.PickScore, clip.HPSv2, clip.LaionAesthetic, clip.BackgroundConsistency]
)
def test_score_before_load_says_so(folder: Path, kind: type) -> None:
    with pytest.raises(PluginError, match="not loaded"):
        make(kind, folder).score(TestClipScore().make_input(frames=2))


# Consistency.


def vbench(features: torch.Tensor) -> float:
    """The published formula, frame by frame."""
    total = 0.0
    for i in range(1, len(features)):
        total += sum(max(0.0, float(torch.cosine_similarity(features[i], features[j], dim=0))) / 2 for j in (0, i - 1))
    return total / (len(features) - 1)


def test_a_whole_video_gets_the_number_of_vbench() -> None:
    features = torch.randn(9, 5, generator=torch.Generator().manual_seed(0))
    for reference in (None, features[0]):
        first, previous = consistency(features, reference)
        assert float(first + previous) / 2 == pytest.approx(vbench(features), abs=1e-6)


def test_one_frame_is_compared_with_the_anchor_alone() -> None:
    feature = torch.tensor([[1.0, 0.0]])
    assert [float(x) for x in consistency(feature, None)] == [1.0, 1.0]
    assert [float(x) for x in consistency(feature, torch.tensor([1.0, 1.0]))] == pytest.approx([2**-0.5, 1.0])
    assert consistency(feature * math.nan, None)[0].isnan()


def test_a_change_of_scene_costs_and_a_still_video_does_not(folder: Path) -> None:
    reward = load(clip.BackgroundConsistency, folder)
    inp = replace(TestBackgroundConsistency().make_input(), frame_ids=())
    still = inp.video[:, :1].expand(-1, 12, -1, -1, -1)
    with torch.inference_mode():
        assert torch.allclose(reward.score(replace(inp, video=still)).scores, torch.ones(4), atol=1e-5)
        output = reward.score(inp)
    assert (output.scores < 1).all()
    assert torch.allclose(output.scores, (output.parts["first"] + output.parts["previous"]) / 2, atol=1e-6)


def test_weights_choose_the_term(folder: Path) -> None:
    inp = replace(TestBackgroundConsistency().make_input(), frame_ids=())
    reward = load(clip.BackgroundConsistency, folder, first=0)
    with torch.inference_mode():
        output = reward.score(inp)
    assert torch.equal(output.scores, output.parts["previous"])


# Options.


@pytest.mark.parametrize("name", NAMES)
def test_options_are_checked(name: str) -> None:
    for options in ({"dtype": "int8"}, {"modl": "x"}, {"cache_mb": -1}):
        with pytest.raises(RecipeError):
            build.instance(discovery().rewards[name], options, f"rewards.short.{name}")


def test_a_consistency_of_nothing_is_refused() -> None:
    entry = discovery().rewards["background-consistency"]
    with pytest.raises(RecipeError, match="above 0"):
        build.instance(entry, {"first": 0, "previous": 0}, "rewards.long.background-consistency")
