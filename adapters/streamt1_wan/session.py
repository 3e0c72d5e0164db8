"""One call of a causal Wan pipeline: draw, denoise, decode and commit chunk after chunk."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import torch
from diffusers.pipelines.wan.pipeline_output import WanPipelineOutput
from diffusers.utils.torch_utils import randn_tensor

from streamt1_plugins.api.adapter import Draft, History
from streamt1_plugins.api.noise import ONE_DRAW
from streamt1_plugins.api.routed_memory import remember
from streamt1_plugins.errors import InputError
from streamt1_seams import PROPOSED, appended, decode_chunk, empty_text, postprocessed, scene_index
from streamt1_wan import CAPABILITIES
from streamt1_wan.memory import Block, Memory, assembled, placed, with_room
from streamt1_wan.outline import outlined, with_scenes
from streamt1_wan.processor import Context, ContextAttention
from streamt1_wan.recall import recalled
from streamt1_wan.samplers import Point, Sampler
from streamt1_wan.schedule import TRAIN_TIMESTEPS, Schedule
from streamt1_wan.steps import Conditions, Steps, joined

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Generator, Tensor

    from streamt1_plugins.api.adapter import Decoded, MemoryPlan, Outline
    from streamt1_plugins.api.types import MemoryRoute
    from streamt1_wan.preview import Preview
    from streamt1_wan.request import Request
    from streamt1_wan.rope import Rope


@dataclass(frozen=True, slots=True)
class Plan:
    """The constants of a call: what all chunks share.

    `texts` has one tensor ``[conditions, tokens, text_dim]`` per scene: the prompt and, with guidance, the negative
    prompt. `schedules` has one entry per chunk, the last one repeats; `sampler` takes their steps. `noise_shape` is
    ``(F, C, h, w)``, the layout noise is drawn in. `context_timestep` (scalar tensor) labels the clean pass. `given`
    are the latents of the chunks the call continues. `relative`: positions count from the oldest block in the context.
    """

    request: Request
    memory: MemoryPlan
    texts: tuple[Tensor, ...]
    schedules: tuple[Schedule, ...]
    sampler: Sampler
    noise_shape: tuple[int, int, int, int]
    context_timestep: Tensor
    num_chunks: int
    fps: float
    given: tuple[Tensor, ...] = ()
    relative: bool = False

    @property
    def text(self) -> Tensor:
        """The texts of the first scene."""
        return self.texts[0]


class CausalWanSession:
    """Implements `streamt1_plugins.api.adapter.Session`, `HasDraft`, `HasPreview` and `CanPredict`, for a stock
    `WanPipeline` with causal weights.

    The transformer's self-attention is replaced during each forward pass and not longer, so a session that is never
    closed leaves no trace. `generate` and `decode` run the candidates they are given as one batch: given one at a time
    they are reproducible to the last bit whatever their number, together they are within float tolerance.

    A chunk takes its draws in the paper's order: the initial noise, then those of the sampler's steps. `forwards`
    counts every row of a batch: with guidance a candidate has two. An interrupted call skips every further step, as
    `WanPipeline` does. What a callback changes lasts: in a plain run for the rest of the video, in a search for the
    rest of the candidate's chunk.
    """

    capabilities = CAPABILITIES
    prediction_problem = None

    def __init__(self, pipe: Any, plan: Plan, rope: Rope, attention: ContextAttention, preview: Preview) -> None:
        self.num_chunks = plan.num_chunks
        self.fps = plan.fps
        self.prompt = plan.request.prompt or ""
        self.scenes = plan.request.schedule
        self.generator: Generator = plan.request.generator or torch.Generator().manual_seed(0)
        self.forwards = 0
        self._pipe = pipe
        self._plan = plan
        self._rope = rope
        self._attention: ContextAttention | None = attention
        self._preview = preview
        steps = [len(self._schedule(History(index))) for index in range(len(plan.given), plan.num_chunks)]
        self._steps = Steps(pipe, plan.request, steps[0], sum(steps))
        self._own, self._own_scene = self._conditions(0), 0
        self._assembled: tuple[Memory, Context] | None = None

    def root(self) -> History:
        """The empty history, or the given chunks: decoded, and committed with a clean pass each, at every call."""
        history = History(memory=Memory())
        for latents in self._plan.given:
            history = self.commit(history, latents, self.decode(history, latents)[0], "discard")
        return history

    def draw(self, history: History, generator: Generator) -> Tensor:
        """Standard normal noise ``[1, C, F, h, w]`` in the transformer's dtype, or the chunk's part of `latents`.

        Raises `InputError` for a candidate of a search where the call fixes the noise with `latents`.
        """
        given = self._plan.request.latents
        if given is None:
            return self.redraw(history, generator)
        if generator is not self.generator:
            raise InputError(f"The argument 'latents' cannot be used in a search: {PROPOSED}.")
        frames = self._plan.noise_shape[0]
        return given[:, :, history.index * frames : (history.index + 1) * frames].to(self._plan.text)

    def draws(self, history: History) -> int:
        """Draws of the next chunk: one per denoising step with the sampler `renoise`, otherwise one."""
        return self._plan.sampler.draws(self._schedule(history))

    def redraw(self, history: History, generator: Generator) -> Tensor:
        """Standard normal noise ``[1, C, F, h, w]`` in the transformer's dtype."""
        text = self._plan.text
        noise: Tensor = randn_tensor(self._plan.noise_shape, generator, text.device, text.dtype)
        return noise.transpose(0, 1).unsqueeze(0)

    @torch.no_grad()
    def generate(self, history: History, noise: Tensor, generators: Sequence[Generator]) -> Tensor:
        """Denoise N candidates to ``[N, C, F, h, w]``, from all draws or from the initial ones and generators."""
        plain = self._is_plain(generators)
        conditions = self._own_at(history.index) if plain else self._conditions(history.index)
        point = self._start(history, noise, generators)
        return self._denoise(history, point, conditions, plain=plain).latents

    def steps(self, history: History) -> int:
        """Denoising steps of the next chunk."""
        return len(self._schedule(history))

    @torch.no_grad()
    def draft(self, history: History, noise: Tensor, generators: Sequence[Generator], steps: int) -> list[Draft]:
        """The first `steps` of N candidates. The others need the point they are at and what callbacks changed."""
        conditions = self._conditions(history.index)
        point = self._denoise(history, self._start(history, noise, generators), conditions, until=steps)
        texts = torch.split(conditions.text.expand(len(noise), -1, -1, -1), 1)
        own = [Conditions(text, conditions.guidance_scale) for text in texts]
        return [Draft(each.estimate, (each, changed)) for each, changed in zip(point.split(), own, strict=True)]

    @torch.no_grad()
    def finish_drafts(self, history: History, drafts: Sequence[Draft], generators: Sequence[Generator]) -> Tensor:
        """The remaining steps of drafts with the same number of finished steps, ``[N, C, F, h, w]``."""
        points, conditions = zip(*(draft.state for draft in drafts), strict=True)
        if len({(each.text.shape, each.guidance_scale) for each in conditions}) > 1:
            pairs = zip(drafts, generators, strict=True)  # a callback has set them apart
            return torch.cat([self.finish_drafts(history, [draft], [generator]) for draft, generator in pairs])
        return self._denoise(history, Point.joined(points), joined(list(conditions))).latents

    @torch.no_grad()
    def decode(self, history: History, latents: Tensor) -> list[Decoded]:
        """Frames ``[T, 3, H, W]`` in ``[0, 1]`` and decoder state per candidate, continuing the history's decoder."""
        return decode_chunk(self._pipe.vae, latents, history.decoder)

    @property
    def preview_problem(self) -> str | None:
        """Why there is no preview decoder, with the file to download; None where there is one."""
        return self._preview.problem

    @torch.no_grad()
    def preview(self, latents: Tensor, state: Any) -> list[Decoded]:
        """Frames of the preview decoder per candidate, continuing its own state."""
        return self._preview(latents, state)

    @torch.no_grad()
    def predict(self, history: History, noisy: Tensor, sigma: float, *, prompted: bool = True) -> Tensor:
        """The flow of N noisy chunks ``[N, C, F, h, w]``, with the prompt of the chunk's scene or an empty one.

        The context is in both cases the one that was written with the prompts.
        """
        given = self._conditions(history.index).rows(1, guided=False) if prompted else self._empty_text
        text = given.expand(len(noisy), -1, -1)
        timestep = torch.tensor(sigma * TRAIN_TIMESTEPS, device=noisy.device)
        with self._reading(self._context(history), 1):
            return self._forward(noisy, timestep, text)

    @torch.no_grad()
    def commit(self, history: History, latents: Tensor, decoded: Decoded, route: MemoryRoute) -> History:
        """Append one survivor. A clean pass writes its context, except where no later chunk is denoised."""
        memory, plan = history.memory, self._plan.memory
        if history.index + 1 < self.num_chunks and not self._steps.interrupted:
            block = self._clean_pass(history, latents, route)
            memory = with_room(remember(memory, block, plan), plan, self._rope)
        return self._scene_changed(appended(history, latents, decoded, memory))

    def finish(self, history: History) -> Any:
        """`WanPipelineOutput`, or a tuple of one, from the frames that are decoded already."""
        request = self._plan.request
        if request.output_type == "latent":
            video: Any = torch.cat(history.latents, dim=2)
        else:
            video = postprocessed(self._pipe, torch.cat(history.frames), request.output_type)
        return WanPipelineOutput(frames=video) if request.return_dict else (video,)

    def outline(self) -> Outline:
        """The transformer forwards of this call, before anything is generated."""
        steps = [len(schedule) for schedule in self._plan.schedules]
        plan = self._plan
        found = outlined(steps, len(plan.text), self.num_chunks, plan.noise_shape[0])
        found = replace(found, previews=self._preview.exists)
        return with_scenes(found, self.scenes, plan.memory)

    def close(self) -> None:
        """Offload what was offloaded; a second call does nothing."""
        if self._attention is None:
            return
        self._attention = self._assembled = None
        self._steps.close()
        self._pipe.maybe_free_model_hooks()

    def _all_draws(self, history: History, noise: Tensor, generators: Sequence[Generator]) -> Tensor:
        """``[N, D, C, F, h, w]``; draws after the initial ones come from the generators where they are not given."""
        if noise.ndim > ONE_DRAW:
            return noise
        others = range(self.draws(history) - 1)
        drawn = [[self.redraw(history, generator) for _ in others] for generator in generators]
        return torch.stack([noise, *(torch.cat(each) for each in zip(*drawn, strict=True))], 1)

    def _start(self, history: History, noise: Tensor, generators: Sequence[Generator]) -> Point:
        """The candidates before their first step."""
        return self._plan.sampler.start(self._all_draws(history, noise, generators), self._schedule(history))

    def _denoise(
        self, history: History, point: Point, conditions: Conditions, *, until: int | None = None, plain: bool = False
    ) -> Point:
        """The candidates after their step number `until`, or after all steps, with latents in the noise's dtype."""
        context, schedule = self._context(history), self._schedule(history)
        self._steps.begin(conditions, len(schedule), plain=plain)
        for step in range(point.step, len(schedule) if until is None else until):
            if self._steps.stopped():
                break
            timestep = schedule.timesteps[step]
            self._steps.at(timestep)
            point = self._plan.sampler.advance(point, schedule, partial(self._flow, context, conditions))
            point = point.changed(self._steps.ended(step, timestep, point.latents, conditions))
            self._steps.advance(plain=plain)
        self._steps.at(None)
        return point if until else replace(point, latents=point.latents.to(self._plan.text.dtype))

    @cached_property
    def _empty_text(self) -> Tensor:
        """The embeddings of an empty prompt, ``[1, tokens, text_dim]``."""
        return empty_text(self._pipe, self._plan.text[:1], self._plan.request.max_sequence_length)

    def _is_plain(self, generators: Sequence[Generator]) -> bool:
        return len(generators) == 1 and generators[0] is self.generator

    def _scene(self, index: int) -> int:
        """Which scene a chunk belongs to."""
        return scene_index(self.scenes, index)

    def _conditions(self, index: int) -> Conditions:
        """What every candidate of a chunk begins with: the call's own guidance, and the texts of the chunk's scene."""
        text = self._plan.texts[self._scene(index)]
        return Conditions(text.unsqueeze(0), self._plan.request.guidance_scale)

    def _own_at(self, index: int) -> Conditions:
        """The conditions of the plain run, which keep what callbacks change; a new scene has texts of its own."""
        if self._scene(index) != self._own_scene:
            self._own.text, self._own_scene = self._conditions(index).text, self._scene(index)
        return self._own

    def _scene_changed(self, history: History) -> History:
        """The history as the next chunk finds it, which may be the first of a scene."""
        begins = [scene for scene in self.scenes if scene.chunk == history.index > 0]
        if not begins or begins[0].memory == "keep" or self._steps.interrupted:
            return history
        if begins[0].memory == "flush":
            return replace(history, memory=Memory())
        memory, first = history.memory, history.index - len(history.memory.window)
        again = replace(memory, window=())
        for index, block in enumerate(memory.window, first):
            before = History(index, memory=again)
            block = self._clean_pass(before, history.latents[index], block.route, scene_of=history.index)
            again = replace(again, window=(*again.window, block))
        return replace(history, memory=again)

    def _schedule(self, history: History) -> Schedule:
        """The steps of the next chunk; the last schedule repeats."""
        return self._plan.schedules[min(history.index, len(self._plan.schedules) - 1)]

    def _flow(self, context: Context, conditions: Conditions, noisy: Tensor, timestep: Tensor) -> Tensor:
        """The model's flow for ``[N, C, F, h, w]``, with guidance ``uncond + scale * (cond - uncond)``."""
        scale = conditions.guidance_scale
        guided = scale > 1.0
        if guided and len(self._plan.text) == 1:
            raise InputError(
                f"The guidance scale was set to {scale} during a call that began without guidance, so no negative "
                "prompt is there. Begin with `guidance_scale` above 1."
            )
        text = conditions.rows(len(noisy), guided)
        with self._reading(context, len(text) // len(noisy)):
            flow = self._forward(noisy, timestep, text)
        if not guided:
            return flow
        cond, uncond = flow[0::2], flow[1::2]
        return uncond + scale * (cond - uncond)

    def _clean_pass(
        self, history: History, latents: Tensor, route: MemoryRoute, *, scene_of: int | None = None
    ) -> Block:
        """Write the chunk's context: one forward pass on the clean latents, of which only keys and values are kept.

        Every condition has its context, whether guidance is on at the moment or not. `scene_of`: the chunk whose texts
        condition the pass, by default its own.
        """
        text = self._own_at(history.index if scene_of is None else scene_of).rows(1, guided=True)
        context = self._context(history)
        with self._reading(context, len(text), capture=True) as layers:
            self._forward(latents, self._plan.context_timestep, text)
            keys, values = zip(*[layer.captured for layer in layers if layer.captured is not None], strict=True)
        return Block(keys, values, start=context.start, frames=latents.shape[2], route=route)

    def _forward(self, latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        """One transformer pass, ``[rows, C, F, h, w]``; `text` has a row per condition of each candidate."""
        rows = latents.repeat_interleave(len(text) // len(latents), dim=0)
        self.forwards += len(rows)
        out: Tensor = self._pipe.transformer(
            hidden_states=rows.to(text.dtype),
            timestep=timestep.expand(len(rows)),
            encoder_hidden_states=text,
            attention_kwargs=self._plan.request.attention_kwargs,
            return_dict=False,
        )[0]
        return out

    def _reading(self, context: Context, conditions: int, *, capture: bool = False) -> Any:
        if self._attention is None:
            raise RuntimeError("This session is closed; open a new one with the adapter's `open`.")
        return self._attention.reading(context, conditions, capture=capture)

    def _context(self, history: History) -> Context:
        """The assembled context of a history. Only the last one is kept, because siblings come one after the other."""
        if self._assembled is None or self._assembled[0] is not history.memory:
            self._assembled = None  # free it before the next one is built
            frames = self._plan.noise_shape[0]
            blocks = recalled(history.memory, self._plan.memory, self._rope).blocks
            start = history.index * frames
            if self._plan.relative:
                blocks, start = placed(blocks, self._rope), sum(block.frames for block in blocks)
            rotation = self._rope.at(start, frames)
            past = assembled(blocks, rotation.cos.shape[1], self._plan.text.dtype)
            context = Context(past, rotation, start)
            self._assembled = (history.memory, context)
        return self._assembled[1]
