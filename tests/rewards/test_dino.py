from __future__ import annotations

import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from streamt1_dino import reward as dino
from streamt1_plugins.api.reward import RewardInput
from streamt1_plugins.errors import PluginError, RecipeError
from streamt1_plugins.plugins import build
from streamt1_plugins.plugins.discovery import discovery
from streamt1_plugins.testing import RewardContract

if TYPE_CHECKING:
    from transformers import PreTrainedModel

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dino, "SIDE", 32)


def network(kind: str) -> PreTrainedModel:
    from transformers import Dinov2Config, Dinov2Model, ViTConfig, ViTModel

    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "initializer_range": 0.3}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "dinov2":
            return Dinov2Model(Dinov2Config(image_size=42, patch_size=14, **size)).eval()
        return ViTModel(ViTConfig(image_size=32, patch_size=8, intermediate_size=32, **size)).eval()


def save(root: Path) -> Path:
    """As the repositories are: DINO's with a pooler that was never trained."""
    for kind in ("vit", "dinov2"):
        network(kind).save_pretrained(root / kind)
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("dino"))


def load(folder: Path, kind: str = "vit", **options: Any) -> dino.SubjectConsistency:
    reward = dino.SubjectConsistency(model=str(folder / kind), **options)
    reward.load("cpu")
    return reward


class Contract(RewardContract):
    kind = "vit"

    @classmethod
    def setup_class(cls) -> None:
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = save(Path(cls.temporary.name))
        super().setup_class()

    @classmethod
    def teardown_class(cls) -> None:
        super().teardown_class()
        cls.temporary.cleanup()

    def make_reward(self) -> dino.SubjectConsistency:
        return dino.SubjectConsistency(model=str(self.folder / self.kind))


class TestDino(Contract):
    pass


class TestDino2(Contract):
    kind = "dinov2"


@pytest.mark.parametrize("kind", ["vit", "dinov2"])
@pytest.mark.parametrize("size", [(32, 32), (40, 70), (90, 50)])
def test_any_frame_size_gives_one_vector_each(folder: Path, kind: str, size: tuple[int, int]) -> None:
    with torch.inference_mode():
        assert load(folder, kind).features(torch.rand(3, 3, *size)).shape == (3, 16)


def test_the_vector_is_that_of_the_class_token(folder: Path) -> None:
    from streamt1_backbones.frames import IMAGENET_MEAN, IMAGENET_STD, normalise

    frames = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        whole = network("vit")(pixel_values=normalise(frames, IMAGENET_MEAN, IMAGENET_STD))
        assert torch.allclose(load(folder).features(frames), whole.last_hidden_state[:, 0], atol=1e-5)


def window(frames: int, names: list[str]) -> RewardInput:
    """Chunks of `frames` frames whose pixels depend on their names alone."""
    pixels = [torch.rand(frames, 3, 32, 32, generator=torch.Generator().manual_seed(int(name))) for name in names]
    ids = tuple((name, frame) for name in names for frame in range(frames))
    return RewardInput(torch.cat(pixels)[None], ("",), 16.0, 2, 5, slice(-frames, None), None, (ids,))


def test_only_new_chunks_are_looked_at_and_no_bit_changes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reward, seen = load(folder), []
    compute = reward._shared.features
    monkeypatch.setattr(reward._shared, "features", lambda frames: seen.append(len(frames)) or compute(frames))
    with torch.inference_mode():
        reward.score(window(4, ["1", "2", "3"]))
        warm = reward.score(window(4, ["2", "3", "4"])).scores
        assert sum(seen) == 16
        assert torch.equal(warm, load(folder, cache_mb=0).score(window(4, ["2", "3", "4"])).scores)
        seen.clear()  # both rewards share the network that is watched
        reward.reset()
        reward.score(window(4, ["2", "3", "4"]))
    assert sum(seen) == 12


def test_the_first_frame_is_that_of_the_video_and_not_of_the_window(folder: Path) -> None:
    reward, inp = load(folder), window(4, ["1", "2"])
    with torch.inference_mode():
        alone = reward.score(inp).parts
        anchored = reward.score(replace(inp, anchor=window(4, ["9"]).video)).parts
    assert alone["first"] != anchored["first"]
    assert torch.equal(alone["previous"], anchored["previous"])


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    with pytest.raises(PluginError, match="got 'bert'"):
        dino.SubjectConsistency(model=str(tmp_path)).load("cpu")


def test_weights_with_nan_or_a_hole_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    network("vit").save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    state = load_file(path)
    name = next(name for name in state if "layernorm" in name.lower() and name.endswith("weight"))
    save_file({**state, name: state[name] * math.nan}, path, metadata={"format": "pt"})
    with pytest.raises(PluginError, match="NaN"):
        dino.SubjectConsistency(model=str(tmp_path)).load("cpu")
    state.pop(name)
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(PluginError, match="lacks"):
        dino.SubjectConsistency(model=str(tmp_path)).load("cpu")


def test_a_model_that_cannot_be_had_is_named() -> None:
    with pytest.raises(PluginError, match="hf download nobody/nothing"):
        dino.SubjectConsistency(model="nobody/nothing").load("cpu")


def test_score_before_load_says_so() -> None:
    with pytest.raises(PluginError, match="not loaded"):
        dino.SubjectConsistency().score(window(2, ["1"]))


def test_options_are_checked() -> None:
    for options in ({"first": -1}, {"batch": 0}, {"first": 0, "previous": 0}, {"models": "x"}):
        with pytest.raises(RecipeError):
            build.instance(discovery().rewards["subject-consistency"], options, "rewards.long.subject-consistency")
