"""One recipe over every family: the same search, whatever the pipeline inside."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest
import torch

import streamt1_plugins as streamt1
from tests.adapters.families import FAMILIES, SMALL
from tests.adapters.shared_families import searched
from tests.adapters.tiny import seeded
from tests.launching import launch, without_times


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_recipe_searches_every_family(family: str) -> None:
    make, call, chunks = FAMILIES[family]
    recipe = {"extends": "stream-t1", "search": {"batch": 2}, "sinks": {"window_chunks": 1}}
    pipe = streamt1.wrap(make(), recipe, adapter="wan" if family == "wan" else None)
    video = pipe("a red circle", **{**SMALL, **call}, generator=seeded(4))[0]
    tree = pipe.tree

    assert isinstance(video, torch.Tensor)
    assert Counter(node.chunk for node in tree) == dict.fromkeys(range(len(chunks)), 4)
    assert [node.fate for node in tree].count("kept") == 2 * len(chunks)
    assert [tree.nodes[name].chunk for name in tree.winner] == list(range(len(chunks)))
    assert all(node.is_valid and math.isfinite(node.short) and math.isfinite(node.long) for node in tree)
    assert len(tree.final) == 2

    # Noise is propagated where the chunk before has the same shape.
    like = [index > 0 and chunks[index] == chunks[index - 1] for index in range(len(chunks))]
    assert [any(node.propagated for node in tree.chunk(index)) for index in range(len(chunks))] == like

    # Only a causal Wan has a memory to route; elsewhere the run notes it.
    routed = {node.route for node in tree if node.chunk > 0}
    unrouted = "This pipeline's memory cannot be routed; the search runs without memory sinking."
    assert (None not in routed, unrouted in tree.notes) == (family == "wan", family != "wan")


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search of every family by two processes."""
    folder: Path = tmp_path_factory.mktemp("launched")
    found = launch(2, Path(__file__).with_name("shared_families.py"), folder)
    assert found.returncode == 0, found.stderr
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_two_processes_make_the_video_of_one(family: str, launched: Path) -> None:
    """Real processes; the contract has threads in their place."""
    alone = searched(family)
    for rank in (0, 1):
        shared = torch.load(launched / f"{family}.{rank}.pt", weights_only=False)
        assert without_times(shared["tree"]) == without_times(alone["tree"])
        assert torch.equal(shared["video"], alone["video"])
