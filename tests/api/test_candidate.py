"""A candidate is a node with tensors; a beam is a path of nodes."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import pytest
import torch

from streamt1_plugins.api.candidate import Beam, Candidate
from streamt1_plugins.api.types import Node


def test_a_candidate_is_a_node_with_tensors_and_leaves_them_behind() -> None:
    tensor = torch.zeros(1)
    candidate = Candidate(
        chunk=1, ordinal=2, parent="000.00", seed=7, score=1.5, beam=None, noise=tensor, latents=tensor, decoded=None
    )
    node = candidate.node()
    assert type(node) is Node
    assert all(
        getattr(node, item.name) == getattr(candidate, item.name)
        for item in fields(Node)
        if item.name not in ("short", "long")
    )
    assert "tensor" not in repr(candidate)


def test_a_beam_ends_with_its_newest_node_and_cannot_be_changed() -> None:
    nodes = tuple(Node(chunk=index, ordinal=0, parent=None, seed=index) for index in range(2))
    assert Beam(None).last is None
    assert Beam(None, nodes).last is nodes[1]
    with pytest.raises(FrozenInstanceError):
        Beam(None).rank = 3
