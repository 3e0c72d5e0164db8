"""Chunks are handed out once all beams agree on them."""

from __future__ import annotations

import torch

import streamt1_plugins as streamt1
from streamt1_plugins.search.streaming import chunks, shared


def beam(*ordinals: int, given: int = 0) -> streamt1.Beam:
    count = given + len(ordinals)
    frames = tuple(torch.full((1, 3, 2, 2), float(index)) for index in range(count))
    nodes = tuple(
        streamt1.Node(chunk=given + place, ordinal=ordinal, parent=None, seed=0)
        for place, ordinal in enumerate(ordinals)
    )
    return streamt1.Beam(streamt1.History(count, frames, frames), nodes)


def test_shared_chunks_are_those_before_the_first_difference() -> None:
    assert shared([beam(0, 1, 2)]) == 3
    assert shared([beam(0, 1, 2), beam(0, 3, 2)]) == 1
    assert shared([beam(1), beam(0)]) == 0
    assert shared([beam(1, 0, given=2), beam(1, 1, given=2)]) == 3, "chunks that the call continues count"


def test_chunks_end_with_what_is_committed() -> None:
    found = list(chunks(beam(0, 1, 2), 1, 9))
    assert [chunk.index for chunk in found] == [1, 2]
    assert float(found[0].frames.mean()) == 1.0
