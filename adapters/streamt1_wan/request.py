"""The arguments of a call, under the names of `WanPipeline.__call__`, checked before anything is computed."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np

from streamt1_plugins.api.scenes import Scene, scenes_of
from streamt1_plugins.errors import InputError, guess
from streamt1_plugins.process.imports import deferred
from streamt1_seams.arguments import OUTPUT_TYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import diffusers.callbacks as diffusers_callbacks
    import torch
    from torch import Generator, Tensor
else:  # lengths and sizes are checked without them
    torch, diffusers_callbacks = deferred("torch"), deferred("diffusers.callbacks")

UNUSABLE = {"guidance_scale_2": "it belongs to a second transformer, and causal models are made of one"}
"""Arguments of `WanPipeline` that it, too, refuses with one transformer, and why."""

WHOLE = ("height", "width", "num_frames", "max_sequence_length", "num_videos_per_prompt", "num_inference_steps")
TENSORS = ("prompt_embeds", "negative_prompt_embeds", "latents")
log = logging.getLogger("streamt1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One checked call. Sizes in pixels and pixel frames; embeddings ``[1, tokens, text_dim]``.

    `generator` is the plain pipeline's noise stream, None for a new one; it may live on the CPU while the model does
    not. `latents` is the
    initial noise of the whole video, for a run without a search. `num_inference_steps` counts a chunk's denoising
    steps; None takes the adapter's schedule. `image` or `video` is what the video begins with, see
    `streamt1_wan.given`; `num_frames` counts it too. `schedule`: the scenes, where the prompt changes.
    """

    height: int
    width: int
    num_frames: int
    max_sequence_length: int
    guidance_scale: float
    generator: Generator | None = None
    prompt: str | None = None
    negative_prompt: str | None = None
    prompt_embeds: Tensor | None = None
    negative_prompt_embeds: Tensor | None = None
    num_videos_per_prompt: int = 1
    num_inference_steps: int | None = None
    latents: Tensor | None = None
    image: Any = None
    video: Any = None
    attention_kwargs: Mapping[str, Any] | None = None
    schedule: tuple[Scene, ...] = ()
    callback_on_step_end: Callable[..., Any] | None = None
    callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",)
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
    if "schedule" in given:
        given["schedule"] = scenes_of(given["schedule"], given["prompt"])
        given["prompt"] = given["schedule"][0].prompt if given["schedule"] else given["prompt"]
    given |= {name: _only(given[name]) for name in ("generator", *TENSORS) if name in given}
    callback = given.get("callback_on_step_end")
    if callback is not None and _lists_tensors(callback):
        given["callback_on_step_end_tensor_inputs"] = callback.tensor_inputs
    if "negative_prompt_embeds" not in given and given["negative_prompt"] is None:
        given["negative_prompt"] = defaults["negative_prompt"]
    values = {**defaults, **given}
    _check_types(values)
    request = Request(**{name: _plain_number(value) for name, value in values.items()})
    _check_text(request)
    _check_choices(request)
    return request


def _lists_tensors(callback: Any) -> bool:
    """Whether a callback is one of diffusers' own, which have a list of the tensors that they read."""
    kinds = diffusers_callbacks.PipelineCallback, diffusers_callbacks.MultiPipelineCallbacks
    return isinstance(callback, kinds)


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


def _only(value: Any) -> Any:
    """The entry of a list of one, as hosts pass a generator per video; anything else as it is."""
    return value[0] if isinstance(value, (list, tuple)) and len(value) == 1 else value


def _plain_number(value: Any) -> Any:
    """A number of numpy's as Python's own; anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def _check_types(values: Mapping[str, Any]) -> None:
    for name in ("guidance_scale", *WHOLE, "generator", *TENSORS):
        value = values.get(name)
        if value is None:
            continue
        kind, wanted = _expected(name)
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, kind):
            raise InputError(f"`{name}` has to be {wanted}, got {type(value).__name__}: {value!r}.")
    callback = values.get("callback_on_step_end")
    if callback is not None and not callable(callback):
        raise InputError(f"`callback_on_step_end` has to be a function, got {type(callback).__name__}: {callback!r}.")


def _expected(name: str) -> tuple[type, str]:
    """The type of an argument, and how an error calls it."""
    if name in WHOLE:
        return Integral, "of type int"
    if name == "guidance_scale":
        return Real, "a number"
    return (torch.Generator, "of type Generator") if name == "generator" else (torch.Tensor, "of type Tensor")


def _check_text(request: Request) -> None:
    if request.prompt is not None and request.prompt_embeds is not None:
        raise InputError("Pass either `prompt` or `prompt_embeds`, not both.")
    if request.prompt is None and request.prompt_embeds is None:
        raise InputError("No prompt: pass `prompt` (a text) or `prompt_embeds`.")
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
    for name in ("max_sequence_length", "num_inference_steps"):
        value = getattr(request, name)
        if value is not None and value < 1:
            raise InputError(f"`{name}` has to be at least 1, got {value}.")
    if set(request.callback_on_step_end_tensor_inputs) != {"latents"}:
        _check_callback_tensors(request.callback_on_step_end_tensor_inputs)


def _check_callback_tensors(names: Sequence[str]) -> None:
    from diffusers import WanPipeline

    known = tuple(WanPipeline._callback_tensor_inputs)
    for name in sorted(set(names) - set(known)):
        raise InputError(
            f"`callback_on_step_end_tensor_inputs` has {name!r}, which is none of {', '.join(known)}."
            f"{guess(name, known)}"
        )


def per_scene(request: Request) -> list[Request]:
    """The request with the prompt of each scene; the request itself where there is no schedule."""
    later = [replace(request, prompt=scene.prompt, prompt_embeds=None) for scene in request.schedule[1:]]
    return [request, *later]


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


def check_noise(request: Request, shape: tuple[int, ...]) -> None:
    """Raise `InputError` where `latents` are not the noise of the whole video, ``[1, C, T, h, w]``."""
    if request.latents is not None and request.latents.shape != shape:
        found = list(request.latents.shape)
        raise InputError(f"`latents` is the noise of the whole video, {list(shape)} for this call, got {found}.")


def warn_of_truncation(request: Request, tokenizer: Any) -> None:
    """Log a warning for a text that `WanPipeline` truncates silently."""
    for name in ("prompt", "negative_prompt") if request.is_guided else ("prompt",):
        text = getattr(request, name)
        if text is None:
            continue
        from diffusers.pipelines.wan.pipeline_wan import prompt_clean

        tokens = len(tokenizer(prompt_clean(text)).input_ids)
        if tokens > request.max_sequence_length:
            log.warning(
                f"`{name}` has {tokens} tokens, but `max_sequence_length` is {request.max_sequence_length}: the rest "
                "is ignored. Shorten it, or raise `max_sequence_length` if the model was trained with more."
            )
