"""A run counts what its session spends by differences, and lists the chunks to come."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import streamt1_plugins as streamt1
from streamt1_plugins.api.run import Cost, Run
from streamt1_plugins.config.load import load
from tests.toy import ToyPipeline


def run(forwards: int = 0) -> Any:
    session: Any = SimpleNamespace(forwards=forwards, num_chunks=3)
    return Run(load("stream-t1"), session, streamt1.Tree(), "a prompt", 1)


def failing(session: Any) -> None:
    session.forwards += 1
    raise ZeroDivisionError


def test_forwards_are_counted_by_differences() -> None:
    made = run(forwards=5)
    with made.spending("generate"):
        made.session.forwards += 3
    made.session.forwards += 100  # outside: no part of the search
    with pytest.raises(ZeroDivisionError), made.spending("generate"):
        failing(made.session)
    assert made.cost.forwards == 4
    assert set(made.cost.seconds) == {"generate"}


def test_counts_leave_out_the_seconds_and_can_be_added() -> None:
    cost = Cost(candidates=2, forwards=3, seconds={"decode": 1.0})
    assert "seconds" not in cost.counts()
    cost.add(Cost(candidates=1, readings=4).counts())
    assert (cost.candidates, cost.forwards, cost.readings) == (3, 3, 4)


def test_a_reward_has_a_profile_of_its_own() -> None:
    cost = Cost()
    for _ in range(2):
        with cost.judging("long.mine", 4):
            pass
    with pytest.raises(ZeroDivisionError), cost.judging("short.mine", 1):
        raise ZeroDivisionError
    assert cost.reward_profile["long.mine"]["readings"] == 8
    cost.reward_profile["long.mine"]["seconds"] = 0.1
    assert cost.judged()["long.mine"] == {"readings": 8, "seconds": 0.1, "ms_per_candidate": 12.5}
    assert set(cost.judged()) == {"long.mine", "short.mine"}
    assert "reward_profile" not in cost.counts()


def test_the_chunks_to_come_begin_after_those_of_the_best_beam() -> None:
    made = run()
    assert [chunk.index for chunk in made.chunks()] == [0, 1, 2]
    made.beams = (streamt1.Beam(streamt1.History(index=2)),)
    assert [(chunk.index, chunk.count) for chunk in made.chunks()] == [(2, 3)]


def test_a_search_counts_what_it_spends() -> None:
    pipe = streamt1.wrap(ToyPipeline(), "stream-t1")
    pipe("a prompt")
    cost = pipe.run.cost
    assert (cost.candidates, cost.forwards, cost.latent_frames_decoded) == (16, 16, 48)
    assert cost.reward_calls == 9  # two horizons per chunk, and the survivors' whole videos
    assert set(cost.seconds) == {"generate", "decode", "reward", "commit"}


def test_it_is_shown_in_a_line() -> None:
    pipe = streamt1.wrap(ToyPipeline())
    pipe("a prompt")
    assert repr(pipe.last_run) == f"<Run: 'a prompt', seed 42, 4 of 4 chunks, {pipe.tree!r}>"
