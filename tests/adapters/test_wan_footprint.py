"""The estimate of a causal Wan's memory without its weights, against the tensors of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import save_file

import streamt1_plugins as streamt1
from streamt1_plugins.api.adapter import Footprint, MemoryPlan
from streamt1_plugins.plugins.resolve import model_folder
from streamt1_plugins.search.memory_estimate import memory_plan
from streamt1_plugins.search.offload import map_leaves
from streamt1_seams import decode_chunk
from streamt1_tinyworld.adapter import TinyWorldAdapter
from streamt1_wan.adapter import CausalWanAdapter
from streamt1_wan.footprint import block_elements, decoded, elements, folder_of, weights

PROMPT = "a red circle moving right on a blue background"
MODEL = model_folder("tinyworld")
FRAMES = 81
WAN = {"num_layers": 30, "num_attention_heads": 12, "attention_head_dim": 128, "patch_size": (1, 2, 2)}


def counted(*items: Any) -> int:
    """Bytes of all tensors inside, those that are met twice too."""
    sizes: list[int] = []
    for item in items:
        map_leaves(item, lambda leaf: sizes.append(leaf.nbytes) if isinstance(leaf, torch.Tensor) else None)
    return sum(sizes)


def estimated(pipe: streamt1.StreamPipeline, **options: Any) -> Footprint:
    found = TinyWorldAdapter(**options).footprint(MODEL, memory_plan(pipe.recipe), FRAMES)
    assert found is not None
    return found


def run(*overrides: str, **options: Any) -> streamt1.StreamPipeline:
    pipe = streamt1.load(overrides=[*overrides, *(f"adapter.{name}={value}" for name, value in options.items())])
    pipe(PROMPT, num_frames=FRAMES, output_type="latent")
    return pipe


@pytest.mark.parametrize("options", [{}, {"dtype": "bfloat16", "guidance_scale": 2.0}, {"vae_dtype": "bfloat16"}])
def test_a_full_memory_is_told_to_the_byte(options: dict[str, Any]) -> None:
    """Appended chunks are all there, in the model's dtype; the rest is what every run keeps."""
    pipe = run("memory={name: fixed, route: append}", "sinks.sink_precision=model", "search.top_k=1", **options)
    history, found = pipe.last_run.beams[0].history, estimated(pipe, **options)
    assert found.memory == counted(history.memory)
    assert found.state == counted(history.decoder)
    assert found.frames == history.frames[-1].nbytes
    assert found.latents == history.latents[-1].nbytes
    assert found.chunks == len(history.latents)


@pytest.mark.parametrize("overrides", [(), ("memory=fixed",), ("memory={name: fixed, route: ema}",)])
def test_no_memory_is_larger_than_estimated(overrides: tuple[str, ...]) -> None:
    """An upper bound: which chunks become sinks is decided during the run, so it may be up to three times."""
    pipe = run(*overrides)
    found = estimated(pipe)
    for beam in pipe.last_run.beams:
        assert counted(beam.history.memory) <= found.memory <= 3 * counted(beam.history.memory)
        assert counted(beam.history.decoder) == found.state
    if overrides == ("memory=fixed",):
        assert counted(pipe.last_run.beams[0].history.memory) == found.memory


def test_what_a_pass_reads_is_estimated() -> None:
    pipe = run("memory={name: fixed, route: append}", "search.top_k=1")
    read: list[int] = []

    class Reading:
        @streamt1.hookimpl
        def streamt1_candidate_scored(self, run: Any) -> None:
            read.append(counted(run.session._assembled[1].past))

    pipe.set_observers({"reading": Reading()})
    pipe(PROMPT, num_frames=FRAMES, output_type="latent")
    assert max(read) == estimated(pipe).reading


@pytest.mark.parametrize(("options", "within"), [({}, 0), ({"dtype": "bfloat16", "vae_dtype": "bfloat16"}, 0.02)])
def test_weights_are_those_of_the_loaded_model(options: dict[str, str], within: float) -> None:
    """In bfloat16 within 2 %, for some layers stay in float32."""
    adapter = TinyWorldAdapter(**options)
    parts = [part for part in adapter.load(MODEL).components.values() if isinstance(part, torch.nn.Module)]
    loaded = sum(parameter.nbytes for part in parts for parameter in part.parameters())
    found = adapter.footprint(MODEL, MemoryPlan(), 21)
    assert found is not None
    assert found.weights == pytest.approx(loaded, rel=within)


def test_sizes_of_the_real_model_are_those_of_its_page() -> None:
    """In GiB, at 480 x 832 in bfloat16: a chunk of keys and values, and a decoder state."""
    shape = (1, 16, 3, 60, 104)
    assert 2 * block_elements(WAN, shape, 1) / 2**30 == pytest.approx(0.80, abs=0.005)
    assert 2 * decoded({}, shape)[0] / 2**30 == pytest.approx(1.76, abs=0.005)
    assert block_elements(WAN, shape, 2) == 2 * block_elements(WAN, shape, 1)


WAN_2_2 = {
    "base_dim": 160,
    "decoder_base_dim": 256,
    "z_dim": 48,
    "in_channels": 12,
    "out_channels": 12,
    "is_residual": True,
    "patch_size": 2,
    "scale_factor_spatial": 16,
    "latents_mean": [0.0] * 48,
    "latents_std": [1.0] * 48,
}
SMALL = {"base_dim": 8, "z_dim": 4, "latents_mean": [0.0] * 4, "latents_std": [1.0] * 4}


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        ({}, (1, 16, 3, 6, 10)),
        ({}, (1, 16, 1, 6, 10)),
        (WAN_2_2, (1, 48, 2, 4, 6)),
        (SMALL | {"dim_mult": [1, 2], "num_res_blocks": 1, "temperal_downsample": [True]}, (1, 4, 2, 4, 4)),
        (SMALL | {"dim_mult": [1, 2, 2], "temperal_downsample": [True, False]}, (1, 4, 2, 4, 4)),
    ],
    ids=["Wan 2.1", "a latent frame a chunk", "Wan 2.2", "two levels", "twice as many frames in one block"],
)
def test_the_decoders_state_is_that_of_the_real_decoder(config: dict[str, Any], shape: tuple[int, ...]) -> None:
    with torch.device("meta"):
        vae = AutoencoderKLWan.from_config(config)
    with torch.no_grad():
        (first,) = decode_chunk(vae, torch.empty(shape, device="meta"), None)
        (later,) = decode_chunk(vae, torch.empty(shape, device="meta"), first.state)
    state = sum(entry.numel() for entry in later.state if isinstance(entry, torch.Tensor))
    assert decoded(config, shape) == (state, later.frames.numel())


def test_sharded_weights_and_a_lora_count(tmp_path: Path) -> None:
    component = tmp_path / "transformer"
    component.mkdir()
    for shard in ("a", "b"):
        save_file({shard: torch.zeros(3, 5)}, component / f"{shard}.safetensors")
    index = component / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "a.safetensors", "b": "b.safetensors", "c": "b.safetensors"}}))
    assert elements(component / "a.safetensors") == 15
    assert weights(tmp_path, {"transformer": 2}) == 60
    save_file({"lora": torch.zeros(7)}, tmp_path / "pytorch_lora_weights.safetensors")
    assert weights(tmp_path, {"transformer": 2}) == 74
    assert weights(tmp_path, {"transformer": 2, "vae": 4}) is None
    (component / "b.safetensors").unlink()
    assert weights(tmp_path, {"transformer": 2}) is None


@pytest.mark.parametrize("model", ["models/not-here", "nobody/not-in-the-cache", "no such : model"])
def test_a_model_that_is_not_here_is_not_guessed(model: str) -> None:
    assert folder_of(model) is None
    assert CausalWanAdapter().footprint(model, MemoryPlan()) is None


def test_a_hub_id_in_the_cache_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamt1_wan.footprint.try_to_load_from_cache", lambda model, name: f"{MODEL}/{name}")
    assert TinyWorldAdapter().footprint("me/mine", MemoryPlan()) == TinyWorldAdapter().footprint(MODEL, MemoryPlan())
