"""The adapter `helios`: a dataclass whose fields are its options; `open` starts a session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from streamt1_plugins.api.adapter import MemoryPlan
from streamt1_plugins.errors import InputError, UnsupportedPipelineError
from streamt1_plugins.process.imports import deferred
from streamt1_seams import (
    PROPOSED,
    arguments,
    check_component,
    check_folder,
    given,
    refuse_step_cache,
    scene_texts,
    split_schedule,
)

if TYPE_CHECKING:
    import diffusers
    import torch

    from streamt1_helios import condition, session
else:  # reading the options of a recipe needs none of these
    diffusers, torch = deferred("diffusers"), deferred("torch")
    condition, session = deferred("streamt1_helios.condition"), deferred("streamt1_helios.session")

Positive = Annotated[int, Field(ge=1)]

ENCODED = "pass `image` or `video`; it is encoded once and shared by all candidates"

UNUSABLE = {
    "latents": PROPOSED,
    "image_latents": ENCODED,
    "fake_image_latents": ENCODED,
    "video_latents": ENCODED,
}


@dataclass(frozen=True, kw_only=True)
class HeliosAdapter:
    """One chunk per call of a stock Helios pipeline; without a search the result is the pipeline's own.

    height, width, num_frames, guidance_scale: where the call leaves them out; None leaves the pipeline's own default.
    num_inference_steps: likewise, for `HeliosPipeline`.
    pyramid_num_inference_steps_list, is_amplify_first_chunk: likewise, for `HeliosPyramidPipeline`.
    fps: frames per second in training.
    dtype: of the transformer and text encoder that `load` loads; the VAE stays in float32.
    """

    height: Positive | None = None
    width: Positive | None = None
    num_frames: Positive | None = None
    guidance_scale: Annotated[float, Field(ge=0)] | None = None
    num_inference_steps: Positive | None = None
    pyramid_num_inference_steps_list: tuple[Positive, ...] | None = None
    is_amplify_first_chunk: bool | None = None
    fps: Annotated[float, Field(gt=0)] = 24.0
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"

    def load(self, model: str) -> diffusers.DiffusionPipeline:
        """Load a diffusers folder or hub id. Raises what `from_pretrained` raises for a missing model."""
        check_folder(model)
        dtypes = {"default": getattr(torch, self.dtype), "vae": torch.float32}
        pipe: diffusers.DiffusionPipeline = diffusers.DiffusionPipeline.from_pretrained(model, dtype=dtypes)
        return pipe

    def open(self, pipe: Any, call: Mapping[str, Any], memory: MemoryPlan) -> session.HeliosSession:
        """A session for one call, with text, image or video encoded. `memory` is ignored: there is no KV cache.

        The model reads earlier latents instead, and the first frame is its built-in sink.

        Encoding an image or a video draws from the call's generator, as the pipeline does; candidates never do.
        Raises `UnsupportedPipelineError` for an unsupported pipeline and `InputError` for unusable arguments.
        """
        check_pipeline(pipe)
        call, scenes = split_schedule(call)
        values = arguments(pipe, call, UNUSABLE, self._defaults())
        _check_history(values)
        with torch.no_grad():
            texts = scene_texts(scenes, values, partial(_text, pipe))
            plan = session.Plan(values, scenes, texts, _condition(pipe, values), self.fps)
            return session.HeliosSession(pipe, plan)

    def own_call(self, pipe: Any, call: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments for the pipeline's own call, which makes the same video without a search."""
        check_kind(pipe)
        return {**given(self._defaults()), **call}

    def _defaults(self) -> dict[str, Any]:
        mine = ("fps", "dtype")
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in mine}


def check_pipeline(pipe: Any) -> None:
    """Raise `UnsupportedPipelineError` unless `pipe` is a Helios pipeline in a supported state."""
    check_kind(pipe)
    check_component(pipe, "vae", diffusers.AutoencoderKLWan)
    refuse_step_cache(pipe.transformer)


def check_kind(pipe: Any) -> None:
    """Raise `UnsupportedPipelineError` unless `pipe` is a Helios pipeline."""
    if not isinstance(pipe, (diffusers.HeliosPipeline, diffusers.HeliosPyramidPipeline)):
        raise UnsupportedPipelineError(
            "The adapter 'helios' drives diffusers' HeliosPipeline and HeliosPyramidPipeline, got "
            f"{type(pipe).__name__}."
        )


def _check_history(values: Mapping[str, Any]) -> None:
    if not values["keep_first_frame"]:
        raise InputError(
            "`keep_first_frame` = False fails in this version of diffusers (it splits one frame more than it keeps). "
            "Leave it on."
        )


def _text(pipe: Any, values: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Embeddings ``[1, tokens, text_dim]`` of the prompt and, with guidance, of the negative prompt."""
    prompt, negative = pipe.encode_prompt(
        prompt=values["prompt"],
        negative_prompt=values["negative_prompt"],
        do_classifier_free_guidance=values["guidance_scale"] > 1.0,
        prompt_embeds=values["prompt_embeds"],
        negative_prompt_embeds=values["negative_prompt_embeds"],
        max_sequence_length=values["max_sequence_length"],
        device=pipe._execution_device,
    )
    return prompt, negative


def _condition(pipe: Any, values: Mapping[str, Any]) -> condition.Condition:
    try:
        return condition.condition(pipe, values)
    except ValueError as error:  # images and videos the pipeline cannot use
        raise InputError(str(error)) from error
