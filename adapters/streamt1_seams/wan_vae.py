"""Chunk by chunk VAE decoding with a carried cache, bit-identical to decoding the whole video at once.

The causal decoder keeps, per convolution, the last features it has seen. Those entries are replaced and never changed
in place, so the tuple of them is a value: a branch forks by keeping a reference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify
from diffusers.utils.accelerate_utils import apply_forward_hook
from diffusers.utils.torch_utils import get_module_execution_device

from streamt1_plugins.api.adapter import Decoded

if TYPE_CHECKING:
    from torch import Tensor

DecoderState: TypeAlias = "tuple[Tensor | str | None, ...]"
"""One entry per causal convolution: features, None before the first use, or the decoder's marker of a first frame."""


def decode_chunk(vae: Any, latents: Tensor, state: DecoderState | None) -> list[Decoded]:
    """Frames and decoder states of N candidates that share one past.

    latents: ``[N, C, F, h, w]``, normalised as the transformer sees them. state: of the frames before, None for a
    cold start, whose first latent frame gives 1 pixel frame instead of 4. Frames ``[T, 3, H, W]`` are in ``[0, 1]``, in
    the VAE's dtype.
    """
    # The hook brings an offloaded VAE to its device, as it does for `vae.decode`.
    video, cache = apply_forward_hook(_decode)(vae, denormalised(vae, latents), state)
    frames = (video * 0.5 + 0.5).clamp(0, 1).transpose(1, 2)
    return [Decoded(each, tuple(_row(entry, index) for entry in cache)) for index, each in enumerate(frames)]


def _decode(vae: Any, latents: Tensor, state: DecoderState | None) -> tuple[Tensor, list[Tensor | str | None]]:
    """The loop of `AutoencoderKLWan._decode` on a cache of our own, which `vae.decode` would clear before and after."""
    cache: list[Tensor | str | None]
    if state is None:
        cache = [None] * vae._cached_conv_counts["decoder"]
    else:
        cache = [_rows(entry, len(latents)) for entry in state]
    hidden = vae.post_quant_conv(latents)
    parts = []
    for index, frame in enumerate(hidden.split(1, dim=2)):
        first = {"first_chunk": True} if state is None and index == 0 else {}
        parts.append(vae.decoder(frame, feat_cache=cache, feat_idx=[0], **first))
    video = torch.cat(parts, dim=2)
    if vae.config.patch_size is not None:
        video = unpatchify(video, patch_size=vae.config.patch_size)
    return video.clamp(-1.0, 1.0), cache


def denormalised(vae: Any, latents: Tensor) -> Tensor:
    """Latents in the VAE's own space, device and dtype, with the arithmetic of `WanPipeline` to the last bit."""
    latents = latents.to(get_module_execution_device(vae), vae.dtype)
    mean, std = (
        torch.tensor(values).view(1, -1, 1, 1, 1) for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    inverse = 1.0 / std.to(latents)
    return latents / inverse + mean.to(latents)


def _rows(entry: Any, count: int) -> Any:
    return entry.expand(count, -1, -1, -1, -1) if isinstance(entry, torch.Tensor) else entry


def _row(entry: Any, index: int) -> Any:
    return entry[index : index + 1] if isinstance(entry, torch.Tensor) else entry
