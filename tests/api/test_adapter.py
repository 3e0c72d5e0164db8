"""The optional protocols of adapters and sessions are recognised by their methods."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from types import SimpleNamespace

import pytest

from streamt1_plugins import HasDraft, HasFootprint, HasOutline, History, MemoryPlan
from streamt1_plugins.config.schema import Recipe


def test_a_session_drafts_if_it_has_all_three_methods() -> None:
    methods = dict.fromkeys(("steps", "draft", "finish_drafts"), print)
    assert isinstance(SimpleNamespace(**methods), HasDraft)
    methods.popitem()
    assert not isinstance(SimpleNamespace(**methods), HasDraft)


def test_optional_methods_of_an_adapter_are_optional() -> None:
    assert not isinstance(SimpleNamespace(open=print, load=print), (HasOutline, HasFootprint))


def test_a_history_is_empty_and_cannot_be_changed() -> None:
    history = History()
    assert (history.index, history.latents, history.frames) == (0, (), ())
    with pytest.raises(FrozenInstanceError):
        history.index = 1


def test_the_memory_plan_of_adapters_is_the_recipes() -> None:
    assert type(Recipe().sinks) is MemoryPlan
