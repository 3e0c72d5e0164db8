"""Parking changes where things wait, never what comes out."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.config import load as recipe
from streamt1_plugins.search import offload as parking
from tests.third_party.fresh import fresh_discovery
from tests.toy import ToyPipeline

Pair = namedtuple("Pair", "left right")


@dataclass(frozen=True)
class Box:
    inside: Any
    name: str = "box"


def test_mapped_rebuilds_every_kind_of_branch_and_keeps_what_is_shared() -> None:
    shared = torch.zeros(2)
    tree = Box(({"a": shared, "b": [shared, None]}, Pair(shared, "text")), "mine")
    found = parking.mapped(tree, lambda leaf: leaf + 1 if isinstance(leaf, torch.Tensor) else leaf)
    assert found.name == "mine"
    mapping, pair = found.inside
    assert isinstance(pair, Pair)
    assert pair.right == "text"
    assert mapping["a"] is mapping["b"][0] is pair.left
    assert torch.equal(pair.left, torch.ones(2))
    assert torch.equal(shared, torch.zeros(2))


class Device:
    """Lets CPU tensors play those of a device: leaving it and coming back makes a copy, and is counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.out = self.back = 0
        monkeypatch.setattr(parking, "is_host", lambda tensor: False)
        monkeypatch.setattr(torch.Tensor, "to", self.copied)

    @property
    def copied(self) -> Any:
        def to(tensor: torch.Tensor, target: Any) -> torch.Tensor:
            if target == "cpu":
                self.out += 1
            else:
                self.back += 1
            return tensor.clone()

        return to


def parked_by(park: str) -> parking.Parking:
    return parking.Parking(cast("Any", SimpleNamespace(recipe=recipe.load("stream-t1", [f"search.offload={park}"]))))


def test_a_tensor_is_sent_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch)
    old, new = torch.ones(3), torch.zeros(3)
    place = parked_by("cpu")
    history = streamt1.History(
        index=1, latents=(old,), frames=(old,), memory=(old, Box(old)), decoder=(new, None, "Rep")
    )
    resting = place.resting(streamt1.Beam(history))
    assert device.out == 2
    assert isinstance(resting.history.memory[0], parking.Parked)
    assert resting.history.latents[0] is old, "latents and frames stay: rewards look at them"
    awake = place.awake(resting)
    assert place.awake(resting) is awake
    assert device.back == 2
    assert torch.equal(awake.history.memory[1].inside, old)
    assert awake.history.decoder[1:] == (None, "Rep")
    again = place.resting(awake)
    assert device.out == 2
    assert again.history.memory[0] is resting.history.memory[0]


def test_cpu_tensors_are_left_alone() -> None:
    history = streamt1.History(memory=(torch.ones(3),), decoder=(torch.ones(2),))
    place = parked_by("cpu")
    beam = place.resting(streamt1.Beam(history))
    assert beam.history.memory[0] is history.memory[0]
    assert place.awake(beam).history.decoder[0] is history.decoder[0]


@pytest.mark.parametrize("park", ["cpu", "recompute"])
def test_the_search_is_the_same(park: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh_discovery(monkeypatch)
    results, costs = [], []
    for mode in ("none", park):
        search = {"candidates": 3, "top_k": 2, "offload": mode}
        pipe = streamt1.wrap(ToyPipeline(), {"extends": "stream-t1", "search": search})
        results.append((pipe("x"), pipe.tree.to_dict()))
        costs.append(pipe.last_run.cost.latent_frames_decoded)
    (plain, tree), (parked, other) = results
    assert len(tree["nodes"]) == 6 * 4
    assert torch.equal(plain, parked)
    assert [n | {"seconds": 0} for n in tree["nodes"]] == [n | {"seconds": 0} for n in other["nodes"]]
    chunks, survivors, frames = 4, 2, 3
    assert costs[1] - costs[0] == (chunks * survivors * frames if park == "recompute" else 0)
