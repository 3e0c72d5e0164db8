"""The arguments of a call, under the names of `WanPipeline.__call__`, checked before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
from diffusers.pipelines.wan.pipeline_wan import prompt_clean

from streamt1_plugins.errors import InputError, guess
from streamt1_seams.arguments import OUTPUT_TYPES, PROPOSED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Generator, Tensor

UNUSABLE = {
    "num_inference_steps": "the steps of a chunk are the adapter's options `timesteps` and `steps`",
    "latents": PROPOSED,
    "guidance_scale_2": "it belongs to a second transformer, which this adapter does not drive",
    "callback_on_step_end": "use an observer, or `.stream()` on the wrapped pipeline",
    "callback_on_step_end_tensor_inputs": "use an observer, or `.stream()` on the wrapped pipeline",
}
"""Arguments of `WanPipeline` that have no meaning here, and what to do instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One checked call. Sizes in pixels and pixel frames; embeddings ``[1, tokens, text_dim]``.

    `generator` is the plain pipeline's noise stream; it may live on the CPU while the model does not. `image` or
    `video` is what the video begins with, see `streamt1_wan.given`; `num_frames` counts it too.
    """

    height: int
    width: int
    num_frames: int
    max_sequence_length: int
    guidance_scale: float
    generator: Generator
    prompt: str | None = None
    negative_prompt: str | None = None
    prompt_embeds: Tensor | None = None
    negative_prompt_embeds: Tensor | None = None
    num_videos_per_prompt: int = 1
    image: Any = None
    video: Any = None
    attention_kwargs: Mapping[str, Any] | None = None
    output_type: str = "np"
    return_dict: bool = True

    @property
    def is_guided(self) -> bool:
        """Whether classifier-free guidance needs the unconditional branch."""
        return self.guidance_scale > 1.0


def parse(call: Mapping[str, Any], defaults: Mapping[str, Any]) -> Request:
    """The call's arguments over the adapter's defaults; None means "not given". Raises `InputError`."""
    given = {name: value for name, value in call.items() if value is not None}
    _check_names(given)
    given["prompt"], given["negative_prompt"] = (_one_text(given, name) for name in ("prompt", "negative_prompt"))
    if "negative_prompt_embeds" not in given and given["negative_prompt"] is None:
        given["negative_prompt"] = defaults["negative_prompt"]
    values = {**defaults, "generator": torch.Generator().manual_seed(0), **given}
    _check_types(values)
    request = Request(**values)
    _check_text(request)
    _check_choices(request)
    return request


def _check_names(given: Mapping[str, Any]) -> None:
    known = [field.name for field in fields(Request)]
    for name in given:
        if name in UNUSABLE:
            raise InputError(f"The argument {name!r} cannot be used with a causal Wan model: {UNUSABLE[name]}.")
        if name not in known:
            raise InputError(f"Unknown argument {name!r}.{guess(name, known)} Known: {', '.join(sorted(known))}.")


def _one_text(given: Mapping[str, Any], name: str) -> str | None:
    """A text, or a list of exactly one text, as in `WanPipeline`."""
    value = given.get(name)
    if isinstance(value, (list, tuple)):
        if len(value) != 1:
            raise InputError(f"`{name}` has {len(value)} entries, but one call makes one video. Call once per prompt.")
        value = value[0]
    if value is not None and not isinstance(value, str):
        raise InputError(f"`{name}` has to be a text (str), got {type(value).__name__}: {value!r}.")
    return value


def _check_types(values: Mapping[str, Any]) -> None:
    expected: dict[str, type | tuple[type, ...]] = {
        **dict.fromkeys(("height", "width", "num_frames", "max_sequence_length", "num_videos_per_prompt"), int),
        "guidance_scale": (int, float),
        "generator": torch.Generator,
        **dict.fromkeys(("prompt_embeds", "negative_prompt_embeds"), torch.Tensor),
    }
    for name, types in expected.items():
        value = values.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, types)):
            wanted = "a number" if isinstance(types, tuple) else f"of type {types.__name__}"
            raise InputError(f"`{name}` has to be {wanted}, got {type(value).__name__}: {value!r}.")


def _check_text(request: Request) -> None:
    if request.prompt is not None and request.prompt_embeds is not None:
        raise InputError("Pass either `prompt` or `prompt_embeds`, not both.")
    if request.prompt is None and request.prompt_embeds is None:
        raise InputError("No prompt: pass `prompt` (a text) or `prompt_embeds`.")
    if request.prompt is not None and not request.prompt.strip():
        raise InputError("`prompt` is empty: describe what the video should show.")
    if request.negative_prompt is not None and request.negative_prompt_embeds is not None:
        raise InputError("Pass either `negative_prompt` or `negative_prompt_embeds`, not both.")
    for name in ("prompt_embeds", "negative_prompt_embeds"):
        embeds = getattr(request, name)
        if embeds is not None and (embeds.ndim != 3 or len(embeds) != 1):
            raise InputError(f"`{name}` has to be [1, tokens, text_dim], got {list(embeds.shape)}.")


def _check_choices(request: Request) -> None:
    if request.num_videos_per_prompt != 1:
        raise InputError(
            f"`num_videos_per_prompt` has to be 1, got {request.num_videos_per_prompt}: call once per video, each with "
            "its own seed."
        )
    if request.output_type not in OUTPUT_TYPES:
        raise InputError(f"`output_type` has to be one of {', '.join(OUTPUT_TYPES)}, got {request.output_type!r}.")
    if request.max_sequence_length < 1:
        raise InputError(f"`max_sequence_length` has to be at least 1, got {request.max_sequence_length}.")


def check_size(request: Request, multiple: tuple[int, int]) -> None:
    """Height and width have to be positive multiples of the size of one token in pixels."""
    for name, step in zip(("height", "width"), multiple, strict=True):
        size = getattr(request, name)
        if size < step or size % step:
            low = max(step, size // step * step)
            raise InputError(
                f"`{name}` has to be a multiple of {step} for this model, got {size}. Nearest: {low} or {low + step}."
            )


def count_chunks(request: Request, chunk_frames: int, scale: int, limit: int) -> int:
    """How many chunks of `chunk_frames` latent frames the video has; a latent frame is `scale` frames, the first is 1.

    `limit` is the number of latent frames the model has positions for. Raises `InputError` for lengths that fall
    between chunks or beyond the limit.
    """
    step = chunk_frames * scale
    shortest = step - scale + 1
    chunks, rest = divmod(request.num_frames + scale - 1, step)
    if rest or chunks < 1:
        low = max(shortest, chunks * step - scale + 1)
        raise InputError(
            f"`num_frames` = {request.num_frames} does not fill whole chunks of {chunk_frames} latent frames. "
            f"Nearest: {low} or {low + step} (the first chunk has {shortest} frames, every other one {step})."
        )
    if chunks * chunk_frames > limit:
        longest = limit // chunk_frames * step - scale + 1
        raise InputError(
            f"`num_frames` = {request.num_frames} needs {chunks * chunk_frames} latent frames, but this model has "
            f"positions for {limit} (rope_max_seq_len). The longest video is {longest} frames."
        )
    return chunks


def check_prompt_length(request: Request, tokenizer: Any) -> None:
    """Raise `InputError` for a text that `WanPipeline` would truncate silently."""
    for name in ("prompt", "negative_prompt") if request.is_guided else ("prompt",):
        text = getattr(request, name)
        if text is None:
            continue
        tokens = len(tokenizer(prompt_clean(text)).input_ids)
        if tokens > request.max_sequence_length:
            raise InputError(
                f"`{name}` has {tokens} tokens, but `max_sequence_length` is {request.max_sequence_length}: the rest "
                "would be ignored. Shorten it, or raise `max_sequence_length` if the model was trained with more."
            )
