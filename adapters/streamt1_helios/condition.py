"""Encodes an image or a video to start from, and adds noise as the pipelines do, once per call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from diffusers.utils.torch_utils import randn_tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Generator, Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Condition:
    """`prefix` is the frame that every chunk reads, `lead` the latents before the first chunk: ``[1, C, F, h, w]``
    float32, or None for text to video (the prefix is then the first generated frame).
    """

    prefix: Tensor | None = None
    lead: Tensor | None = None


def condition(pipe: Any, values: Mapping[str, Any]) -> Condition:
    """The encoded `image` or `video`, with the noise that the call sets, drawn from the call's generator.

    The order of the draws is that of `HeliosPipeline.__call__`: encode, then for each part its level and its noise.
    """
    if values["image"] is not None:
        prefix, lead = _image(pipe, values)
    elif values["video"] is not None:
        prefix, lead = _video(pipe, values)
    else:
        return Condition()
    return Condition(prefix, lead)


def _image(pipe: Any, values: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """The image's latents, and those of the last frame of a still video of it."""
    image = pipe.video_processor.preprocess(values["image"], height=values["height"], width=values["width"])
    prefix, lead = pipe.prepare_image_latents(image, latents=None, fake_latents=None, **_encoding(pipe, values))
    if values["add_noise_to_image_latents"]:
        prefix = _noised(prefix, _levels(1, "image", values), values["generator"])
        # The pipelines draw this level from the range meant for videos.
        lead = _noised(lead, _levels(1, "video", values), values["generator"])
    return prefix, lead


def _video(pipe: Any, values: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """The latents of the first frame, and those of the whole video, encoded chunk by chunk."""
    video = pipe.video_processor.preprocess_video(values["video"], height=values["height"], width=values["width"])
    prefix, lead = pipe.prepare_video_latents(video, latents=None, **_encoding(pipe, values))
    if values["add_noise_to_video_latents"]:
        prefix = _noised(prefix, _levels(1, "image", values), values["generator"])
        chunks = torch.split(lead, values["num_latent_frames_per_chunk"], dim=2)
        noised = [_noised(chunk, _levels(chunk.shape[2], "video", values), values["generator"]) for chunk in chunks]
        lead = torch.cat(noised, dim=2)
    return prefix, lead


def _encoding(pipe: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    config, device, dtype = pipe.vae.config, pipe._execution_device, pipe.vae.dtype
    mean, std = (torch.tensor(each).view(1, -1, 1, 1, 1) for each in (config.latents_mean, config.latents_std))
    return {
        "latents_mean": mean.to(device, dtype),
        "latents_std": 1.0 / std.to(device, dtype),
        "num_latent_frames_per_chunk": values["num_latent_frames_per_chunk"],
        "dtype": torch.float32,
        "device": device,
        "generator": values["generator"],
    }


def _levels(count: int, kind: str, values: Mapping[str, Any]) -> Tensor:
    """Noise levels, one per frame, uniform in the range the call gives for this kind."""
    low, high = values[f"{kind}_noise_sigma_min"], values[f"{kind}_noise_sigma_max"]
    generator: Generator = values["generator"]
    levels: Tensor = torch.rand(count, device=generator.device, generator=generator) * (high - low) + low
    return levels.reshape(1, 1, count, 1, 1)


def _noised(latents: Tensor, levels: Tensor, generator: Generator) -> Tensor:
    levels = levels.to(latents.device)
    noise: Tensor = randn_tensor(latents.shape, generator=generator, device=latents.device)
    return levels * noise + (1 - levels) * latents
