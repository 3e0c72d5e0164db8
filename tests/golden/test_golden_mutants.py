"""The trajectories have teeth: every wrong way to route a memory misses them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from streamt1_plugins.api.adapter import MemoryPlan
from streamt1_wan import memory
from streamt1_wan.memory import Block
from streamt1_wan.rope import Rope, rotate
from tests.golden.replay import FOLDER
from tests.golden.test_golden_trajectories import test_trajectory as replay

if TYPE_CHECKING:
    from collections.abc import Callable

CASE = FOLDER / "traj_l6_s3_m9.json"
Sinks = tuple[Block, ...]
RIGHT = memory._routed


def no_ema(sinks: Sinks, leaving: Block, plan: MemoryPlan, rope: Rope) -> Sinks:
    return RIGHT(sinks, leaving, replace(plan, ema_decay=1.0), rope)


def ema_into_the_first_sink(sinks: Sinks, leaving: Block, plan: MemoryPlan, rope: Rope) -> Sinks:
    if leaving.route != "ema":
        return RIGHT(sinks, leaving, plan, rope)
    return (*RIGHT(sinks[:1], leaving, plan, rope), *sinks[1:])


def append_when_full_discarded(sinks: Sinks, leaving: Block, plan: MemoryPlan, rope: Rope) -> Sinks:
    full = leaving.route == "append" and len(sinks) == plan.max_sink_chunks
    return sinks if full else RIGHT(sinks, leaving, plan, rope)


def append_before_the_newest_sink(sinks: Sinks, leaving: Block, plan: MemoryPlan, rope: Rope) -> Sinks:
    routed = RIGHT(sinks, leaving, plan, rope)
    return routed if len(routed) == len(sinks) else (leaving, *sinks)


def append_at_another_position(sinks: Sinks, leaving: Block, plan: MemoryPlan, rope: Rope) -> Sinks:
    moved = replace(leaving, keys=tuple(rotate(key, rope.by(leaving.frames)) for key in leaving.keys))
    return RIGHT(sinks, moved if leaving.route == "append" else leaving, plan, rope)


def ema_of_keys_left_where_they_were(sinks: Sinks, leaving: Block, plan: MemoryPlan, rope: Rope) -> Sinks:
    return RIGHT(sinks, replace(leaving, start=sinks[-1].start) if leaving.route == "ema" else leaving, plan, rope)


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
    monkeypatch.setattr(memory, "_routed", mutant)
    with pytest.raises(AssertionError):
        replay(CASE, monkeypatch)
