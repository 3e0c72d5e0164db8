"""Thumbnails: few, small, and enough to stand for a candidate of another process."""

from __future__ import annotations

import torch

import streamt1_plugins as streamt1
from streamt1_plugins.search.expand import Branch
from streamt1_plugins.search.thumbnails import FRAMES, HEIGHT, Summary, summarize, thumbnail


def test_frames_are_few_and_small_and_keep_the_first_and_the_last() -> None:
    frames = torch.linspace(0, 1, 49).view(49, 1, 1, 1).expand(49, 3, 480, 832)
    found = thumbnail(frames)
    assert found.shape == (FRAMES, 3, HEIGHT, round(832 * HEIGHT / 480))
    assert (found.dtype, int(found[0].max()), int(found[-1].min())) == (torch.uint8, 0, 255)
    assert thumbnail(frames[:2, :, :8, :8]).shape == (2, 3, 8, 8), "small frames stay as they are"
    assert thumbnail(frames[:0]).shape[0] == 0


def test_a_placeholder_has_the_record_of_the_candidate_and_none_of_its_tensors() -> None:
    noise = torch.randn(1, 2, 3, 4, 4)
    proposal = streamt1.Proposal(7, noise, torch.Generator(), propagated=True)
    beam = streamt1.Beam(streamt1.History())
    summary = Summary(2.5, torch.full((1, 3, 2, 2), 255, dtype=torch.uint8))
    found = Branch(5, beam, proposal).placeholder(streamt1.Chunk(1, 4), summary)
    assert (found.id, found.seed, found.propagated, found.seconds) == ("001.05", 7, True, 2.5)
    assert (found.location, found.latents.shape[2], found.decoded.state) == ("elsewhere", 0, None)
    assert torch.equal(found.decoded.frames, torch.ones(1, 3, 2, 2))
    again = summarize(found, with_frames=False, batch_limit=3)
    assert (len(again.frames), again.batch_limit) == (0, 3)


def test_a_placeholder_can_be_compared_like_the_candidate_itself() -> None:
    noise = torch.randn(1, 2, 3, 8, 8)
    branch = Branch(5, streamt1.Beam(streamt1.History()), streamt1.Proposal(7, noise, torch.Generator()))
    decoded = streamt1.Decoded(torch.zeros(1, 3, 2, 2))
    made = branch.candidate(streamt1.Chunk(1, 4), branch.beam, latents=noise * 2, decoded=decoded)
    assert summarize(made, with_frames=False, batch_limit=None).features is None, "one process alone needs none"
    found = branch.placeholder(streamt1.Chunk(1, 4), summarize(made, False, None, with_features=True))
    assert torch.equal(found.features, made.features)
