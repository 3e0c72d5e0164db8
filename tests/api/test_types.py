"""The small values every part speaks in."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.api.candidate import Beam, Candidate
from streamt1_plugins.api.run import Cost
from streamt1_plugins.api.types import Chunk, Node
from tests.toy import ToyPipeline


def test_progress_runs_from_zero_to_one() -> None:
    assert [Chunk(i, 5).progress for i in range(5)] == [0, 0.25, 0.5, 0.75, 1]
    assert Chunk(0, 1).progress == 0
    assert (Chunk(0, 2).is_first, Chunk(0, 2).is_last, Chunk(1, 2).is_last) == (True, False, True)


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


@pytest.mark.parametrize("value", [Chunk(0, 1), Node(chunk=0, ordinal=0, parent=None, seed=0), Beam(None)])
def test_values_cannot_be_changed(value: Any) -> None:
    with pytest.raises(FrozenInstanceError):
        setattr(value, fields(value)[0].name, 3)


def test_cost_adds_up_by_stage_also_when_a_stage_fails() -> None:
    cost = Cost()
    for _ in range(2):
        with cost.timing("decode"):
            pass
    with pytest.raises(ZeroDivisionError), cost.timing("reward"):
        _ = 1 / 0
    assert set(cost.seconds) == {"decode", "reward"}
    assert all(seconds >= 0 for seconds in cost.seconds.values())


def test_a_run_counts_what_it_spends() -> None:
    pipe = streamt1.wrap(ToyPipeline(), "stream-t1")
    pipe("a prompt")
    cost = pipe.run.cost
    assert (cost.candidates, cost.forwards, cost.latent_frames_decoded) == (16, 16, 48)
    assert cost.reward_calls == 9  # two horizons per chunk, and the survivors' whole videos
    assert set(cost.seconds) == {"generate", "decode", "reward", "commit"}


def test_public_names_are_importable_and_listed() -> None:
    for name in streamt1.__all__:
        assert getattr(streamt1, name) is not None
        assert name in dir(streamt1)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = streamt1.nothing
