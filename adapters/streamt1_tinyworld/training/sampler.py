"""A compact causal sampler to evaluate the model during training: chunk by chunk, with a KV cache."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch import Tensor
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from streamt1_tinyworld.training.data import tokenize
from streamt1_tinyworld.training.dit import CHUNK, Denoiser, KeysValues, Layout, Text, block_forward, encode_text
from streamt1_tinyworld.training.rows import warp
from streamt1_tinyworld.training.vae import decode


@dataclass(frozen=True)
class Schedule:
    """Steps of the first and of later chunks, shift of the noise levels, chunks in the window (the current one too).

    euler: follow the flow from one level to the next, instead of predicting the clean chunk and adding fresh noise.
    """

    first: int = 16
    later: int = 4
    shift: float = 8.0
    window: int = 3
    sink: int = 1
    euler: bool = False


@dataclass(frozen=True)
class Model:
    """The parts of an exported pipeline, all on one device; the VAE decodes whole clips."""

    tokenizer: PreTrainedTokenizerFast
    text_encoder: UMT5EncoderModel
    transformer: WanTransformer3DModel
    vae: AutoencoderKLWan

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Standardised latents [N, 16, F, 8, 8] -> frames [N, T, 3, 64, 64] in 0..1."""
        config, device = self.vae.config, latents.device
        mean, std = (torch.tensor(values, device=device) for values in (config.latents_mean, config.latents_std))
        raw = latents * std.view(-1, 1, 1, 1) + mean.view(-1, 1, 1, 1)
        with torch.autocast(device.type, torch.bfloat16):
            return torch.cat([decode(self.vae, part) for part in torch.split(raw, 8)]).clamp(0, 1)


@dataclass(frozen=True)
class State:
    """N unfinished videos, immutable."""

    text: Text
    latents: Tensor  # [N, 16, F, 8, 8] standardised; F = 0 at the start
    memory: tuple[list[KeysValues], ...] = ()  # per chunk, per layer

    @property
    def chunks(self) -> int:
        """Number of committed chunks."""
        return len(self.memory)

    def rows(self, index: Tensor) -> State:
        """The state of some of the videos, which may repeat."""
        memory = tuple([(keys[index], values[index]) for keys, values in chunk] for chunk in self.memory)
        text = replace(self.text, states=self.text.states[index])
        return State(text, self.latents[index], memory)


class Sampler:
    """x0 prediction and re-noising, with cached keys that keep the absolute position of their chunk."""

    def __init__(self, model: Model, schedule: Schedule, seed: int) -> None:
        self.model, self.schedule = model, schedule
        self.device = model.transformer.device
        self.denoiser = Denoiser(model.transformer, block_forward)
        self.generator = torch.Generator(self.device).manual_seed(seed)

    @torch.no_grad()
    def start(self, prompts: list[str]) -> State:
        """The state without chunks."""
        tokens = tokenize(self.model.tokenizer, prompts).to(self.device)
        text = replace(encode_text(self.model.text_encoder, tokens), bias=None)
        return State(text, torch.zeros(len(prompts), 16, 0, 8, 8, device=self.device))

    @torch.no_grad()
    def propose(self, state: State) -> Tensor:
        """The next chunk of every video, [N, 16, 3, 8, 8]."""
        schedule, count = self.schedule, len(state.latents)
        steps = schedule.first if state.chunks == 0 else schedule.later
        sigmas = warp(torch.linspace(1, 0, steps + 1), schedule.shift).tolist()
        x = self._noise(count)
        for sigma, following in pairwise(sigmas):
            level = torch.full((count, CHUNK), sigma, device=self.device)
            velocity = self._run(state, x, level)[0]
            if self.schedule.euler or following == 0:
                x = x + (following - sigma) * velocity
            else:
                x = (1 - following) * (x - sigma * velocity) + following * self._noise(count)
        return x

    @torch.no_grad()
    def commit(self, state: State, chunk: Tensor) -> State:
        """Append a chunk: a clean pass computes the keys and values for later chunks."""
        level = torch.zeros(len(chunk), CHUNK, device=self.device)
        keys_values = self._run(state, chunk, level)[1]
        return replace(state, latents=torch.cat([state.latents, chunk], 2), memory=(*state.memory, keys_values))

    def _run(self, state: State, x: Tensor, level: Tensor) -> tuple[Tensor, list[KeysValues]]:
        positions = state.chunks * CHUNK + torch.arange(CHUNK, device=self.device)[None]
        output = self.denoiser(x, level, state.text, Layout(positions), self._context(state))
        return output.velocity, output.keys_values

    def _context(self, state: State) -> list[KeysValues] | None:
        recent = max(0, state.chunks - (self.schedule.window - 1))
        kept = [*state.memory[: min(self.schedule.sink, recent)], *state.memory[recent:]]
        if not kept:
            return None
        layers = zip(*kept, strict=True)
        return [(torch.cat([k for k, _ in layer], 2), torch.cat([v for _, v in layer], 2)) for layer in layers]

    def _noise(self, count: int) -> Tensor:
        return torch.randn(count, 16, CHUNK, 8, 8, generator=self.generator, device=self.device)

    def sample(self, prompts: list[str], chunks: int) -> Tensor:
        """Frames [N, 12 * chunks - 3, 3, 64, 64] in 0..1."""
        state = self.start(prompts)
        for _ in range(chunks):
            state = self.commit(state, self.propose(state))
        return self.model.decode(state.latents)
