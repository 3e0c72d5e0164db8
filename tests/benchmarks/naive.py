"""The obvious way to search with a KV cache, as a baseline: everything is copied, rotated and decoded again.

Re-created in-house from the description of what it does: a cache of unrotated keys in full-size buffers, copied per
candidate; every forward clones each layer's buffers, rotates all cached keys in float64 and attends; every
candidate pays the clean pass; the chunk and the whole window are decoded from an empty decoder.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn

from streamt1_wan.rope import Rope, Rotation
from streamt1_wan.schedule import flow_to_x0, renoise

if TYPE_CHECKING:
    from torch import Tensor

    from streamt1_wan.schedule import Schedule

CAPACITY, LOCAL = 24, 12  # latent frames: allocated, and used without appended sinks


@dataclass
class Layer:
    """One layer's full-size buffers ``[1, CAPACITY * tokens, heads, head_dim]``."""

    key: Tensor
    value: Tensor


def rotate64(x: Tensor, rotation: Rotation) -> Tensor:
    even, odd = x.double().reshape(*x.shape[:-1], -1, 2).unbind(-1)
    cos, sin = rotation.cos.double(), rotation.sin.double()
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2).type_as(x)


class NaiveProcessor:
    """Clones, writes, rotates everything, attends."""

    _attention_backend = None
    _parallel_config = None

    def __init__(self, state: NaiveSearch, layer: int) -> None:
        self.state, self.layer = state, layer

    def __call__(self, attn: Any, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        shape = (*hidden_states.shape[:2], attn.heads, -1)
        query = attn.norm_q(attn.to_q(hidden_states)).view(shape)
        key = attn.norm_k(attn.to_k(hidden_states)).view(shape)
        value = attn.to_v(hidden_states).view(shape)
        state, layer = self.state, self.state.cache[self.layer]
        layer.key, layer.value = layer.key.clone(), layer.value.clone()
        start, end = state.fill - key.shape[1], state.fill
        layer.key[:, start:end], layer.value[:, start:end] = key, value
        turned = rotate64(layer.key[:, :end], state.cached_rotation)
        query = rotate64(query, state.query_rotation)
        out = dispatch_attention_fn(query, turned, layer.value[:, :end]).flatten(2, 3).type_as(query)
        return attn.to_out[1](attn.to_out[0](out))


class NaiveSearch:
    """Best of N per chunk, one survivor, no rewards: the first candidate wins, since only cost matters here."""

    def __init__(self, pipe: Any, text: Tensor, rope: Rope, schedule: Schedule, shape: tuple[int, ...]) -> None:
        self.pipe, self.text, self.rope, self.schedule, self.shape = pipe, text, rope, schedule, shape
        self.tokens = shape[0] * rope.grid[0] * rope.grid[1]
        self.cache = [self._empty() for _ in pipe.transformer.blocks]
        self.latents: list[Tensor] = []
        self.held: list[Any] = []

    def install(self) -> None:
        self.saved = [block.attn1.processor for block in self.pipe.transformer.blocks]
        for index, block in enumerate(self.pipe.transformer.blocks):
            block.attn1.set_processor(NaiveProcessor(self, index))

    def close(self) -> None:
        for block, processor in zip(self.pipe.transformer.blocks, self.saved, strict=True):
            block.attn1.set_processor(processor)

    def _empty(self) -> Layer:
        config = self.pipe.transformer.config
        size = (1, CAPACITY * self.tokens // self.shape[0], config.num_attention_heads, config.attention_head_dim)
        return Layer(torch.zeros(size, device=self.text.device, dtype=self.text.dtype), self._zeros(size))

    def _zeros(self, size: tuple[int, ...]) -> Tensor:
        return torch.zeros(size, device=self.text.device, dtype=self.text.dtype)

    @torch.no_grad()
    def chunk(self, index: int, candidates: int, *, decode: bool) -> None:
        """One chunk: all candidates in full, the first one kept; the pruned caches live until the chunk ends."""
        parent = self.cache
        self.held = []
        for candidate in range(candidates):
            self.cache = copy.deepcopy(parent)
            latents = self._candidate(index, candidate)
            self.held.append((self.cache, latents))
            if decode:
                self._decode(latents)
                self._decode(torch.cat([*self.latents[-9:], latents], dim=2))
        self.cache, latents = self.held[0]
        self.latents.append(latents)

    def _candidate(self, index: int, candidate: int) -> Tensor:
        self._place(index)
        x = torch.randn((1, *self.shape), device=self.text.device, dtype=self.text.dtype).transpose(1, 2)
        last = len(self.schedule) - 1
        for step in range(last + 1):
            x = flow_to_x0(self._forward(x, self.schedule.timesteps[step]), x, self.schedule.sigmas[step])
            if step < last:
                x = renoise(x, torch.randn_like(x), self.schedule.sigmas[step + 1])
        self._forward(x, torch.zeros((), device=x.device))
        return x

    def _place(self, index: int) -> None:
        """Make room: past `LOCAL` frames the window rolls by one chunk."""
        frames = self.shape[0]
        first = index * frames
        if first + frames > LOCAL:
            for layer in self.cache:
                for buffer in (layer.key, layer.value):
                    buffer[:, self.tokens : -self.tokens] = buffer[:, 2 * self.tokens :].clone()
        self.fill = min(first + frames, LOCAL) * self.tokens // frames
        window = list(range(min(first + frames, LOCAL)))
        if first + frames > LOCAL:
            window = [*range(frames), *range(first + 2 * frames - LOCAL, first + frames)]
        parts = [self.rope.at(frame, 1) for frame in window]
        self.cached_rotation = Rotation(*(torch.cat(each, dim=1) for each in zip(*parts, strict=True)))
        self.query_rotation = self.rope.at(first, frames)

    def _forward(self, x: Tensor, timestep: Tensor) -> Tensor:
        out: Tensor = self.pipe.transformer(
            hidden_states=x, timestep=timestep.expand(1), encoder_hidden_states=self.text, return_dict=False
        )[0]
        return out

    def _decode(self, latents: Tensor) -> Tensor:
        out: Tensor = self.pipe.vae.decode(latents.to(self.pipe.vae.dtype), return_dict=False)[0]
        return out
