"""The adapter `anyflow`: a dataclass whose fields are its options; `open` starts a session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
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
    refuse_context_parallelism,
    refuse_tiling,
    scene_texts,
    split_schedule,
    uncompiled,
)

if TYPE_CHECKING:
    import diffusers
    import torch

    from streamt1_anyflow import session
else:  # reading the options of a recipe needs none of these
    diffusers, torch, session = deferred("diffusers"), deferred("torch"), deferred("streamt1_anyflow.session")

Positive = Annotated[int, Field(ge=1)]

UNUSABLE = {
    "latents": PROPOSED,
    "use_kv_cache": "the search forks the cache; leave it on",
}


@dataclass(frozen=True, kw_only=True)
class AnyFlowAdapter:
    """Chunk by chunk through a stock `AnyFlowFARPipeline`; without a search the result is the pipeline's own.

    height, width, num_frames, num_inference_steps, guidance_scale: where the call leaves them out; None leaves the
        pipeline's own default (distilled checkpoints need few steps, for example 4).
    fps: frames per second in training.
    dtype: of the transformer and text encoder that `load` loads; the VAE stays in float32.
    """

    height: Positive | None = None
    width: Positive | None = None
    num_frames: Positive | None = None
    num_inference_steps: Positive | None = None
    guidance_scale: Annotated[float, Field(ge=0)] | None = None
    fps: Annotated[float, Field(gt=0)] = 16.0
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"

    def load(self, model: str) -> diffusers.AnyFlowFARPipeline:
        """Load a diffusers folder or hub id. Raises what `from_pretrained` raises for a missing model."""
        check_folder(model)
        dtypes = {"default": getattr(torch, self.dtype), "vae": torch.float32}
        pipe: diffusers.AnyFlowFARPipeline = diffusers.AnyFlowFARPipeline.from_pretrained(model, dtype=dtypes)
        return pipe

    def open(self, pipe: Any, call: Mapping[str, Any], memory: MemoryPlan) -> session.AnyFlowSession:
        """A session for one call, with the text and the video to continue encoded. `memory` is ignored: nothing leaves.

        Raises `UnsupportedPipelineError` for an unsupported pipeline and `InputError` for unusable arguments.
        """
        check_pipeline(pipe)
        call, scenes = split_schedule(call)
        values = arguments(pipe, call, UNUSABLE, self._defaults())
        partition = _partition(pipe, values)
        with torch.no_grad():
            context = _context(pipe, values)
            chunks = () if context is None else torch.split(context, _given(partition, context.shape[2]), dim=2)
            texts = scene_texts(scenes, values, partial(_text, pipe))
            plan = session.Plan(values, partition, scenes, texts, chunks, self.fps)
            return session.AnyFlowSession(pipe, plan)

    def own_call(self, pipe: Any, call: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments for the pipeline's own call, which makes the same video without a search."""
        check_kind(pipe)
        return {**given(self._defaults()), **call}

    def _defaults(self) -> dict[str, Any]:
        names = ("height", "width", "num_frames", "num_inference_steps", "guidance_scale")
        return {name: getattr(self, name) for name in names}


def check_pipeline(pipe: Any) -> None:
    """Raise `UnsupportedPipelineError` unless `pipe` is an AnyFlow-FAR pipeline in a supported state."""
    check_kind(pipe)
    check_component(pipe, "transformer", diffusers.AnyFlowFARTransformer3DModel)
    check_component(pipe, "vae", diffusers.AutoencoderKLWan)
    refuse_context_parallelism(pipe.transformer)
    refuse_tiling(pipe.vae)


def check_kind(pipe: Any) -> None:
    """Raise `UnsupportedPipelineError` unless `pipe` is an AnyFlow-FAR pipeline."""
    if not isinstance(pipe, diffusers.AnyFlowFARPipeline):
        raise UnsupportedPipelineError(
            f"The adapter 'anyflow' drives diffusers' AnyFlowFARPipeline, got {type(pipe).__name__}."
        )


def _partition(pipe: Any, values: Mapping[str, Any]) -> tuple[int, ...]:
    """Latent frames of every chunk. Raises `InputError` unless they add up to those of the video."""
    scale = pipe.vae_scale_factor_temporal
    chosen = values["chunk_partition"] or uncompiled(pipe.transformer).config.chunk_partition
    wanted = values["num_frames"] // scale + 1
    if min(chosen) < 1 or sum(chosen) != wanted:
        raise InputError(
            f"`chunk_partition` = {list(chosen)} has {sum(chosen)} latent frames, but `num_frames` = "
            f"{values['num_frames']} needs {wanted}. Pass `num_frames` = {(sum(chosen) - 1) * scale + 1}, or a "
            f"`chunk_partition` of positive numbers that add up to {wanted}."
        )
    return tuple(chosen)


def _text(pipe: Any, values: Mapping[str, Any]) -> tuple[torch.Tensor, ...]:
    """Text embeddings ``[1, tokens, text_dim]``: with guidance the negative prompt's, then the prompt's."""
    guided = values["guidance_scale"] > 1.0
    prompt, negative = pipe.encode_prompt(
        prompt=values["prompt"],
        negative_prompt=values["negative_prompt"],
        do_classifier_free_guidance=guided,
        prompt_embeds=values["prompt_embeds"],
        negative_prompt_embeds=values["negative_prompt_embeds"],
        max_sequence_length=values["max_sequence_length"],
        device=pipe._execution_device,
    )
    dtype = uncompiled(pipe.transformer).dtype
    return tuple(each.to(dtype) for each in ((negative, prompt) if guided else (prompt,)))


def _context(pipe: Any, values: Mapping[str, Any]) -> torch.Tensor | None:
    """The latents to continue, ``[1, C, F, h, w]`` in the transformer's dtype, or None for text to video."""
    latents = values["video_latents"]
    if values["video"] is not None:
        latents = pipe.encode_video(values["video"], height=values["height"], width=values["width"])
    if latents is None:
        return None
    transformer, scale = uncompiled(pipe.transformer), pipe.vae_scale_factor_spatial
    expected = [1, transformer.config.in_channels, values["height"] // scale, values["width"] // scale]
    if latents.ndim != 5 or [latents.shape[i] for i in (0, 2, 3, 4)] != expected:
        batch, channels, rows, columns = expected
        raise InputError(
            f"The video to continue has latents {list(latents.shape)}, expected "
            f"[{batch}, frames, {channels}, {rows}, {columns}] for this height and width."
        )
    context: torch.Tensor = latents.to(pipe._execution_device, transformer.dtype).transpose(1, 2)
    return context


def _given(partition: tuple[int, ...], frames: int) -> list[int]:
    """The chunks that the video to continue fills. Raises `InputError` where it ends inside a chunk."""
    ends = [0, *accumulate(partition)]
    if frames not in ends[:-1]:
        known = ", ".join(str(end) for end in ends[1:-1])
        raise InputError(
            f"The video to continue has {frames} latent frames, which does not end with a chunk before the last of "
            f"`chunk_partition` = {list(partition)}. Possible: {known}; a latent frame is 4 frames, the first is 1."
        )
    return list(partition[: ends.index(frames)])
