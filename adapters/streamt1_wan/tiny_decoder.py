"""A tiny streaming decoder for Wan 2.1's latents (the TAEHV family): cheap frames to judge candidates by.

The public weights `taew2_1` (22.6 MB, MIT license, github.com/madebyollin/taehv) decode four to fifty times faster than
the VAE. The decoder is a chain of plain convolutions; its only memory is the last input of each of nine blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LATENTS, SCALE = 16, 4
WIDTHS = (256, 128, 64, 64)
GROWTH = (1, 2, 2)  # how many frames each stage makes of one


def _conv(inputs: int, outputs: int, *, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)


class Clamp(nn.Module):
    """A soft limit on latents, within -3..3."""

    def forward(self, x: Tensor) -> Tensor:
        return 3 * torch.tanh(x / 3)


class Remember(nn.Module):
    """A residual block on a frame and the frame before it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(_conv(2 * width, width), nn.ReLU(), _conv(width, width), nn.ReLU(), _conv(width, width))

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        return F.relu(self.conv(torch.cat([x, before], 1)) + x)


class Grow(nn.Module):
    """Several frames of one: ``[N, C, h, w]`` to ``[N * growth, C, h, w]``, in order."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width * growth, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).reshape(-1, *x.shape[1:])


@dataclass(frozen=True, slots=True)
class TinyState:
    """The last input ``[1, C, h, w]`` of every block with a memory."""

    frames: tuple[Tensor, ...]


class TinyDecoder(nn.Module):
    """Frames of standardised latents, a latent frame at a time. The order of the layers is that of the public weights."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.Sequential(Clamp(), _conv(LATENTS, WIDTHS[0]), nn.ReLU(), *_stages(), nn.ReLU(), _conv(WIDTHS[-1], 3))

    @property
    def blocks(self) -> list[Remember]:
        """The blocks with a memory, in order."""
        return [layer for layer in self.decoder if isinstance(layer, Remember)]

    def forward(self, latents: Tensor, state: TinyState | None) -> tuple[Tensor, TinyState]:
        """Latents ``[1, 16, F, h, w]`` that follow `state` to frames ``[T, 3, 8h, 8w]`` in ``[0, 1]``, and the state behind.

        Without a state the video starts here, and its first latent frame makes one frame instead of four.
        """
        video, memory = [], list(state.frames) if state else None
        for latent in latents.unbind(2):  # one at a time: the memory it takes does not depend on the length
            memory = self._zeros(latent) if memory is None else memory
            video.append(self._step(latent, memory).float().clamp(0, 1))
        frames = torch.cat(video)
        return frames if state else frames[SCALE - 1 :], TinyState(tuple(memory or ()))

    def _zeros(self, latent: Tensor) -> list[Tensor]:
        rows, columns = latent.shape[-2:]
        return [
            latent.new_zeros(1, WIDTHS[stage], rows * 2**stage, columns * 2**stage) for stage in range(3) for _ in range(3)
        ]

    def _step(self, x: Tensor, memory: list[Tensor]) -> Tensor:
        """The frames of one latent frame; `memory` becomes that of the next."""
        place = 0
        for layer in self.decoder:
            if isinstance(layer, Remember):
                before, memory[place] = torch.cat([memory[place], x[:-1]]), x[-1:]
                x, place = layer(x, before), place + 1
            else:
                x = layer(x)
        return x


def _stages() -> Iterator[nn.Module]:
    for (width, following), growth in zip(pairwise(WIDTHS), GROWTH, strict=True):
        yield from (Remember(width) for _ in range(3))
        yield nn.Upsample(scale_factor=2)
        yield Grow(width, growth)
        yield _conv(width, following, bias=False)


def from_weights(tensors: Mapping[str, Tensor]) -> TinyDecoder:
    """The decoder with published weights; those of the encoder are ignored. Raises `RuntimeError` for another layout."""
    decoder = TinyDecoder()
    decoder.load_state_dict({name: value for name, value in tensors.items() if name.startswith("decoder.")})
    return decoder.eval().requires_grad_(False)
