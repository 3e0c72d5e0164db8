"""Frames a call continues (`image=`, `video=`): read, checked and encoded into the chunks every branch starts with.

The VAE is causal: its first latent frame is 1 frame, every other one 4. Context is kept in whole chunks, so a video to
continue has to fill them. An image becomes a still first chunk where chunks are longer than one latent
frame, because a chunk-wise model was not trained on shorter ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers.utils.torch_utils import get_module_execution_device
from PIL.Image import Image

from streamt1_plugins.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from streamt1_wan.request import Request

FORMS = "PIL images, arrays [T, H, W, 3] or tensors [T, 3, H, W], 8-bit or in [0, 1]"


def given_frames(request: Request, chunk_frames: int, scale: int) -> Tensor | None:
    """The frames the video begins with, ``[T, 3, H, W]`` float32 in ``[0, 1]``, filling whole chunks; None for none.

    Raises `InputError` for what cannot be continued, with the nearest lengths that can.
    """
    if request.image is not None and request.video is not None:
        raise InputError("Pass either `image` (one frame) or `video` (several), not both.")
    name = "image" if request.video is None else "video"
    value = getattr(request, name)
    if value is None:
        return None
    frames = _read(value, name)
    _check_values(frames, name, (request.height, request.width))
    first, step = (chunk_frames - 1) * scale + 1, chunk_frames * scale
    if name == "image":
        if len(frames) != 1:
            raise InputError(f"`image` has {len(frames)} frames. To continue several, pass them as `video`.")
        frames = frames.expand(first, -1, -1, -1)
    _check_length(len(frames), first, step)
    if len(frames) >= request.num_frames:
        raise InputError(
            f"`num_frames` = {request.num_frames} counts the whole video, and `{name}` fills {len(frames)} of it: "
            f"nothing is left to generate. Ask for {len(frames) + step} frames or more."
        )
    return frames


def encode(vae: Any, frames: Tensor, dtype: torch.dtype) -> Tensor:
    """Latents ``[1, C, F, h, w]`` as the transformer gets them: the posterior's mode, normalised, in `dtype`."""
    device = get_module_execution_device(vae)
    video = frames.transpose(0, 1).unsqueeze(0).to(device, vae.dtype) * 2 - 1
    latents: Tensor = vae.encode(video, return_dict=False)[0].mode()
    mean, std = (
        torch.tensor(values).view(1, -1, 1, 1, 1).to(latents)
        for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    return ((latents - mean) / std).to(dtype)


def _read(value: Any, name: str) -> Tensor:
    """``[T, 3, H, W]`` in ``[0, 1]`` from any of the accepted forms."""
    if isinstance(value, (list, tuple)):
        if not value:
            raise InputError(f"`{name}` is empty.")
        return torch.cat([_read(each, name) for each in value])
    if isinstance(value, Image):
        value = np.asarray(value.convert("RGB"))
    if isinstance(value, np.ndarray):
        pixels, channels = torch.from_numpy(np.array(value)), -1
    elif isinstance(value, torch.Tensor):
        pixels, channels = value, -3
    else:
        raise InputError(f"`{name}` cannot be a {type(value).__name__}: expected {FORMS}.")
    if pixels.ndim == 5 and len(pixels) == 1:  # a pipeline's own output has a batch in front
        pixels = pixels[0]
    if pixels.ndim not in (3, 4) or pixels.shape[channels] != 3:
        raise InputError(f"`{name}` has shape {list(pixels.shape)}: expected {FORMS}.")
    pixels = pixels.movedim(channels, -3)
    pixels = pixels / 255 if pixels.dtype == torch.uint8 else pixels
    return (pixels if pixels.ndim == 4 else pixels.unsqueeze(0)).float()


def _check_values(frames: Tensor, name: str, size: tuple[int, int]) -> None:
    found = tuple(frames.shape[-2:])
    if found != size:
        raise InputError(
            f"`{name}` is {found[0]}x{found[1]} (height x width), but the video is {size[0]}x{size[1]}. Resize it, or "
            f"pass height={found[0]}, width={found[1]}: nothing is resized silently."
        )
    low, high = frames.aminmax()
    if not (low >= 0 and high <= 1):
        raise InputError(f"`{name}` has values from {low:.3g} to {high:.3g}: expected 0 to 1, or 8-bit integers.")


def _check_length(count: int, first: int, step: int) -> None:
    chunks, rest = divmod(count - first, step)
    if rest or chunks < 0:
        low = max(first, first + chunks * step)
        advice = f"keep the last {low}, or give {low + step}" if count > first else f"give {first} or {first + step}"
        raise InputError(
            f"`video` has {count} frames, which do not fill whole chunks (the first has {first}, every other one "
            f"{step}): {advice}."
        )
