"""A tiny random AnyFlow-FAR pipeline, built without the hub."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AnyFlowFARPipeline, AnyFlowFARTransformer3DModel, FlowMapEulerDiscreteScheduler

from tests.adapters.tiny import TRANSFORMER, TinyTokenizer, shaken, tiny_text_encoder, tiny_vae

CHANGES: dict[str, Any] = {
    "compressed_patch_size": (1, 4, 4),
    "full_chunk_limit": 3,
    "gate_value": 0.25,
    "deltatime_type": "r",
    "chunk_partition": (1, 2, 2, 2),
}


def tiny_pipeline(**changes: Any) -> AnyFlowFARPipeline:
    """Chunks of 1, 2, 2, 2 latent frames, that is 25 frames. From 32 pixels up: below, old chunks have no tokens."""
    config = {name: value for name, value in TRANSFORMER.items() if name != "qk_norm"}
    torch.manual_seed(0)
    pipe = AnyFlowFARPipeline(
        transformer=shaken(AnyFlowFARTransformer3DModel(**{**config, **CHANGES, **changes})),
        vae=tiny_vae(),
        scheduler=FlowMapEulerDiscreteScheduler(num_train_timesteps=1000, shift=5.0),
        text_encoder=tiny_text_encoder(),
        tokenizer=None,
    )
    pipe.tokenizer = TinyTokenizer()
    pipe.set_progress_bar_config(disable=True)
    return pipe
