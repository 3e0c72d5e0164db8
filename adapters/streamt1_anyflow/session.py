"""One call of an AnyFlow-FAR pipeline: its own loop, driven chunk by chunk from its own parts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from diffusers.pipelines.anyflow.pipeline_output import AnyFlowPipelineOutput

from streamt1_anyflow import CAPABILITIES
from streamt1_anyflow.spans import Span, cached_scene, joined, merged, reading
from streamt1_plugins.api.adapter import History
from streamt1_seams import (
    HostCallback,
    appended,
    decode_chunk,
    empty_text,
    postprocessed,
    remembered_from,
    scene_index,
    uncompiled,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Generator, Tensor

    from streamt1_plugins.api.adapter import Decoded
    from streamt1_plugins.api.scenes import Scene
    from streamt1_plugins.api.types import MemoryRoute


Cache: TypeAlias = "dict[int, dict[str, Tensor]]"
"""Per layer `full_cache` and `compressed_cache`, ``[2, conditions, heads, tokens, head_dim]``."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The constants of a call: what all chunks share.

    `call` has every argument under the pipeline's name. `partition` are the latent frames of the chunks. `texts` has an
    entry for each scene, of which there is one without a schedule: an embedding ``[1, tokens, dim]`` per condition,
    with guidance the negative prompt's and the prompt's, else the prompt's alone. `given` are the chunks of the video
    to continue, ``[1, C, F, h, w]`` each.
    """

    call: Mapping[str, Any]
    partition: tuple[int, ...]
    scenes: tuple[Scene, ...]
    texts: Sequence[tuple[Tensor, ...]]
    given: tuple[Tensor, ...]
    fps: float

    @property
    def text(self) -> tuple[Tensor, ...]:
        """The embeddings of the first scene."""
        return self.texts[0]


class AnyFlowSession:
    """Implements `streamt1_plugins.api.adapter.Session`, `HasScenes` and `CanPredict` for `AnyFlowFARPipeline`.

    The plain pipeline draws the noise of the whole video at once, so `draw` does the same with the session's own
    generator, and returns slices. `commit` computes the cache from all latents, as the pipeline does; a history owns
    its cache, which is never written to. The root holds the chunks of the video to continue. Where the prompt changes,
    chunks are cached with the text of their own scene (`keep`), all with the new one (`recache`), or not at all
    (`flush`): the next chunk is then the first of a video.

    A host's `callback_on_step_end` is called for every batch of candidates, see `HostCallback`; the pipeline reads
    embeddings that it replaces only for the cache. `forwards` counts every row of a batch.
    """

    capabilities = CAPABILITIES
    prediction_problem = None

    def __init__(self, pipe: Any, plan: Plan) -> None:
        self.num_chunks = len(plan.partition)
        self.fps = plan.fps
        self.prompt = plan.call["prompt"] or ""
        self.scenes = plan.scenes
        self.generator: Generator = plan.call["generator"]
        self.forwards = 0
        self._pipe = pipe
        self._plan = plan
        self._host = HostCallback(plan.call, plan.scenes)
        self._transformer = uncompiled(pipe.transformer)
        self._plain_noise: tuple[Tensor, ...] | None = None
        # What the pipeline's own call leaves: its parts, callbacks and hosts read these.
        pipe._interrupt = False
        pipe._num_timesteps = (self.num_chunks - len(plan.given)) * self._steps()
        self._host.apply(pipe)
        self._root = self._begun()
        self._before_noise = self.generator.get_state()

    def root(self) -> History:
        """The history before the first generated chunk: empty, or the video to continue."""
        return self._root

    def draw(self, history: History, generator: Generator) -> Tensor:
        """Standard normal noise ``[1, C, F, h, w]`` in the transformer's dtype.

        From the session's own generator it is a slice of the noise of the whole video.
        """
        if generator is not self.generator:
            return self._normal(self._plan.partition[history.index], generator)
        if self._plain_noise is None:
            if history.index > self._root.index:  # a resumed call, whose generator has drawn all of it before
                generator = torch.Generator(generator.device)
                generator.set_state(self._before_noise)
            noise = self._normal(sum(self._plan.partition), generator)
            self._plain_noise = torch.split(noise, list(self._plan.partition), dim=2)
        return self._plain_noise[history.index]

    @torch.no_grad()
    def generate(self, history: History, noise: Tensor, generators: Sequence[Generator]) -> Tensor:
        """Denoise N candidates, ``[N, C, F, h, w]`` to the same shape; the steps draw nothing."""
        cache = _rows(history.memory, len(noise))
        self._host.begin(history.index)
        self._host.apply(self._pipe)
        latents = self._denoised(noise.transpose(1, 2), cache, history.index)
        self._host.end(history.index, self._pipe)
        return latents.transpose(1, 2).to(noise.dtype)

    @torch.no_grad()
    def predict(self, history: History, noisy: Tensor, sigma: float, *, prompted: bool = True) -> Tensor:
        """The flow of N noisy chunks ``[N, C, F, h, w]`` at an instant: the mean velocity over no time."""
        text = self._text(history.index)[-1] if prompted else self._empty_text
        cache = _rows(_of_the_prompt(history.memory), len(noisy))
        steps = self._pipe.scheduler.config.num_train_timesteps
        instant = torch.tensor(sigma * steps, device=noisy.device)
        latents = noisy.transpose(1, 2).to(text.dtype)
        return self._velocity(latents, (instant, instant), cache, history.index, (text,)).transpose(1, 2)

    @torch.no_grad()
    def decode(self, history: History, latents: Tensor) -> list[Decoded]:
        """Frames ``[T, 3, H, W]`` in ``[0, 1]`` and decoder state per candidate, continuing the history's decoder."""
        return decode_chunk(self._pipe.vae, latents, history.decoder)

    @torch.no_grad()
    def commit(self, history: History, latents: Tensor, decoded: Decoded, route: MemoryRoute) -> History:
        """Append one survivor and compute the cache anew, except after the last chunk, where it is not read.

        The scene of the next chunk decides which chunks are in it, and with which texts.
        """
        memory = self._cache_of((*history.latents, latents)) if history.index + 1 < self.num_chunks else None
        return appended(history, latents, decoded, memory)

    def finish(self, history: History) -> Any:
        """`AnyFlowPipelineOutput`, or a tuple of one. As in the pipeline, the video it continues is part of it."""
        call = self._plan.call
        if call["output_type"] == "latent":
            video: Any = torch.cat(history.latents, dim=2)
        else:
            video = postprocessed(self._pipe, torch.cat(history.frames), call["output_type"])
        return AnyFlowPipelineOutput(frames=video) if call["return_dict"] else (video,)

    def close(self) -> None:
        """Offload components again. Every other change to the pipeline ends with the step that made it."""
        self._pipe.maybe_free_model_hooks()

    def _begun(self) -> History:
        """Empty, or the video to continue, whose frames and cache are computed here once."""
        given = self._plan.given
        frames, state = [], None
        for chunk in given:
            (decoded,) = decode_chunk(self._pipe.vae, chunk, state)
            frames.append(decoded.frames)
            state = decoded.state
        return History(len(given), given, tuple(frames), memory=self._cache_of(given), decoder=state)

    def _denoised(self, latents: Tensor, cache: Cache, index: int) -> Tensor:
        """The step loop of `AnyFlowFARPipeline.__call__`, on ``[N, F, C, h, w]``."""
        call, scheduler = self._plan.call, self._pipe.scheduler
        scheduler.set_timesteps(
            self._steps(), device=latents.device, sigmas=call["sigmas"], timesteps=call["timesteps"]
        )
        for step, start in enumerate(scheduler.timesteps):
            end = scheduler.sigmas[step + 1] * scheduler.config.num_train_timesteps
            if start != end:
                flow = self._flow(latents, (start, end), cache, index)
                latents = scheduler.step(flow, start, latents, return_dict=False)[0]
                latents = self._called_back(index, step, start, latents)
        return latents

    def _flow(self, latents: Tensor, span: tuple[Tensor, Tensor], cache: Cache, index: int) -> Tensor:
        """Mean velocity from one timestep to another, with guidance; the two conditions are halves of the batch."""
        start, end = span if self._plan.call["use_mean_velocity"] else (span[0], span[0])
        flow = self._velocity(latents, (start, end), cache, index, self._text(index))
        if len(self._plan.text) == 1:
            return flow
        uncond, cond = flow.chunk(2)
        scale: float = self._plan.call["guidance_scale"]
        return uncond + scale * (cond - uncond)

    def _velocity(
        self, latents: Tensor, span: tuple[Tensor, Tensor], cache: Cache, index: int, texts: tuple[Tensor, ...]
    ) -> Tensor:
        """One transformer pass, with a row per text of each candidate."""
        rows, begun = torch.cat([latents] * len(texts)), remembered_from(self.scenes, index)
        self.forwards += len(rows)
        flow: Tensor = self._pipe.transformer(
            hidden_states=rows,
            timestep=span[0].expand(rows.shape[:2]),
            r_timestep=span[1].expand(rows.shape[:2]),
            encoder_hidden_states=torch.cat([text.expand(len(latents), -1, -1) for text in texts]),
            attention_kwargs=self._plan.call["attention_kwargs"],
            return_dict=False,
            chunk_partition=list(self._plan.partition[begun : index + 1]),
            kv_cache=cache,
            kv_cache_flag={"num_cached_chunks": index - begun, "is_cache_step": False},
        )[0]
        return flow

    @cached_property
    def _empty_text(self) -> Tensor:
        """The embeddings of an empty prompt, ``[1, tokens, text_dim]``."""
        return empty_text(self._pipe, self._plan.text[-1], self._plan.call["max_sequence_length"])

    def _text(self, index: int) -> tuple[Tensor, ...]:
        """The embeddings of the scene that a chunk belongs to, per condition."""
        return self._plan.texts[scene_index(self.scenes, index)]

    def _called_back(self, index: int, step: int, timestep: Tensor, latents: Tensor) -> Tensor:
        scene = scene_index(self.scenes, index)
        offered = {"latents": latents, **self._texts(scene, scene)}
        tensors = {name: offered[name] for name in self._host.names} if self._host.callback else {}
        replaced: Tensor = self._host(self._pipe, step, timestep, tensors).get("latents", latents)
        return replaced

    def _texts(self, scene: int, current: int) -> dict[str, Tensor | None]:
        """The embeddings of a scene; those of the current one as the host's callback left them."""
        texts = self._plan.texts[scene]
        given = {"prompt_embeds": texts[-1], "negative_prompt_embeds": texts[0] if len(texts) > 1 else None}
        if scene != current:
            return given
        return {name: self._host.embeddings(name, each) for name, each in given.items()}

    def _cache_of(self, chunks: tuple[Tensor, ...]) -> Cache:
        """The cache for the chunk after these, by one forward pass over all that it remembers into new tensors."""
        begun = remembered_from(self.scenes, len(chunks))
        if begun == len(chunks):
            return self._empty_cache()
        self.forwards += len(self._plan.text)
        spans, last = self._spans(begun, len(chunks)), len(chunks) - begun - 1
        with reading(self._transformer, spans):
            cache: Cache = self._pipe.encode_kv_cache(
                self._empty_cache(),
                {"num_cached_chunks": last, "is_cache_step": False},
                chunk_partition=list(self._plan.partition[begun : len(chunks)]),
                chunk_idx=last,
                output=torch.cat(chunks[begun:], dim=2).transpose(1, 2),
                **joined(spans),
            )
        return cache

    def _spans(self, begun: int, count: int) -> list[Span]:
        """The tokens of the chunks from `begun` on, with the texts that they are cached with for chunk `count`."""
        config, current = self._transformer.config, scene_index(self.scenes, count - 1)
        coarse = count - config.full_chunk_limit + 1  # chunks before this one have larger patches
        spans = []
        for chunk in range(begun, count):
            patch = config.compressed_patch_size if chunk < coarse else config.patch_size
            texts = self._texts(cached_scene(self.scenes, chunk, count), current)
            spans.append(Span(self._plan.partition[chunk] * self._tokens(patch), texts))
        return merged(spans)

    def _empty_cache(self) -> Cache:
        """Zeros of the sizes `AnyFlowFARPipeline.__call__` allocates."""
        config, partition = self._transformer.config, self._plan.partition
        full = config.full_chunk_limit * max(partition) * self._tokens(config.patch_size)
        coarse = (len(partition) - config.full_chunk_limit + 1) * max(partition)
        sizes = {"full_cache": full, "compressed_cache": max(0, coarse) * self._tokens(config.compressed_patch_size)}
        lead, dim = (2, len(self._plan.text), config.num_attention_heads), config.attention_head_dim
        text = self._plan.text[-1]
        return {
            layer: {name: text.new_zeros((*lead, tokens, dim)) for name, tokens in sizes.items()}
            for layer in range(config.num_layers)
        }

    def _tokens(self, patch: Sequence[int]) -> int:
        """Tokens of one latent frame for patches of this size."""
        call, scale = self._plan.call, self._pipe.vae_scale_factor_spatial
        return int((call["height"] // scale // patch[1]) * (call["width"] // scale // patch[2]))

    def _normal(self, frames: int, generator: Generator) -> Tensor:
        call, text = self._plan.call, self._plan.text[-1]
        pixels = (frames - 1) * self._pipe.vae_scale_factor_temporal + 1
        channels = self._transformer.config.in_channels
        size = (1, channels, call["height"], call["width"], pixels)
        noise: Tensor = self._pipe.prepare_latents(*size, torch.float32, text.device, generator)
        return noise.to(text.dtype)

    def _steps(self) -> int:
        """Steps per chunk; a schedule that the caller passes has priority over `num_inference_steps`."""
        call = self._plan.call
        schedule = call["sigmas"] if call["sigmas"] is not None else call["timesteps"]
        return int(call["num_inference_steps"] if schedule is None else len(schedule))


def _of_the_prompt(cache: Cache) -> Cache:
    """The cache of the last condition, which is the prompt."""
    return {layer: {name: entry[:, -1:] for name, entry in parts.items()} for layer, parts in cache.items()}


def _rows(cache: Cache, count: int) -> Cache:
    """The cache for `count` candidates of every condition; a view where there is one condition."""
    if count == 1:
        return cache

    def spread(entry: Tensor) -> Tensor:
        return entry.expand(-1, count, -1, -1, -1) if entry.shape[1] == 1 else entry.repeat_interleave(count, dim=1)

    return {layer: {name: spread(entry) for name, entry in parts.items()} for layer, parts in cache.items()}
