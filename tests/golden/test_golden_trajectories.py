"""Whole trajectories through the adapter's session, with scripted routes, against the authors' release."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed

from streamt1_plugins.api.adapter import Decoded, History
from streamt1_plugins.api.routed_memory import remember
from streamt1_wan.rope import Rope, rotate
from tests.adapters.tiny import seeded
from tests.golden.replay import Case, adapter_of, call_of, load, memory_of, paths, pipeline_of

if TYPE_CHECKING:
    from pathlib import Path

    from streamt1_plugins.api.adapter import MemoryPlan
    from streamt1_wan.memory import Block, Memory
    from streamt1_wan.session import CausalWanSession

ATOL = 5e-5


@pytest.mark.parametrize("path", paths("trajectory"), ids=lambda path: path.stem)
def test_trajectory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    case = load(path)
    pipe = pipeline_of(case)
    outputs: list[torch.Tensor] = []
    pipe.transformer.register_forward_hook(lambda *call: outputs.append(call[-1][0]))
    session = adapter_of(case).open(pipe, call_of(case, extra_chunks=1), memory_of(case))
    history, noise = session.root(), None
    written = _record_memory(monkeypatch)
    for chunk in case.info["chunks"]:
        outputs.clear()
        history, noise = _replay_chunk(case, session, history, noise, chunk)
        _check_flows(case, chunk["chunk"], outputs[1:])  # the first output is the prediction's
        _check_memory(case, written[-1], chunk)
    session.close()


def _record_memory(monkeypatch: pytest.MonkeyPatch) -> list[Memory]:
    """The memory right after each clean pass, before a commit evicts for the next chunk: the recorded state."""
    written: list[Memory] = []

    def recording(memory: Memory, block: Block, plan: MemoryPlan) -> Memory:
        written.append(remember(memory, block, plan))
        return written[-1]

    monkeypatch.setattr("streamt1_wan.session.remember", recording)
    return written


def _replay_chunk(
    case: Case, session: CausalWanSession, history: History, previous: torch.Tensor | None, chunk: dict[str, Any]
) -> tuple[History, torch.Tensor]:
    index, generator = chunk["chunk"], seeded(chunk["seed"])
    noise = session.draw(history, generator)
    _close(noise, case.tensors[f"chunk{index:02d}.sample_noise"])
    if previous is not None:
        sigma = case.config["noise_fusion_sigma"]
        noise = sigma * previous + math.sqrt(1 - sigma**2) * noise
    _close(noise, case.tensors[f"chunk{index:02d}.noise"])
    _close(session.predict(history, noise, 1.0), case.tensors[f"chunk{index:02d}.flow_step0"])
    latents = session.generate(history, noise, [generator])
    _close(latents, case.tensors[f"chunk{index:02d}.latent"])
    after = session.commit(history, latents, Decoded(torch.zeros(1, 3, 8, 8)), case.info["routes"][index])
    return after, noise


def _check_flows(case: Case, index: int, outputs: list[torch.Tensor]) -> None:
    """The model's raw output in the first step and in the clean pass, whose timestep shows nowhere else."""
    assert len(outputs) == len(case.info["model_timesteps_per_chunk"])
    _close(outputs[0], case.tensors[f"chunk{index:02d}.flow_step0"])
    _close(outputs[-1], case.tensors[f"chunk{index:02d}.flow_clean"])


def _check_memory(case: Case, memory: Memory, chunk: dict[str, Any]) -> None:
    frames = [block.start + i for block in memory.blocks for i in range(block.frames)]
    assert frames == chunk["slot_absolute_frames"]
    assert sum(block.frames for block in memory.sinks) == chunk["sink_frames"]
    starts = [block.start for block in memory.sinks]
    assert [start for start in starts if start >= case.config["sink_size"]] == chunk["append_start_frames"]
    for layer in {0, case.config["num_layers"] - 1}:
        _check_layer(case, memory.blocks, layer, chunk["chunk"])


def _check_layer(case: Case, blocks: tuple[Block, ...], layer: int, index: int) -> None:
    name = f"chunk{index:02d}.kv.layer{layer}"
    if f"{name}.k" not in case.tensors:
        return
    _close(torch.cat([block.values[layer].float() for block in blocks], dim=1), case.tensors[f"{name}.v"])
    rope = rope_of(case)
    per_block = case.tensors[f"{name}.k"].split([block.keys[layer].shape[1] for block in blocks], dim=1)
    for block, unrotated in zip(blocks, per_block, strict=True):
        _close(block.keys[layer].float(), rotate(unrotated, rope.at(block.start, block.frames)))


def rope_of(case: Case) -> Rope:
    config = case.config
    tables = WanRotaryPosEmbed(config["dim"] // config["num_heads"], (1, 2, 2), 1024)
    return Rope.of(tables, (config["height"] // 2, config["width"] // 2), torch.device("cpu"))


def _close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Compare in the recorded layout ``[1, F, C, h, w]`` where the tensor is a latent one."""
    if ours.ndim == 5:
        ours = ours.transpose(1, 2)
    torch.testing.assert_close(ours, theirs, atol=ATOL, rtol=0)
