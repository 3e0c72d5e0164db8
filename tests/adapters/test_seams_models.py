"""A model's folder is looked at before diffusers loads it: what is wrong with it is named, and what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import streamt1_plugins as streamt1
from streamt1_anyflow.adapter import AnyFlowAdapter
from streamt1_framepack.adapter import FramepackAdapter
from streamt1_helios.adapter import HeliosAdapter
from streamt1_plugins.errors import InputError, UnsupportedPipelineError
from streamt1_skyreels.adapter import SkyReelsAdapter
from streamt1_wan.adapter import CausalWanAdapter
from tests.adapters import layouts
from tests.adapters.tiny import tiny_transformer
from tests.api.test_weights import POINTER

if TYPE_CHECKING:
    from collections.abc import Callable

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    layouts.base_pipeline(tiny_transformer()).save_pretrained(folder)
    return folder


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def load(model: Path) -> Any:
    return CausalWanAdapter(dtype="float32").load(str(model))


def damaged(model: Path, value: float) -> None:
    tensors = load_file(model / WEIGHTS)
    tensors["blocks.0.attn1.to_q.weight"][0, 0] = value
    save_file(tensors, model / WEIGHTS)


def one_shard_less(model: Path) -> None:
    whole = model / WEIGHTS
    names = {
        name: f"diffusion_pytorch_model-0000{1 + index % 2}-of-00002.safetensors" for index, name in enumerate("ab")
    }
    whole.with_name("diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    whole.rename(whole.with_name(names["a"]))


def other_index(model: Path, **changes: Any) -> None:
    index = model / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | changes))


FAULTS: list[tuple[Callable[[Path], Any], str]] = [
    (lambda m: (m / WEIGHTS).write_text(POINTER), f"{WEIGHTS} .*pointer of 75 bytes .*not downloaded"),
    (lambda m: (m / "vae" / Path(WEIGHTS).name).write_text(POINTER), "vae/.*pointer of 75 bytes"),
    (lambda m: (m / WEIGHTS).write_text("<html>login</html>"), f"{WEIGHTS} .*it is a web page"),
    (lambda m: (m / WEIGHTS).write_bytes(b""), f"{WEIGHTS} .*it is empty"),
    (lambda m: (m / WEIGHTS).write_bytes((m / WEIGHTS).read_bytes()[:-9]), f"{WEIGHTS} .*it is cut off"),
    (one_shard_less, "lacks 1 of its 2 shards: diffusion_pytorch_model-00002-of-00002.safetensors"),
    (lambda m: damaged(m, float("nan")), "transformer of .*NaN or infinite numbers in blocks.0.attn1.to_q.weight"),
    (lambda m: damaged(m, float("inf")), "NaN or infinite numbers"),
    (lambda m: (m / "model_index.json").write_text("{"), "is not the index of a pipeline"),
    (lambda m: (m / "model_index.json").write_text("3"), "is not the index of a pipeline"),
    (lambda m: (m / "model_index.json").unlink(), "has no model_index.json, so it is no model in diffusers' format"),
]


@pytest.mark.parametrize(("fault", "message"), FAULTS, ids=[message[:28] for _, message in FAULTS])
def test_faults_are_named(fault: Callable[[Path], Any], message: str, model: Path) -> None:
    load(model)
    fault(model)
    with pytest.raises(InputError, match=message):
        load(model)


def test_a_file_or_a_folder_of_another_kind(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is a file, and a model is a folder .* `streamt1 convert` makes one"):
        load(model / WEIGHTS)
    with pytest.raises(InputError, match=rf"It is a part of the model {model}: name that"):
        load(model / "transformer")
    with pytest.raises(InputError, match=rf"Did you mean {model}\?"):
        load(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    torch.save({}, tmp_path / "checkpoints" / "model.pt")
    with pytest.raises(InputError, match="`streamt1 convert` makes one of a causal Wan checkpoint"):
        load(tmp_path / "checkpoints")


def test_another_pipeline(model: Path) -> None:
    other_index(model, _class_name="FluxPipeline", transformer=["diffusers", "FluxTransformer2DModel"])
    with pytest.raises(
        UnsupportedPipelineError, match="FluxPipeline with the transformer FluxTransformer2DModel; this"
    ):
        load(model)


@pytest.mark.parametrize("adapter", [AnyFlowAdapter, FramepackAdapter, HeliosAdapter, SkyReelsAdapter])
def test_every_family_looks(adapter: Any, model: Path) -> None:
    (model / WEIGHTS).write_text(POINTER)
    with pytest.raises(InputError, match="not downloaded"):
        adapter().load(str(model))
    with pytest.raises(InputError, match="is a file, and a model is a folder"):
        adapter().load(str(model / WEIGHTS))


def test_through_the_front_door(model: Path) -> None:
    (model / WEIGHTS).write_text(POINTER)
    with pytest.raises(InputError, match="not downloaded"):
        streamt1.load(str(model), "plain", adapter="wan")
