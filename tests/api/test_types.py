"""The small values that the parts of a run exchange."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from streamt1_plugins.api.types import Chunk, Node


def test_progress_runs_from_zero_to_one() -> None:
    assert [Chunk(i, 5).progress for i in range(5)] == [0, 0.25, 0.5, 0.75, 1]
    assert Chunk(0, 1).progress == 0
    assert (Chunk(0, 2).is_first, Chunk(0, 2).is_last, Chunk(1, 2).is_last) == (True, False, True)


@pytest.mark.parametrize("value", [Chunk(0, 1), Node(chunk=0, ordinal=0, parent=None, seed=0)])
def test_values_cannot_be_changed(value: Any) -> None:
    with pytest.raises(FrozenInstanceError):
        setattr(value, fields(value)[0].name, 3)
