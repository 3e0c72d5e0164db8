"""Recorded branches are made again from their seeds, several at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.errors import InputError
from streamt1_plugins.search.retrace import retrace
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


def test_a_branch_comes_back_where_siblings_are_lost_from_the_record() -> None:
    pipe = streamt1.wrap(ToyPipeline(), overrides=SETTINGS)
    pipe("a prompt")
    expected = pipe.last_run.beams[0]
    for node in expected.path:
        for sibling in pipe.tree.children(node.parent):
            if sibling.id != node.id:
                del pipe.tree.nodes[sibling.id]
    run = traced(SETTINGS, pipe.tree, [expected.path])
    assert all(map(torch.equal, run.beams[0].history.latents, expected.history.latents))


# Noise policies that give several proposals one seed.


@dataclass(frozen=True)
class OneSeed:
    """Proposals of one seed, whose noise is turned by an angle that depends on their number; `more` than called for."""

    more: int = 0

    @streamt1.hookimpl
    def streamt1_propose_noise(self, run: Any, beam: Any, count: int) -> list[streamt1.Proposal]:
        count += self.more
        made = []
        for index in range(count):
            generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
            one, other = (run.session.draw(beam.history, each) for each in generators)
            angle = torch.tensor(index / count)
            made.append(streamt1.Proposal(1, one * angle.cos() + other * angle.sin(), generators[0]))
        return made


def made(more: int) -> Any:
    return streamt1.wrap(ToyPipeline(), overrides=SETTINGS, policies={"noise": OneSeed(more)})


@pytest.mark.parametrize("more", [-1, 0, 2])
def test_equal_seeds_are_told_apart_by_place(more: int) -> None:
    pipe = made(more)
    pipe("a prompt")
    again = made(more)
    for beam in pipe.last_run.beams:
        run = again.begin("a prompt")
        retrace(again.search(run), pipe.tree, [beam.path])
        run.session.close()
        assert all(map(torch.equal, run.beams[0].history.latents, beam.history.latents))


def test_equal_seeds_that_a_damaged_record_cannot_tell_apart_are_refused() -> None:
    pipe = made(0)
    pipe("a prompt")
    last = pipe.tree.chunk(0)[-1]
    for node in pipe.tree.chunk(0)[:-1]:
        del pipe.tree.nodes[node.id]
    again = made(0)
    with pytest.raises(InputError, match="cannot be made again: others of their chunk are lost"):
        retrace(again.search(again.begin("a prompt")), pipe.tree, [[last]])
