"""Recorded branches are made again from their seeds, several at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.errors import InputError
from streamt1_plugins.search.retrace import retrace, width
from tests.toy import ToyPipeline

SETTINGS = ("search.candidates=3", "search.top_k=2")


def traced(overrides: tuple[str, ...], tree: Any, paths: Any) -> Any:
    pipe = streamt1.wrap(ToyPipeline(), overrides=overrides)
    run = pipe.begin("a prompt")
    retrace(pipe.search(run), tree, paths)
    return run


def test_all_surviving_beams_come_back_bit_by_bit() -> None:
    pipe = streamt1.wrap(ToyPipeline(), overrides=SETTINGS)
    pipe("a prompt")
    expected = pipe.last_run.beams
    run = traced(SETTINGS, pipe.tree, [beam.path for beam in expected])
    for beam, again in zip(expected, run.beams, strict=True):
        assert again.path == beam.path
        assert again.rank == beam.rank
        assert torch.equal(again.noise, beam.noise)
        assert all(map(torch.equal, again.history.latents, beam.history.latents))
    made = {id(latents) for beam in run.beams for latents in beam.history.latents}
    assert len(made) == len({node.id for beam in expected for node in beam.path})  # each node is made once


def test_another_seed_does_not_lead_there() -> None:
    pipe = streamt1.wrap(ToyPipeline(), overrides=SETTINGS)
    pipe("a prompt")
    with pytest.raises(InputError, match="do not lead to"):
        traced((*SETTINGS, "seed=7"), pipe.tree, [pipe.last_run.beams[0].path])


def test_a_parent_is_as_wide_as_it_was_also_where_siblings_are_lost() -> None:
    pipe = streamt1.wrap(ToyPipeline(), overrides=SETTINGS)
    pipe("a prompt")
    for node in pipe.tree:
        assert width(pipe.tree, node) == len(pipe.tree.children(node.parent))
    last = pipe.tree.children(pipe.tree.chunk(1)[-1].parent)[-1]
    for sibling in pipe.tree.children(last.parent)[:-1]:
        del pipe.tree.nodes[sibling.id]
    assert width(pipe.tree, last) == 3
