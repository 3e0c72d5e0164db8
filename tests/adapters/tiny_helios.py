"""Tiny random Helios pipelines, built without the hub."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    HeliosDMDScheduler,
    HeliosPipeline,
    HeliosPyramidPipeline,
    HeliosScheduler,
    HeliosTransformer3DModel,
)

from tests.adapters.tiny import TRANSFORMER, TinyTokenizer, shaken, tiny_text_encoder, tiny_vae

CHANGES: dict[str, Any] = {
    "rope_dim": (4, 4, 4),
    "has_multi_term_memory_patch": True,
    "guidance_cross_attn": True,
    "zero_history_timestep": True,
    "is_amplify_history": False,
}


def tiny_pipeline() -> HeliosPipeline:
    """Chunks of 9 latent frames, that is 33 frames each."""
    return _ready(HeliosPipeline, HeliosScheduler(stage_range=[0, 1], stages=1, use_dynamic_shifting=True))


def tiny_pyramid(*, distilled: bool = False, gamma: float = 0.25, **settings: Any) -> HeliosPyramidPipeline:
    """Three stages, each twice as large as the one before, so from 64 pixels up.

    The default gamma of 1/3 makes the covariance of its block noise singular, see `test_helios`.
    """
    kind = HeliosDMDScheduler if distilled else HeliosScheduler
    scheduler = kind(stage_range=[0, 1 / 3, 2 / 3, 1], stages=3, use_dynamic_shifting=True, gamma=gamma)
    return _ready(HeliosPyramidPipeline, scheduler, is_distilled=distilled, **settings)


def _ready(kind: type, scheduler: Any, **settings: Any) -> Any:
    config = {name: value for name, value in TRANSFORMER.items() if name != "rope_max_seq_len"}
    torch.manual_seed(0)
    transformer = shaken(HeliosTransformer3DModel(**{**config, **CHANGES}))
    pipe = kind(
        transformer=transformer,
        vae=tiny_vae(),
        scheduler=scheduler,
        text_encoder=tiny_text_encoder(),
        tokenizer=None,
        **settings,
    )
    pipe.tokenizer = TinyTokenizer()
    pipe.set_progress_bar_config(disable=True)
    return pipe
