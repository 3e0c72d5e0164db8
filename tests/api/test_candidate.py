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


def with_latents(latents: torch.Tensor, pooled: torch.Tensor | None = None) -> Candidate:
    decoded, beam = streamt1.Decoded(torch.zeros(1, 3, 2, 2)), Beam(streamt1.History())
    own = {"chunk": 0, "ordinal": 0, "parent": None, "seed": 1}
    return Candidate(**own, beam=beam, noise=latents, latents=latents, decoded=decoded, pooled=pooled)


def test_features_are_the_latents_averaged_to_a_few_places() -> None:
    latents = torch.randn(1, 2, 3, 8, 12, dtype=torch.bfloat16)
    found = with_latents(latents).features
    assert found.shape == (6, 4, 4)
    assert found.dtype == torch.float32
    assert float(found[1, 0, 0]) == pytest.approx(float(latents[0, 0, 1, :2, :3].float().mean()))
    small = torch.randn(1, 2, 3, 2, 2)
    assert torch.equal(with_latents(small).features, small[0].reshape(6, 2, 2))


def test_a_candidate_that_is_elsewhere_has_the_same_features() -> None:
    latents = torch.randn(1, 2, 3, 8, 12)
    here = with_latents(latents)
    elsewhere = with_latents(latents[:, :, :0], here.features)
    assert torch.equal(elsewhere.features, here.features)


def test_the_last_node_of_a_beam() -> None:
    node = streamt1.Node(chunk=0, ordinal=0, parent=None, seed=1)
    assert Beam(streamt1.History()).last is None
    assert Beam(streamt1.History(), (node,)).last is node


def test_a_beam_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Beam(streamt1.History()).rank = 3  # type: ignore[misc]
