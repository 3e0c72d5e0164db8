"""VAE decoding section by section with blended seams, as in the pipeline's own loop.

A section is decoded together with the one before, and the frames that both decodings contain are blended. So a new
section revises the last frames of the video.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Past:
    """Where decoding continues from: latents ``[1, C, F, h, w]`` and, except at the start, the frames they end with.

    `frames` ``[1, 3, O, H, W]`` are raw VAE output (about ``[-1, 1]``, not clamped), because the next section revises
    them.
    """

    latents: Tensor
    frames: Tensor | None = None


def decode_sections(pipe: Any, past: Past, latents: Tensor, window: int) -> Tensor:
    """Decode sections of `window` latent frames for N candidates, ``[N, C, F, h, w]``.

    Returns raw frames ``[N, 3, T, H, W]``; unless at the start, the first `overlap` ones are revised ones of the past.
    """
    count = len(latents)
    previous = past.latents.expand(count, *past.latents.shape[1:])
    video = None if past.frames is None else past.frames.expand(count, *past.frames.shape[1:])
    for start in range(0, latents.shape[2], window):
        section = latents[:, :, start : start + window]
        both = torch.cat([previous, section], dim=2).to(pipe.vae.dtype) / pipe.vae.config.scaling_factor
        current = pipe.vae.decode(both, return_dict=False)[0]
        video = current if video is None else pipe._soft_append(video, current, overlap(pipe, window))
        previous = section
    if video is None:
        raise ValueError("There are no latent frames to decode.")
    return video


def overlap(pipe: Any, window: int) -> int:
    """Number of frames that a section revises."""
    return int((window - 1) * pipe.vae_scale_factor_temporal + 1)


def shown(pipe: Any, frames: Tensor) -> Tensor:
    """Raw frames of one candidate ``[3, T, H, W]`` as the pipeline returns them, ``[T, 3, H, W]`` in ``[0, 1]``."""
    pixels: Tensor = pipe.video_processor.denormalize(frames.transpose(0, 1))
    return pixels
