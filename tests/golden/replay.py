"""Golden cases as data: find them by `kind`, rebuild their random model as a stock diffusers pipeline.

A case is one JSON (configuration, scripted decisions) beside one safetensors file. STREAMT1_GOLDEN_DIR names another
folder of cases in the same format.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import WanPipeline, WanTransformer3DModel
from safetensors.torch import load_file

from streamt1_plugins.api.adapter import MemoryPlan
from streamt1_wan.adapter import CausalWanAdapter
from streamt1_wan.keys import diffusers_key
from tests.adapters.tiny import tiny_pipeline

FOLDER = Path(os.environ.get("STREAMT1_GOLDEN_DIR") or Path(__file__).parent / "cases")


@dataclass(frozen=True)
class Case:
    name: str
    info: dict[str, Any]
    tensors: dict[str, torch.Tensor]

    @property
    def config(self) -> dict[str, Any]:
        return dict(self.info["config"])


def paths(kind: str) -> list[Path]:
    """The JSON files of all cases of this kind, wherever they lie in the folder."""
    found = sorted(FOLDER.rglob("*.json"))
    return [path for path in found if json.loads(path.read_text(encoding="utf-8")).get("kind") == kind]


def load(path: Path) -> Case:
    return Case(path.stem, json.loads(path.read_text(encoding="utf-8")), load_file(path.with_suffix(".safetensors")))


def transformer_of(case: Case) -> WanTransformer3DModel:
    config = case.config
    model = WanTransformer3DModel(
        patch_size=tuple(config.get("patch_size", (1, 2, 2))),
        num_attention_heads=config["num_heads"],
        attention_head_dim=config["dim"] // config["num_heads"],
        in_channels=config["channels"],
        out_channels=config["channels"],
        text_dim=config["text_dim"],
        freq_dim=config["freq_dim"],
        ffn_dim=config["ffn_dim"],
        num_layers=config["num_layers"],
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        eps=config["eps"],
        rope_max_seq_len=1024,
    )
    weights = {
        diffusers_key(name.removeprefix("sd.")): tensor
        for name, tensor in case.tensors.items()
        if name.startswith("sd.")
    }
    model.load_state_dict(weights, strict=True)
    return model.eval()


def pipeline_of(case: Case) -> WanPipeline:
    """The case's transformer in a pipeline without text parts, to be called with the case's `text_context`."""
    return tiny_pipeline(transformer=transformer_of(case), text=False)


def adapter_of(case: Case, **options: Any) -> CausalWanAdapter:
    config = case.config
    return CausalWanAdapter(
        chunk_frames=config["num_frame_per_block"],
        timesteps=tuple(config.get("denoising_step_list", (1000, 750, 500, 250))),
        shift=config["timestep_shift"],
        context_noise=config["context_noise"],
        **options,
    )


def call_of(case: Case, extra_chunks: int = 0) -> dict[str, Any]:
    """Arguments of the wrapped call; an extra chunk makes the adapter write the context of the case's last one too."""
    config = case.config
    latent_frames = (config["num_chunks"] + extra_chunks) * config["num_frame_per_block"]
    return {
        "prompt_embeds": case.tensors["text_context"],
        "height": config["height"] * 8,
        "width": config["width"] * 8,
        "num_frames": 4 * latent_frames - 3,
    }


def memory_of(case: Case) -> MemoryPlan:
    """The release counts frames, we count chunks; its local window excludes the initial sink."""
    config = case.config
    frames = config["num_frame_per_block"]
    return MemoryPlan(
        sink_chunks=config["sink_size"] // frames,
        window_chunks=(config["local_attn_size"] - config["sink_size"]) // frames,
        max_sink_chunks=config["max_sink_size"] // frames,
        ema_decay=config["compression_alpha"],
    )
