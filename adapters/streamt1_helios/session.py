"""One call of a Helios pipeline as one call per chunk, each with the latents of the past."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from diffusers import HeliosPyramidPipeline
from diffusers.pipelines.helios.pipeline_output import HeliosPipelineOutput

from streamt1_helios import PLAIN
from streamt1_plugins.api.adapter import Decoded, History
from streamt1_seams import (
    HostCallback,
    appended,
    denormalised,
    empty_text,
    postprocessed,
    remembered_from,
    scene_index,
    shadowed,
    uncompiled,
    unless_global,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Generator, Tensor

    from streamt1_helios.condition import Condition
    from streamt1_plugins.api.scenes import Scene
    from streamt1_plugins.api.types import MemoryRoute

# Between its stages it draws noise for all rows from the first generator it is given.
PYRAMID = replace(PLAIN, max_batch=1, stochastic_steps=True)

# What a call of the pipeline leaves on it, for the next steps and for hosts.
STATE = ("_guidance_scale", "_attention_kwargs", "_num_timesteps", "_current_timestep", "_interrupt")


@dataclass(frozen=True, slots=True)
class Plan:
    """The constants of a call: what all chunks share.

    `call` has every argument under the pipeline's name. `texts` has the embeddings of each scene, of which there is one
    without a schedule: the prompt's and, with guidance, the negative prompt's, ``[1, tokens, text_dim]``.
    """

    call: Mapping[str, Any]
    scenes: tuple[Scene, ...]
    texts: Sequence[tuple[Tensor, Tensor | None]]
    condition: Condition
    fps: float


class OneLevel:
    """Stands in for the pipeline's scheduler: one noise level, and a step that returns what the model predicts."""

    order = 1

    def __init__(self, scheduler: Any, sigma: float) -> None:
        self.config, self._sigma = scheduler.config, sigma

    def set_timesteps(self, *_: Any, device: torch.device, **__: Any) -> None:
        """Set the one timestep."""
        self.timesteps = torch.tensor([self._sigma * self.config.num_train_timesteps], device=device)

    def step(self, prediction: Tensor, *_: Any, **__: Any) -> tuple[Tensor]:
        """The prediction in the latents' place."""
        return (prediction.float(),)


class HeliosSession:
    """Implements `streamt1_plugins.api.adapter.Session`, `HasScenes` and `CanPredict` for the stock Helios pipelines.

    The pipeline's `__call__` runs unchanged, once per chunk and batch of candidates, with the past as `video_latents`;
    meanwhile its `prepare_latents` returns the candidates' noise, and its decoding and offloading are skipped. A
    history is its latents alone, in which no text is kept: where the prompt changes, `keep` and `recache` are the same,
    and after `flush` a chunk is called without latents of the past, like the first one. `forwards` counts every row of
    a batch.

    A host's `callback_on_step_end` is called for every batch of candidates; see `HostCallback` for what it changes.
    """

    def __init__(self, pipe: Any, plan: Plan) -> None:
        call = plan.call
        scale = pipe.vae_scale_factor_temporal
        self.capabilities = PYRAMID if isinstance(pipe, HeliosPyramidPipeline) else PLAIN
        self.fps = plan.fps
        self.prompt = call["prompt"] or ""
        self.scenes = plan.scenes
        self.generator: Generator = call["generator"]
        self.forwards = 0
        self._frames = call["num_latent_frames_per_chunk"]
        self._pixel_frames = (self._frames - 1) * scale + 1
        self.num_chunks = max(1, -(-call["num_frames"] // self._pixel_frames))
        self._pipe = pipe
        self._plan = plan
        self._host = HostCallback(call, plan.scenes)
        self._stopped = pipe._interrupt = False

    def root(self) -> History:
        """The empty history."""
        return History()

    def draw(self, history: History, generator: Generator) -> Tensor:
        """Standard normal noise ``[1, C, F, h, w]`` in float32."""
        call, channels = self._plan.call, self._pipe.transformer.config.in_channels
        noise: Tensor = self._pipe.prepare_latents(
            1,
            channels,
            call["height"],
            call["width"],
            self._pixel_frames,
            dtype=torch.float32,
            device=self._pipe._execution_device,
            generator=generator,
        )
        return noise

    @torch.no_grad()
    def generate(self, history: History, noise: Tensor, generators: Sequence[Generator]) -> Tensor:
        """Denoise N candidates, ``[N, C, F, h, w]`` to the same shape; a pyramid takes one and draws noise for it."""
        self._stopped = self._stopped or self._pipe._interrupt  # set between two chunks
        self._host.begin(history.index)
        call = {**self._plan.call, **self._arguments(history, len(noise))}
        call["generator"] = unless_global(generators[0])  # without one, a pyramid takes a third for its block noise
        if history.index > self._begun(history) and "is_amplify_first_chunk" in call:
            call["is_amplify_first_chunk"] = False
        waiting = {"prepare_latents": self._prepared(noise), "maybe_free_model_hooks": _nothing}
        with shadowed(self._pipe, waiting), shadowed(uncompiled(self._pipe.vae), {"decode": _undecoded}):
            latents: Tensor = self._pipe(**call)[0]
        self._stopped = self._pipe.interrupt
        self._host.end(history.index, self._pipe)
        return latents[:, :, -self._frames :]

    @property
    def prediction_problem(self) -> str | None:
        """Why the denoiser cannot be run on given latents; None where it can."""
        if self.capabilities is PLAIN:
            return None
        return "the stages of HeliosPyramidPipeline start from enlarged latents, not from noisy ones of a chunk"

    @torch.no_grad()
    def predict(self, history: History, noisy: Tensor, sigma: float, *, prompted: bool = True) -> Tensor:
        """The flow of N noisy chunks ``[N, C, F, h, w]``: the pipeline's own call, with a scheduler of one step."""
        pipe, call = self._pipe, {**self._plan.call, **self._arguments(history, len(noisy))}
        call |= {"guidance_scale": 1.0, "negative_prompt_embeds": None, "num_inference_steps": 1, "sigmas": None}
        call |= {"callback_on_step_end": None, "generator": None}
        if not prompted:
            call["prompt_embeds"] = self._empty_text.expand(len(noisy), -1, -1)
        own = {
            "prepare_latents": lambda *_, **__: noisy.float(),
            "scheduler": OneLevel(pipe.scheduler, sigma),
            "maybe_free_model_hooks": _nothing,
            **dict.fromkeys(STATE),
        }
        self.forwards += len(noisy)
        with shadowed(pipe, own), shadowed(uncompiled(pipe.vae), {"decode": _undecoded}):
            flow: Tensor = pipe(**call)[0]
        return flow[:, :, -self._frames :]

    @torch.no_grad()
    def decode(self, history: History, latents: Tensor) -> list[Decoded]:
        """Frames ``[T, 3, H, W]`` in ``[0, 1]`` per candidate. Chunks are decoded each alone, whatever came before."""
        parts = [self._decoded(chunk) for chunk in torch.split(latents, self._frames, dim=2)]
        return [Decoded(frames) for frames in torch.cat(parts, dim=1)]

    def commit(self, history: History, latents: Tensor, decoded: Decoded, route: MemoryRoute) -> History:
        """Append one survivor; there is no context to write."""
        return appended(history, latents, decoded)

    def finish(self, history: History) -> Any:
        """`HeliosPipelineOutput`, or a tuple of one. As in the pipeline, latents include what the video started from
        and the frames are cut to a multiple of the temporal scale, plus one.
        """
        call = self._plan.call
        if call["output_type"] == "latent":
            video: Any = torch.cat(self._past(history), dim=2)
        else:
            frames = torch.cat(history.frames)
            scale = self._pipe.vae_scale_factor_temporal
            video = postprocessed(self._pipe, frames[: (len(frames) - 1) // scale * scale + 1], call["output_type"])
        return HeliosPipelineOutput(frames=video) if call["return_dict"] else (video,)

    def close(self) -> None:
        """Offload components again. Every other change to the pipeline ends with the step that made it."""
        self._pipe.maybe_free_model_hooks()

    def _arguments(self, history: History, count: int) -> dict[str, Any]:
        """Arguments of one chunk's call that replace the host's, for `count` candidates of one past."""

        def rows(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.expand(count, *x.shape[1:])

        past, horizon = self._remembered(history), sum(self._plan.call["history_sizes"])
        prompt, negative = self._plan.texts[scene_index(self.scenes, history.index)]
        return {
            "prompt": None,
            "negative_prompt": None,
            "prompt_embeds": rows(self._host.embeddings("prompt_embeds", prompt)),
            "negative_prompt_embeds": rows(self._host.embeddings("negative_prompt_embeds", negative)),
            "num_frames": self._pixel_frames,
            "image": None,
            "image_latents": rows(self._prefix(history)),
            "add_noise_to_image_latents": False,
            "video": None,
            # The model reads nothing before the horizon, so every chunk costs the same.
            "video_latents": rows(torch.cat(past, dim=2)[:, :, -horizon:]) if past else None,
            "add_noise_to_video_latents": False,
            "is_skip_first_chunk": False,
            "output_type": "latent",
            "return_dict": False,
            **self._counted_steps(count),
        }

    def _prepared(self, noise: Tensor) -> Callable[..., Tensor]:
        """Replaces the pipeline's `prepare_latents`; keeps what a host changed for the rest of the video: each call of
        the pipeline would reset it.
        """

        def prepare_latents(*_: Any, **__: Any) -> Tensor:
            self._pipe._interrupt = self._stopped
            self._host.apply(self._pipe)
            return noise.clone()

        return prepare_latents

    @cached_property
    def _empty_text(self) -> Tensor:
        """The embeddings of an empty prompt, ``[1, tokens, text_dim]``."""
        return empty_text(self._pipe, self._plan.texts[0][0], self._plan.call["max_sequence_length"])

    def _past(self, history: History) -> tuple[Tensor, ...]:
        lead = self._plan.condition.lead
        return history.latents if lead is None else (lead, *history.latents)

    def _begun(self, history: History) -> int:
        """The chunk that counts as the first of the video for the next one."""
        return remembered_from(self.scenes, history.index)

    def _remembered(self, history: History) -> tuple[Tensor, ...]:
        """The part of the past that the next chunk reads."""
        begun = self._begun(history)
        return history.latents[begun:] if begun else self._past(history)

    def _prefix(self, history: History) -> Tensor | None:
        """The frame that every chunk reads: the image, or the first frame generated (of the second chunk, if the
        first one is to be skipped).
        """
        begun = self._begun(history)
        made, image = history.latents[begun:], None if begun else self._plan.condition.prefix
        if self._plan.call["is_skip_first_chunk"] and len(made) > 1:
            return made[1][:, :, :1]
        return made[0][:, :, :1] if image is None and made else image

    def _counted_steps(self, count: int) -> dict[str, Any]:
        """The host's callback, if there is one, behind ours that counts the forward passes."""

        def step_end(pipe: Any, step: int, timestep: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            self.forwards += count * (2 if pipe.do_classifier_free_guidance else 1)
            return self._host(pipe, step, timestep, tensors)

        names = self._host.names if self._host.callback else []
        return {"callback_on_step_end": step_end, "callback_on_step_end_tensor_inputs": names}

    def _decoded(self, chunk: Tensor) -> Tensor:
        """``[N, C, F, h, w]`` to ``[N, T, 3, H, W]``."""
        video: Tensor = self._pipe.vae.decode(denormalised(self._pipe.vae, chunk), return_dict=False)[0]
        return (video * 0.5 + 0.5).clamp(0, 1).transpose(1, 2)


def _nothing() -> None:
    """Replaces offloading between chunks."""


def _undecoded(latents: Tensor, **_: Any) -> tuple[Tensor]:
    """Replaces decoding inside the pipeline's call, because `decode` decodes candidates."""
    return (latents,)
