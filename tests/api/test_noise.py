"""The noise of a chunk as one value."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from streamt1_plugins.api.adapter import HasDraws, History
from streamt1_plugins.api.noise import chunk_noise, draws_of, initial


def draw(history: History, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(1, 4, 3, 2, 2, generator=generator)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_a_session_with_one_draw_gets_one() -> None:
    session: Any = SimpleNamespace(draw=draw)
    noise = chunk_noise(session, History(), seeded())
    assert torch.equal(noise, draw(History(), seeded()))
    assert torch.equal(initial(noise), noise)
    assert draws_of(noise).shape == (1, 1, 4, 3, 2, 2)


@pytest.mark.parametrize("count", [1, 3])
def test_draws_come_in_order_from_one_generator(count: int) -> None:
    session: Any = SimpleNamespace(draw=draw, draws=lambda history: count, redraw=draw)
    assert isinstance(session, HasDraws)
    noise, generator = chunk_noise(session, History(), seeded()), seeded()
    assert noise.shape == (1, count, 4, 3, 2, 2)
    for index in range(count):
        assert torch.equal(noise[:, index], draw(History(), generator))
    assert torch.equal(initial(noise), draw(History(), seeded()))
    assert torch.equal(draws_of(noise), noise)
