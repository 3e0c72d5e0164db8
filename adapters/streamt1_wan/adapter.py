"""The adapter `wan`: a dataclass whose fields are its options; `open` starts a session."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from streamt1_plugins.api.adapter import MemoryPlan
from streamt1_plugins.api.scenes import check_scenes
from streamt1_plugins.errors import InputError, RecipeError
from streamt1_plugins.process.imports import deferred
from streamt1_seams import check_finite, check_folder, check_text_encoder, check_variant, explain_missing, uncompiled
from streamt1_wan.footprint import Call, folder_of, footprint
from streamt1_wan.keys import LORA_FILE
from streamt1_wan.limits import limits_of
from streamt1_wan.outline import outlined, with_scenes
from streamt1_wan.preview import NAMES, Preview, file_of, state_elements
from streamt1_wan.request import Request, check_noise, check_size, count_chunks, parse, per_scene, warn_of_truncation

if TYPE_CHECKING:
    from collections.abc import Sequence

    import diffusers
    import torch

    from streamt1_plugins.api.adapter import Footprint, Outline
    from streamt1_plugins.api.scenes import Scene
    from streamt1_wan import given, processor, rope, samplers, schedule, session, support, tiny_decoder
    from streamt1_wan import memory as memory_checks
else:  # reading the options of a recipe needs none of these
    diffusers, torch = deferred("diffusers"), deferred("torch")
    given, processor, rope = (deferred(f"streamt1_wan.{name}") for name in ("given", "processor", "rope"))
    schedule, session, support = (deferred(f"streamt1_wan.{name}") for name in ("schedule", "session", "support"))
    samplers, memory_checks = deferred("streamt1_wan.samplers"), deferred("streamt1_wan.memory")
    tiny_decoder = deferred("streamt1_wan.tiny_decoder")

Positive = Annotated[int, Field(ge=1)]
Timestep = Annotated[int, Field(ge=1, le=1000)]
SCHEDULER_STEPS = (50,)  # of a call of `WanPipeline` that leaves them out
LATENT_FRAME = 4  # frames that Wan's VAE makes of one latent frame
CONVERT = "`streamt1 convert` makes one of a causal Wan checkpoint."
MISSING = (
    "Of a checkpoint of a causal Wan model it is made by: streamt1 convert CHECKPOINT --base "
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers --out {}. `streamt1 recipes show NAME` has the whole command and where to get "
    "the weights."
)
Dtype = Literal["float32", "bfloat16", "float16"]
SHORT = 5e11
"""Weights of the transformer times the pixels of a chunk's latent frames: a forward pass of about 4 GFLOP."""

ITEMSIZES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of a number, by dtype."""


@dataclass(frozen=True, kw_only=True)
class CausalWanAdapter:
    """Chunk-wise sampling of a causal Wan text-to-video model through the stock `WanPipeline` classes.

    chunk_frames: latent frames generated together (paper: 3). sampler: `renoise` predicts the clean chunk and adds
    fresh noise in every step, as distilled models are trained (paper); `euler` follows the model's flow, so that a
    chunk follows from its initial noise; `scheduler` takes the steps of `pipe.scheduler`, as `WanPipeline` does, for
    causal models that are not distilled (20-50 `steps` and guidance). timesteps: the training timesteps of a distilled
    model, noisiest first (paper: 1000 750 500 250). warp: whether `timesteps` are positions in the training table,
    which the shift moves (1000 750 500 250 with shift 5 is 1000 938 833 625), or the labels themselves, as CausVid
    lists them. steps: instead of `timesteps`, the number of uniform steps per chunk; the last entry repeats ([16, 4]
    takes 16 steps for the first chunk and 4 for every other one); `scheduler` takes 50 where it is left out. shift: of
    the noise levels towards noise (paper: 5). context_noise: the timestep the clean pass is labelled with, 0..1000; no
    noise is added (paper: 0). height, width, num_frames: in pixels and frames, where the call leaves them out.
    guidance_scale, negative_prompt: likewise; distilled models take 1, which means no guidance. max_sequence_length:
    tokens the text is padded to. fps: frames per second in training.
    positions: `relative` counts the positions of a chunk from the oldest one in its context, so that a video may be of
    any length; the keys of remembered chunks are turned to match. `absolute` counts from the start, as models are
    trained. rms_norm: `official` rounds in the order of the original Wan code, inside self-attention only.
    shared_prefix: candidates denoised together read one copy of the context: less memory, equal within rounding, not
    necessarily faster; uses PyTorch's own attention kernels whatever backend is set. dtype, vae_dtype: of the
    transformer and text encoder, and of the VAE, that `load` loads; float32 doubles the memory of the decoder.
    preview: the file with the weights of the preview decoder; left out, `taew2_1.safetensors` in the model's folder.
    variant: of the model's weight files, where a folder has several (`fp16`, as in diffusers).
    """

    chunk_frames: Positive = 3
    sampler: Literal["renoise", "euler", "scheduler"] = "renoise"
    timesteps: Annotated[tuple[Timestep, ...], Field(min_length=1)] = (1000, 750, 500, 250)
    warp: bool = True
    steps: Annotated[tuple[Timestep, ...], Field(min_length=1)] | None = None
    shift: Annotated[float, Field(gt=0)] = 5.0
    context_noise: Annotated[int, Field(ge=0, le=1000)] = 0
    height: Positive = 480
    width: Positive = 832
    num_frames: Positive = 81
    guidance_scale: Annotated[float, Field(ge=0)] = 1.0
    negative_prompt: str = field(default="", metadata={"acts": "text"})
    max_sequence_length: Positive = 512
    fps: Annotated[float, Field(gt=0)] = 16.0
    positions: Literal["absolute", "relative"] = "absolute"
    rms_norm: Literal["stock", "official"] = "stock"
    shared_prefix: bool = False
    dtype: Dtype = "bfloat16"
    vae_dtype: Dtype = "float32"
    preview: str | None = None
    variant: Annotated[str, Field(pattern=r"^\w+$")] | None = field(default=None, metadata={"acts": "text"})

    def __post_init__(self) -> None:
        if any(low >= high for high, low in zip(self.timesteps, self.timesteps[1:], strict=False)):
            raise RecipeError(f"The adapter option `timesteps` has to fall from noisy to clean, got {self.timesteps}.")
        if self.sampler == "scheduler":
            self._check_scheduled()

    def _check_scheduled(self) -> None:
        """Raise `RecipeError` for options of a schedule, which the pipeline's scheduler replaces."""
        defaults = {each.name: each.default for each in fields(self)}
        for name in ("timesteps", "warp", "shift"):
            if getattr(self, name) != defaults[name]:
                raise RecipeError(
                    f"The adapter option `{name}` has no effect with `sampler: scheduler`, which takes its noise "
                    f"levels from `pipe.scheduler`. Leave `{name}` out, or choose `sampler: euler`."
                )

    def load(self, model: str) -> diffusers.WanPipeline:
        """Load a diffusers folder or hub id, with the LoRA that `streamt1 convert --unmerged` leaves in a folder.

        Raises `InputError` or `UnsupportedPipelineError` for a folder that is no such model, whose weights are not
        there, or are NaN.
        """
        check_folder(model, "WanTransformer3DModel", remedy=CONVERT)
        if self.variant is not None:
            check_variant(model, self.variant)
        dtypes = {"default": getattr(torch, self.dtype), "vae": getattr(torch, self.vae_dtype)}
        with explain_missing(model, MISSING.format(model)):
            pipe: diffusers.WanPipeline = diffusers.WanPipeline.from_pretrained(
                model, dtype=dtypes, variant=self.variant
            )
        if (Path(model) / LORA_FILE).is_file():
            pipe.load_lora_weights(model)
        for component in ("transformer", "vae"):
            check_finite(getattr(pipe, component), f"The {component} of {model}")
        return pipe

    def open(self, pipe: Any, call: Mapping[str, Any], memory: MemoryPlan) -> session.CausalWanSession:
        """A session for one call, with the text encoded.

        Raises `UnsupportedPipelineError` for an unsupported pipeline and `InputError` for unusable arguments.
        """
        support.check_pipeline(pipe)
        request = parse(call, self._defaults())
        chunks = self._chunks(pipe, request)
        frames = given.given_frames(request, self.chunk_frames, pipe.vae_scale_factor_temporal)
        transformer = uncompiled(pipe.transformer)
        scale, patch = pipe.vae_scale_factor_spatial, transformer.config.patch_size
        rows, columns = request.height // scale, request.width // scale
        check_noise(request, (1, transformer.config.in_channels, chunks * self.chunk_frames, rows, columns))
        check_scenes(request.schedule, chunks)
        with torch.no_grad():
            texts = tuple(encode_text(pipe, each) for each in per_scene(request))
        plan = session.Plan(
            request=request,
            memory=memory,
            texts=texts,
            schedules=self._schedules(pipe, texts[0].device, request.num_inference_steps),
            sampler=samplers.sampler_of(self.sampler, pipe),
            noise_shape=(self.chunk_frames, transformer.config.in_channels, rows, columns),
            context_timestep=torch.tensor(self.context_noise, device=texts[0].device),
            num_chunks=chunks,
            given=() if frames is None else self._encoded(pipe, frames, texts[0]),
            fps=self.fps,
            relative=self.positions == "relative",
        )
        if self.positions == "relative":
            memory_checks.check_positions(memory, chunks, self.chunk_frames, transformer.config.rope_max_seq_len)
        options = processor.AttentionOptions(self.rms_norm, self.shared_prefix)
        table = rope.Rope.of(transformer.rope, (rows // patch[1], columns // patch[2]), texts[0].device)
        attention = processor.ContextAttention(transformer, options)
        return session.CausalWanSession(pipe, plan, table, attention, self._preview(pipe.name_or_path, pipe))

    def outline(self, num_frames: int | None = None) -> Outline:
        """Transformer forwards of a call with Wan's VAE (four frames per latent frame); nothing is loaded.

        Raises `InputError` for a length that falls between chunks.
        """
        request = parse({"prompt": "any", "num_frames": num_frames}, self._defaults())
        chunks = count_chunks(request, self.chunk_frames, LATENT_FRAME, sys.maxsize)
        steps = self._counts(None) or (len(self.timesteps),)
        found = outlined(steps, 2 if request.is_guided else 1, chunks, self.chunk_frames)
        return replace(found, previews=self._preview(None).exists)

    def with_scenes(self, outline: Outline, scenes: Sequence[Scene], memory: MemoryPlan) -> Outline:
        """The forwards of a call whose prompt changes: `recache` commits the window again."""
        return with_scenes(outline, scenes, memory)

    def check(self, model: str, call: Mapping[str, Any]) -> None:
        """Raise `InputError` for a call that the model cannot make, as far as its configurations show."""
        request = parse(call if "prompt" in call else {**call, "prompt": "any"}, self._defaults())
        limits = limits_of(model)
        if limits is None:
            chunks = count_chunks(request, self.chunk_frames, LATENT_FRAME, sys.maxsize)
        else:
            check_size(request, limits.token_size)
            limit = self._limit(limits.latent_frames)
            chunks = count_chunks(request, self.chunk_frames, limits.latent_frame, limit)
        check_scenes(request.schedule, chunks)

    def footprint(self, model: str, memory: MemoryPlan, num_frames: int | None = None) -> Footprint | None:
        """Memory of a call, with the dtypes of `load`; None where the model is not on this machine.

        Raises `InputError` for a length that falls between chunks.
        """
        request = parse({"prompt": "any", "num_frames": num_frames}, self._defaults())
        chunks = count_chunks(request, self.chunk_frames, LATENT_FRAME, sys.maxsize)
        itemsizes = (ITEMSIZES[self.dtype], ITEMSIZES[self.vae_dtype])
        frames, size = self.chunk_frames, (request.height, request.width)
        found = footprint(model, Call(chunks, frames, size, 2 if request.is_guided else 1, itemsizes), memory)
        if found is None or not self._preview(str(folder_of(model))).exists:
            return found
        return replace(found, preview=self._preview_state(size))

    def threads(self, pipe: Any, call: Mapping[str, Any]) -> int | None:
        """One where a forward pass is so short that threads wait for each other longer than they work."""
        numbers = sum(parameter.numel() for parameter in uncompiled(pipe.transformer).parameters())
        pixels = (call.get("height") or self.height) * (call.get("width") or self.width)
        return 1 if numbers * self.chunk_frames * pixels < SHORT else None

    def _encoded(self, pipe: Any, frames: torch.Tensor, text: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The given frames as chunks of latents."""
        with torch.no_grad():
            latents = given.encode(uncompiled(pipe.vae), frames, text.dtype).to(text.device)
        return tuple(chunk.contiguous() for chunk in torch.split(latents, self.chunk_frames, dim=2))

    def _preview(self, folder: str | None, pipe: Any = None) -> Preview:
        """The preview decoder for a model in a folder, which `pipe` was loaded from."""
        file = file_of(self.preview, folder, NAMES)
        return Preview(lambda: tiny_decoder.load_taehv(pipe, file), file)

    def _preview_state(self, size: tuple[int, int]) -> int:
        """Bytes of the preview decoder's state, in float32."""
        rows, columns = (side // 8 for side in size)
        return state_elements(rows, columns) * ITEMSIZES["float32"]

    def _defaults(self) -> dict[str, Any]:
        names = ("height", "width", "num_frames", "guidance_scale", "negative_prompt", "max_sequence_length")
        return {name: getattr(self, name) for name in names}

    def _chunks(self, pipe: Any, request: Request) -> int:
        config = uncompiled(pipe.transformer).config
        scale = pipe.vae_scale_factor_spatial
        check_size(request, (scale * config.patch_size[1], scale * config.patch_size[2]))
        return count_chunks(
            request, self.chunk_frames, pipe.vae_scale_factor_temporal, self._limit(config.rope_max_seq_len)
        )

    def _limit(self, positions: int) -> int:
        """Latent frames of the longest video, of a model with that many positions."""
        return positions if self.positions == "absolute" else sys.maxsize

    def _counts(self, steps: int | None) -> tuple[int, ...] | None:
        """Uniform steps per chunk, the last entry repeats; None for the list of timesteps. `steps` are of the call."""
        if steps is not None:
            listed_too = self.sampler != "scheduler" and self.steps is None and steps == len(self.timesteps)
            return None if listed_too else (steps,)
        return self.steps or (SCHEDULER_STEPS if self.sampler == "scheduler" else None)

    def _schedules(self, pipe: Any, device: torch.device, steps: int | None) -> tuple[schedule.Schedule, ...]:
        """The schedules of chunks; the last one repeats."""
        counts = self._counts(steps)
        if counts is None:
            found = [schedule.listed(self.timesteps, self.shift, warp=self.warp)]
        elif self.sampler == "scheduler":
            samplers.check_scheduler(pipe.scheduler)
            found = [samplers.prepared(pipe.scheduler, count, device)[1] for count in counts]
        else:
            found = [schedule.uniform(count, self.shift) for count in counts]
        return tuple(schedule.Schedule(each.timesteps.to(device), each.sigmas.to(device)) for each in found)


def encode_text(pipe: Any, request: Request) -> torch.Tensor:
    """Text embeddings ``[conditions, tokens, text_dim]``: the prompt and, with guidance, the negative prompt."""
    needs_encoder = request.prompt_embeds is None or (request.is_guided and request.negative_prompt_embeds is None)
    if needs_encoder:
        check_text_encoder(pipe)
        warn_of_truncation(request, pipe.tokenizer)
    device = pipe._execution_device
    prompt, negative = pipe.encode_prompt(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        do_classifier_free_guidance=request.is_guided,
        prompt_embeds=request.prompt_embeds,
        negative_prompt_embeds=request.negative_prompt_embeds,
        max_sequence_length=request.max_sequence_length,
        device=device,
    )
    conditions = [prompt, negative] if request.is_guided else [prompt]
    if len({tuple(each.shape) for each in conditions}) > 1:
        raise InputError(
            f"`prompt_embeds` {list(prompt.shape)} and `negative_prompt_embeds` {list(negative.shape)} have to have "
            "the same shape."
        )
    return torch.cat([each.to(device, uncompiled(pipe.transformer).dtype) for each in conditions])
