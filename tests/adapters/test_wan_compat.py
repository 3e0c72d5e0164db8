"""The session beside other things people do to a pipeline: offloading, LoRA, compilation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import accelerate
import pytest
import torch
from diffusers.hooks import apply_group_offloading
from peft import LoraConfig

from streamt1_plugins.api.adapter import MemoryPlan
from streamt1_wan.adapter import CausalWanAdapter
from tests.adapters.tiny import seeded, tiny_pipeline

if TYPE_CHECKING:
    from collections.abc import Callable

    from diffusers import WanPipeline

CPU = torch.device("cpu")
CALL = {"prompt": "a red circle", "height": 32, "width": 32, "num_frames": 45, "max_sequence_length": 16}


def video(pipe: WanPipeline, **options: bool) -> torch.Tensor:
    """Four chunks, two candidates each, with a moving average on the way."""
    torch.set_num_threads(1)
    session = CausalWanAdapter(**options).open(pipe, {**CALL, "output_type": "pt"}, MemoryPlan(window_chunks=1))  # type: ignore[arg-type]
    history = session.root()
    for _ in range(session.num_chunks):
        generators = [seeded(0), seeded(1)]
        noise = torch.cat([session.draw(history, generator) for generator in generators])
        latents = session.generate(history, noise, generators)
        history = session.commit(history, latents[1:], session.decode(history, latents)[1], "ema")
    frames: torch.Tensor = session.finish(history).frames
    session.close()
    return frames


@pytest.fixture(scope="module")
def plain() -> torch.Tensor:
    return video(tiny_pipeline())


def _sequential(pipe: WanPipeline) -> None:
    for module in (pipe.transformer, pipe.vae, pipe.text_encoder):
        accelerate.cpu_offload(module, execution_device=CPU)


def _model(pipe: WanPipeline) -> None:
    for module in (pipe.transformer, pipe.vae):
        accelerate.cpu_offload_with_hook(module, CPU)


def _groups(pipe: WanPipeline) -> None:
    for module in (pipe.transformer, pipe.vae):
        options = {"onload_device": CPU, "offload_device": CPU, "num_blocks_per_group": 1}
        apply_group_offloading(module, offload_type="block_level", **options)


def _text_encoder(pipe: WanPipeline) -> None:
    apply_group_offloading(pipe.text_encoder, onload_device=CPU, offload_device=CPU, offload_type="leaf_level")


def _compiled_blocks(pipe: WanPipeline) -> None:
    pipe.transformer.compile_repeated_blocks(backend="eager", fullgraph=True)


def _compiled(pipe: WanPipeline) -> None:
    pipe.transformer = torch.compile(pipe.transformer, backend="eager")


@pytest.mark.parametrize("change", [_sequential, _model, _groups, _text_encoder, _compiled_blocks, _compiled])
def test_same_video(plain: torch.Tensor, change: Callable[[WanPipeline], None]) -> None:
    torch._dynamo.reset()
    pipe = tiny_pipeline()
    change(pipe)
    assert torch.equal(video(pipe), plain)


def test_shared_prefix_compiles_and_agrees(plain: torch.Tensor) -> None:
    torch._dynamo.reset()
    pipe = tiny_pipeline()
    _compiled_blocks(pipe)
    torch.testing.assert_close(video(pipe, shared_prefix=True), plain, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_compiled_blocks_serve_every_layer() -> None:
    """Neither more layers nor more chunks of the same length cost another graph."""
    counts = []
    for layers in (2, 4):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        pipe = tiny_pipeline(num_layers=layers)
        _compiled_blocks(pipe)
        video(pipe)
        counts.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert counts[0] == counts[1] <= 8


def test_lora_is_active_inside() -> None:
    pipe = tiny_pipeline()
    without = video(pipe)
    names = ["to_q", "to_k", "to_v", "to_out.0"]
    pipe.transformer.add_adapter(LoraConfig(r=4, target_modules=names, init_lora_weights=False))
    assert not torch.equal(video(pipe), without)
