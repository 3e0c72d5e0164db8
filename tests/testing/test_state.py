"""What an object holds on to, and what was left on a pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from diffusers.hooks import HookRegistry, ModelHook
from torch import nn

from streamt1_plugins.testing.state import footprint, tensor_bytes, tensors_in


@dataclass(frozen=True, slots=True)
class Slotted:
    inner: Any


def test_tensors_are_found_through_containers_attributes_and_slots() -> None:
    first, second, third = (torch.zeros(size) for size in (1, 2, 3))
    root = SimpleNamespace(items=[{"a": first}, (Slotted(second),)], back=None, text="text", module=nn.Linear(2, 2))
    root.back = root
    assert {id(each) for each in tensors_in(root)} == {id(first), id(second)}
    outside = SimpleNamespace(hidden=third)
    assert list(tensors_in({"x": outside}, outside)) == []


def test_memory_that_tensors_share_counts_once() -> None:
    whole = torch.zeros(10, dtype=torch.float32)
    assert tensor_bytes([whole, whole[:2], whole.clone()]) == 2 * 40


def pipeline() -> Any:
    return SimpleNamespace(components={"net": nn.Sequential(nn.Linear(2, 2)), "name": "text"}, scale=1.0)


def test_a_pipeline_that_was_not_changed_has_the_same_footprint() -> None:
    pipe = pipeline()
    before = footprint(pipe)
    pipe.scale = 2.0  # data may change, as pipelines keep their last guidance scale
    assert footprint(pipe) == before


def test_a_registry_of_diffusers_counts_once_it_has_a_hook() -> None:
    pipe = pipeline()
    net = pipe.components["net"]
    before = footprint(pipe)
    registry = HookRegistry.check_if_exists_or_initialize(net)
    assert footprint(pipe) == before
    registry.register_hook(ModelHook(), "cache")
    assert footprint(pipe) != before


def test_attributes_and_hooks_left_behind_show() -> None:
    for change in (
        lambda pipe: setattr(pipe, "extra", 1),
        lambda pipe: setattr(pipe.components["net"][0], "forward", lambda x: x),
        lambda pipe: pipe.components["net"][0].register_forward_hook(lambda *_: None),
    ):
        pipe = pipeline()
        before = footprint(pipe)
        change(pipe)
        assert footprint(pipe) != before
