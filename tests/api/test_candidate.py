"""A candidate is its node, its tensors, and where these are."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.api.candidate import Beam, Candidate


def test_the_node_of_a_candidate_has_its_record_and_no_tensor() -> None:
    decoded = streamt1.Decoded(torch.zeros(1, 3, 2, 2))
    beam, noise = Beam(streamt1.History()), torch.zeros(1)
    made = Candidate(
        chunk=2, ordinal=3, parent="001.00", seed=9, score=0.5, beam=beam, noise=noise, latents=noise, decoded=decoded
    )
    assert made.location == "here"
    assert made.node() == streamt1.Node(chunk=2, ordinal=3, parent="001.00", seed=9, score=0.5)
    assert made.node().id == made.id == "002.03"
    assert "tensor" not in repr(made)


def test_the_last_node_of_a_beam() -> None:
    node = streamt1.Node(chunk=0, ordinal=0, parent=None, seed=1)
    assert Beam(streamt1.History()).last is None
    assert Beam(streamt1.History(), (node,)).last is node


def test_a_beam_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Beam(streamt1.History()).rank = 3  # type: ignore[misc]
