"""The fixed width, and the bounds of policies that decide for themselves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import streamt1_plugins as streamt1
from streamt1_plugins.config.load import load
from streamt1_plugins.policies.budget import Budget
from streamt1_plugins.policies.width import FixedWidth, widest

SEARCH = load({"search": {"candidates": 3, "top_k": 2}}).search


def test_the_first_chunk_is_as_wide_as_the_others() -> None:
    run: Any = SimpleNamespace(recipe=SimpleNamespace(search=SEARCH))
    node = streamt1.Node(chunk=0, ordinal=0, parent=None, seed=0)
    empty, later = streamt1.Beam(streamt1.History()), streamt1.Beam(streamt1.History(1), (node,))
    assert (FixedWidth().streamt1_width(run, empty), FixedWidth().streamt1_width(run, later)) == (6, 3)


def test_the_widest_is_the_bound_of_a_policy_that_has_one() -> None:
    assert widest(FixedWidth(), SEARCH) == 3
    assert widest(Budget(forwards=9, most=7), SEARCH) == 7
    assert widest(object(), SEARCH) == 3
