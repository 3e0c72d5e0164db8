"""What a comparison is."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from streamt1_plugins.compare.comparison import Comparison
from tests.compare.examples import comparison


def test_model_and_call_are_optional_and_circular_judges_refused_by_default() -> None:
    plain = Comparison(recipes={}, prompts=["a"], seeds=[0], judge="short-only")
    assert (plain.model, plain.call, plain.allow_circular) == (None, None, False)


def test_a_comparison_is_changed_only_as_a_copy() -> None:
    given = comparison()
    assert replace(given, prompts=["c"]).prompts == ["c"]
    assert given.prompts == ["a", "b"]
    with pytest.raises(FrozenInstanceError):
        given.judge = "bright"  # type: ignore[misc]
