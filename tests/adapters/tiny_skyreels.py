"""Tiny random SkyReels-V2 diffusion-forcing pipelines, built without the hub."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import (
    SkyReelsV2DiffusionForcingImageToVideoPipeline,
    SkyReelsV2DiffusionForcingPipeline,
    SkyReelsV2DiffusionForcingVideoToVideoPipeline,
    SkyReelsV2Transformer3DModel,
    UniPCMultistepScheduler,
)
from PIL import Image

from tests.adapters.tiny import TRANSFORMER, TinyTokenizer, shaken, tiny_text_encoder, tiny_vae

PIPELINES = {
    "t2v": SkyReelsV2DiffusionForcingPipeline,
    "i2v": SkyReelsV2DiffusionForcingImageToVideoPipeline,
    "v2v": SkyReelsV2DiffusionForcingVideoToVideoPipeline,
}


def tiny_skyreels(task: str = "t2v", **changes: Any) -> Any:
    """A whole pipeline; `changes` go into the transformer's configuration."""
    torch.manual_seed(0)
    pipe = PIPELINES[task](
        transformer=shaken(SkyReelsV2Transformer3DModel(**{**TRANSFORMER, **changes})),
        vae=tiny_vae(),
        scheduler=UniPCMultistepScheduler(flow_shift=8.0, use_flow_sigmas=True),
        text_encoder=tiny_text_encoder(),
        tokenizer=None,
    )
    pipe.tokenizer = TinyTokenizer()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def picture(seed: int = 0, size: int = 32) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8))
