"""One recipe over every family: the same search, whatever the pipeline inside."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

import streamt1_plugins as streamt1
from tests.adapters import tiny, tiny_anyflow, tiny_framepack, tiny_helios, tiny_skyreels
from tests.adapters.tiny import seeded
from tests.launching import launch, without_times

if TYPE_CHECKING:
    from collections.abc import Callable

SMALL: dict[str, Any] = {"height": 32, "width": 32, "max_sequence_length": 16, "output_type": "pt"}
FEW = {"num_inference_steps": 2}

# Per family: the pipeline, its call, the latent frames of its chunks.
FAMILIES: dict[str, tuple[Callable[[], Any], dict[str, Any], tuple[int, ...]]] = {
    "wan": (tiny.tiny_pipeline, {"num_frames": 33}, (3, 3, 3)),
    "anyflow": (tiny_anyflow.tiny_pipeline, {"num_frames": 25, **FEW}, (1, 2, 2, 2)),
    "helios": (tiny_helios.tiny_pipeline, {"num_frames": 99, **FEW}, (9, 9, 9)),
    "helios pyramid": (
        tiny_helios.tiny_pyramid,
        {"num_frames": 99, "height": 64, "width": 64, "pyramid_num_inference_steps_list": [1, 1, 1]},
        (9, 9, 9),
    ),
    "skyreels": (
        tiny_skyreels.tiny_skyreels,
        {"num_frames": 41, "base_num_frames": 17, "overlap_history": 5, **FEW},
        (5, 5, 5),
    ),
    "framepack": (
        tiny_framepack.tiny_framepack,
        {
            "image": tiny_skyreels.picture(),
            "sampling_type": "vanilla",
            "num_frames": 27,
            "latent_window_size": 3,
            **FEW,
        },
        (3, 3, 3),
    ),
}


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


def result(folder: Path, family: str, processes: int, rank: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(folder / f"{family}.{processes}.{rank}.pt", weights_only=False)
    return found


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search of every family by one process and by two, one launch each."""
    folder: Path = tmp_path_factory.mktemp("launched")
    for processes in (1, 2):
        found = launch(processes, Path(__file__).with_name("shared_families.py"), folder)
        assert found.returncode == 0, found.stderr
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_two_processes_make_the_video_of_one(family: str, launched: Path) -> None:
    """Real processes; the contract has threads in their place."""
    alone = result(launched, family, 1)
    for rank in (0, 1):
        shared = result(launched, family, 2, rank)
        assert without_times(shared["tree"]) == without_times(alone["tree"])
        assert torch.equal(shared["video"], alone["video"])
