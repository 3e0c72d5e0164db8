"""Every wrong way to route a memory fails the golden trajectories."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from streamt1_plugins.api import routed_memory
from streamt1_wan.memory import Block
from streamt1_wan.rope import rotate
from tests.golden.replay import FOLDER, load
from tests.golden.test_golden_trajectories import rope_of
from tests.golden.test_golden_trajectories import test_trajectory as replay

if TYPE_CHECKING:
    from streamt1_plugins.api.adapter import MemoryPlan

CASE = FOLDER / "traj_l6_s3_m9.json"
Sinks = tuple[Block, ...]
Fold = Callable[[Block, Block], Block]
RIGHT = routed_memory.routed


def no_ema(sinks: Sinks, leaving: Block, plan: MemoryPlan, fold: Fold) -> Sinks:
    return RIGHT(sinks, leaving, plan, lambda sink, leaving: sink)


def ema_into_the_first_sink(sinks: Sinks, leaving: Block, plan: MemoryPlan, fold: Fold) -> Sinks:
    if leaving.route != "ema":
        return RIGHT(sinks, leaving, plan, fold)
    return (*RIGHT(sinks[:1], leaving, plan, fold), *sinks[1:])


def append_when_full_discarded(sinks: Sinks, leaving: Block, plan: MemoryPlan, fold: Fold) -> Sinks:
    full = leaving.route == "append" and len(sinks) == plan.max_sink_chunks
    return sinks if full else RIGHT(sinks, leaving, plan, fold)


def append_before_the_newest_sink(sinks: Sinks, leaving: Block, plan: MemoryPlan, fold: Fold) -> Sinks:
    routed = RIGHT(sinks, leaving, plan, fold)
    return routed if len(routed) == len(sinks) else (leaving, *sinks)


def append_at_another_position(sinks: Sinks, leaving: Block, plan: MemoryPlan, fold: Fold) -> Sinks:
    shift = rope_of(load(CASE)).by(leaving.frames)
    moved = replace(leaving, keys=tuple(rotate(key, shift) for key in leaving.keys))
    return RIGHT(sinks, moved if leaving.route == "append" else leaving, plan, fold)


def ema_of_keys_left_where_they_were(sinks: Sinks, leaving: Block, plan: MemoryPlan, fold: Fold) -> Sinks:
    return RIGHT(sinks, replace(leaving, start=sinks[-1].start) if leaving.route == "ema" else leaving, plan, fold)


MUTANTS = [
    no_ema,
    ema_into_the_first_sink,
    append_when_full_discarded,
    append_before_the_newest_sink,
    append_at_another_position,
    ema_of_keys_left_where_they_were,
]


@pytest.mark.skipif(not CASE.is_file(), reason="needs the case with every route and full sinks")
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_mutant_is_caught(mutant: Callable[..., Sinks], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routed_memory, "routed", mutant)
    with pytest.raises(AssertionError):
        replay(CASE, monkeypatch)
