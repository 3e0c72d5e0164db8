"""Checks of the pipeline and of the call's arguments; those that do not stream or fail upstream are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamt1_plugins.errors import InputError, UnsupportedPipelineError
from streamt1_seams import check_call, check_single, refuse_context_parallelism, refuse_step_cache

if TYPE_CHECKING:
    from collections.abc import Mapping

REFUSED = {
    "image_latents": "the pipeline itself cannot use them without `image`, nor with it; pass `image`",
    "last_image": "it belongs to inverted sampling, which starts from the end; leave it out",
    "last_image_latents": "they belong to inverted sampling, which starts from the end; leave them out",
}
"""Arguments of the pipeline that have no meaning here, and what to do instead."""


def check_pipeline(pipe: Any) -> None:
    """Raise `UnsupportedPipelineError` unless `pipe` is a FramePack pipeline in a supported state."""
    check_kind(pipe)
    refuse_context_parallelism(pipe.transformer)
    refuse_step_cache(pipe.transformer)


def check_kind(pipe: Any) -> None:
    """Raise `UnsupportedPipelineError` unless `pipe` is a FramePack pipeline."""
    from diffusers import HunyuanVideoFramepackPipeline

    if not isinstance(pipe, HunyuanVideoFramepackPipeline):
        raise UnsupportedPipelineError(
            f"The adapter 'framepack' drives HunyuanVideoFramepackPipeline, got {type(pipe).__name__}. "
            "HunyuanVideo's other pipelines make the whole video at once."
        )


def parse(pipe: Any, call: Mapping[str, Any]) -> dict[str, Any]:
    """The call's arguments over the pipeline's defaults. Raises `InputError`."""
    request = check_call(pipe, call, REFUSED)
    if request["sampling_type"] == "inverted_anti_drifting":
        raise InputError(
            "`sampling_type` is 'inverted_anti_drifting' (the pipeline's default), which makes the end of the video "
            "first: nothing streams and no chunk continues another. Pass sampling_type='vanilla', with an F1 "
            "checkpoint."
        )
    check_single("image", request["image"])
    _check_text(pipe, request)
    return request


def _check_text(pipe: Any, request: Mapping[str, Any]) -> None:
    parts = ("tokenizer", "text_encoder", "tokenizer_2", "text_encoder_2")
    absent = [name for name in parts if getattr(pipe, name) is None]
    if absent and any(request[name] is not None for name in ("prompt", "negative_prompt")):
        raise UnsupportedPipelineError(
            f"The pipeline has no {', '.join(absent)}. Load it with all of them, or pass `prompt_embeds`, "
            "`pooled_prompt_embeds` and `prompt_attention_mask`."
        )
    for sign in ("", "negative_"):
        names = [f"{sign}prompt_embeds", f"{sign}pooled_prompt_embeds", f"{sign}prompt_attention_mask"]
        missing = [name for name in names if request[name] is None]
        if request[names[0]] is not None and missing:
            raise InputError(f"With `{names[0]}` the pipeline also needs `{'` and `'.join(missing)}`.")
