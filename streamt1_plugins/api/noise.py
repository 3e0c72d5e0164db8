"""The noise of a chunk as one value: one draw, or all the draws that its denoising steps take."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from streamt1_plugins.api.adapter import HasDraws
from streamt1_plugins.process.imports import deferred

if TYPE_CHECKING:
    import torch
    from torch import Generator, Tensor

    from streamt1_plugins.api.adapter import History, Session
    from streamt1_plugins.api.types import Draws
else:
    torch = deferred("torch")

ONE_DRAW = 5
"""Axes of noise that is a single draw, ``[N, C, F, h, w]``; more draws add an axis, ``[N, D, C, F, h, w]``."""


def chunk_noise(session: Session, history: History, generator: Generator) -> Tensor:
    """All noise of the next chunk, in the order in which the sampler takes it from one generator.

    ``[1, C, F, h, w]``, or ``[1, D, C, F, h, w]`` of a session with `HasDraws`.
    """
    first = session.draw(history, generator)
    if not isinstance(session, HasDraws):
        return first
    others = [session.redraw(history, generator) for _ in range(session.draws(history) - 1)]
    return torch.stack([first, *others], 1)


def draws_of(noise: Tensor) -> Tensor:
    """The draws of a chunk's noise, ``[N, D, C, F, h, w]``, the initial noise first."""
    return noise if noise.ndim > ONE_DRAW else noise.unsqueeze(1)


def initial(noise: Tensor) -> Tensor:
    """The initial noise, ``[N, C, F, h, w]``."""
    return draws_of(noise)[:, 0]


def varied(noise: Tensor, fresh: Tensor, strength: float, draws: Draws = "all") -> Tensor:
    """``z' = sqrt(1 - b^2) z + b eps`` with b the `strength`: 0 is `noise` itself, 1 is `fresh` noise.

    Keeps unit variance exactly when the two are independent. With `draws` the `initial` one, the later draws of the
    sampler are fresh ones.
    """
    old, new = draws_of(noise), draws_of(fresh)
    count = 1 if draws == "initial" else old.shape[1]
    mixed = math.sqrt(1 - strength**2) * old[:, :count] + strength * new[:, :count]
    return torch.cat([mixed, new[:, count:]], 1).view_as(fresh)
