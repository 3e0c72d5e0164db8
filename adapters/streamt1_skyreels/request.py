"""Checks of the pipeline and of the call's arguments; those that fail upstream are refused with a remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamt1_plugins.errors import InputError, UnsupportedPipelineError
from streamt1_plugins.process.imports import deferred
from streamt1_seams import (
    check_call,
    check_component,
    check_single,
    check_text_encoder,
    refuse_context_parallelism,
    refuse_step_cache,
    refuse_tiling,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import diffusers
    import torch

    from streamt1_seams import Window
else:
    diffusers, torch = deferred("diffusers"), deferred("torch")

REFUSED = {
    "latents": "noise is drawn, or proposed by the noise policy, window by window; pass `generator` to fix it",
    "image_embeds": "the diffusion-forcing pipeline does not read them; pass `image`",
}
"""Arguments of the pipelines that have no meaning here, and what to do instead."""


def check_pipeline(pipe: Any, kinds: tuple[Any, ...]) -> None:
    """Raise `UnsupportedPipelineError` unless `pipe` is one of `kinds` in a supported state."""
    check_kind(pipe, kinds)
    check_component(pipe, "vae", diffusers.AutoencoderKLWan)
    refuse_tiling(pipe.vae)
    refuse_context_parallelism(pipe.transformer)
    refuse_step_cache(pipe.transformer)


def check_kind(pipe: Any, kinds: tuple[Any, ...]) -> None:
    """Raise `UnsupportedPipelineError` unless `pipe` is one of `kinds`."""
    if not isinstance(pipe, kinds):
        raise UnsupportedPipelineError(
            f"The adapter 'skyreels' drives {', '.join(kind.__name__ for kind in kinds)}, got {type(pipe).__name__}. "
            "The other SkyReels-V2 pipelines make the whole video at once; load the DF checkpoint with one of these."
        )


def parse(pipe: Any, call: Mapping[str, Any]) -> dict[str, Any]:
    """The call's arguments over the pipeline's defaults. Raises `InputError`."""
    request = check_call(pipe, call, REFUSED)
    if request["prompt"] is not None:
        check_text_encoder(pipe)
    for name in ("image", "last_image"):
        check_single(name, request.get(name))
    if "video" in request:
        _check_video(request)
    if request["overlap_history"] is not None:
        _check_lengths(pipe, request)
    return request


def _check_video(request: Mapping[str, Any]) -> None:
    video = request["video"]
    if isinstance(video, torch.Tensor) and video.ndim == 5 and len(video) != 1:
        raise InputError(f"`video` has {len(video)} entries, but one call makes one video: call once each.")
    if request["overlap_history"] is None:
        raise InputError("`overlap_history` is missing: the number of frames to continue from (17 or 37 are usual).")


def _check_lengths(pipe: Any, request: Mapping[str, Any]) -> None:
    """Raise `InputError` for lengths for which upstream divides by zero or makes no window."""
    scale = pipe.vae_scale_factor_temporal
    frames, base, overlap = (
        (request[name] - 1) // scale + 1 for name in ("num_frames", "base_num_frames", "overlap_history")
    )
    continues = "video" in request
    if base <= overlap and (continues or frames > base):
        raise InputError(
            f"`overlap_history` = {request['overlap_history']} leaves nothing new in a window of `base_num_frames` = "
            f"{request['base_num_frames']}. Make the window longer or the overlap shorter."
        )
    if continues and (frames - base - 1) // (base - overlap) < -1:
        raise InputError(
            f"`num_frames` = {request['num_frames']} is too short for `base_num_frames` = "
            f"{request['base_num_frames']}. Raise `num_frames` or lower `base_num_frames`."
        )


def check_windows(request: Mapping[str, Any], windows: Sequence[Window]) -> None:
    """Raise `InputError` for lengths for which upstream fails in the middle, or leaves noise in the last frames."""
    frames = [window.noise.shape[2] for window in windows]
    block = request["causal_block_size"] or 1
    uneven = [count for count in frames if count % block]
    if uneven:
        raise InputError(
            f"Windows have {frames} latent frames, but `causal_block_size` = {block} needs multiples of {block}: the "
            "rest would stay noise. Change `num_frames` or `base_num_frames` (4 frames are 1 latent frame, the first "
            "is 1)."
        )
    if "image" in request and frames[-1] != frames[0]:
        raise InputError(
            f"The last window has {frames[-1]} latent frames, the others {frames[0]}: the image-to-video pipeline "
            f"fails on a short one. Raise `num_frames` by {4 * (frames[0] - frames[-1])}."
        )
    if request.get("last_image") is not None and overlap_of(windows) > 1:
        raise InputError(
            "`last_image` works in a single window, or with `overlap_history` = 1: with a longer overlap the pipeline "
            "miscounts the frames of the last window. Raise `base_num_frames` to `num_frames`."
        )


def overlap_of(windows: Sequence[Window]) -> int:
    """Latent frames a window shares with the one before; 0 for a single window."""
    return int(windows[-1].arguments.get("overlap_history_latent_frames") or 0) if len(windows) > 1 else 0
