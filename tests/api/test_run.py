"""What a run has cost, and the chunks that it still has to make."""

from __future__ import annotations

import pytest

import streamt1_plugins as streamt1
from streamt1_plugins.api.run import Cost
from tests.toy import ToyPipeline


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


def test_counts_add_up_by_name() -> None:
    cost = Cost(candidates=2, seconds={"decode": 1.0})
    cost.add({"candidates": 1, "forwards": 4})
    assert cost.counts() == {**Cost().counts(), "candidates": 3, "forwards": 4}


def test_a_run_has_the_chunks_after_its_beams_left() -> None:
    pipe = streamt1.wrap(ToyPipeline(), "stream-t1")
    pipe("a prompt")
    run = pipe.run
    assert list(run.chunks()) == []
    run.beams = ()
    assert [chunk.index for chunk in run.chunks()] == [0, 1, 2, 3]
