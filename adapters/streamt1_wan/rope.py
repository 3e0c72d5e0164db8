"""Rotary positions of a chunk inside the whole video (3-D RoPE of Wan: frame, row, column)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from torch import Tensor


class Rotation(NamedTuple):
    """Cosine and sine per token and channel pair, ``[1, tokens, 1, head_dim / 2]`` float32."""

    cos: Tensor
    sin: Tensor


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn the channel pairs of ``[B, tokens, heads, head_dim]``; computed in float32, returned in the dtype of `x`."""
    even, odd = x.reshape(*x.shape[:-1], -1, 2).unbind(-1)
    cos, sin = rotation
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2).type_as(x)


@dataclass(frozen=True)
class Rope:
    """Tables of the transformer's own RoPE on one device: `cos` and `sin` are ``[positions, head_dim / 2]``.

    `pairs` splits the channel pairs into frame, row and column parts; `grid` is (rows, columns) of tokens.
    """

    cos: Tensor
    sin: Tensor
    pairs: tuple[int, int, int]
    grid: tuple[int, int]

    @classmethod
    def of(cls, module: Any, grid: tuple[int, int], device: torch.device) -> Rope:
        """Read the tables of a `WanRotaryPosEmbed`, which stores every angle twice in a row."""
        cos, sin = module.freqs_cos[:, 0::2], module.freqs_sin[:, 1::2]
        return cls(cos.to(device), sin.to(device), (module.t_dim // 2, module.h_dim // 2, module.w_dim // 2), grid)

    def at(self, start: int, frames: int) -> Rotation:
        """Positions of `frames` latent frames that begin at the absolute latent frame `start`."""
        return Rotation(self._spread(self.cos, start, frames), self._spread(self.sin, start, frames))

    def by(self, frames: int) -> Rotation:
        """A shift in time alone by a signed number of latent frames: at(a) followed by by(d) equals at(a + d)."""
        pairs, at = self.pairs[0], abs(frames)
        cos, sin = torch.ones_like(self.cos[0]), torch.zeros_like(self.sin[0])
        cos[:pairs] = self.cos[at, :pairs]
        sin[:pairs] = self.sin[at, :pairs] * (1 if frames >= 0 else -1)
        return Rotation(cos.view(1, 1, 1, -1), sin.view(1, 1, 1, -1))

    def _spread(self, table: Tensor, start: int, frames: int) -> Tensor:
        rows, columns = self.grid
        time, vertical, horizontal = table.tensor_split((self.pairs[0], self.pairs[0] + self.pairs[1]), dim=1)
        parts = (
            time[start : start + frames].view(frames, 1, 1, -1),
            vertical[:rows].view(1, rows, 1, -1),
            horizontal[:columns].view(1, 1, columns, -1),
        )
        full = [part.expand(frames, rows, columns, -1) for part in parts]
        return torch.cat(full, dim=-1).reshape(1, frames * rows * columns, 1, -1)
