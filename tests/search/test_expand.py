"""Expansion: plain is plain whatever the policies, and batches that do not fit into memory are halved."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.api.workers import SingleProcess
from streamt1_plugins.errors import PluginError
from streamt1_plugins.search.expand import Expander
from streamt1_plugins.search.offload import Offload
from tests.launching import without_times
from tests.toy import ToyPipeline, ToySession


def run(*overrides: str) -> streamt1.StreamPipeline:
    pipe = streamt1.wrap(ToyPipeline(), overrides=["search.candidates=4", *overrides])
    pipe("a prompt")
    return pipe


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A device that holds three candidates at once; fails, as GPUs do, when work has begun already."""
    tried: list[int] = []
    generate = ToySession.generate

    def limited(self: ToySession, history: Any, noise: torch.Tensor, generators: Any) -> torch.Tensor:
        tried.append(len(noise))
        latents = generate(self, history, noise, generators)
        if len(noise) > 3:
            raise torch.OutOfMemoryError("no more memory")
        return latents

    monkeypatch.setattr(ToySession, "generate", limited)
    return tried


def test_a_batch_that_does_not_fit_is_halved_and_the_rest_of_the_run_keeps_to_that(small_memory: list[int]) -> None:
    small = run("search.batch=8")
    assert small_memory[:6] == [8, 4, 2, 2, 4, 2]
    assert set(small_memory[8:]) == {2}
    notes = [note for note in small.tree.notes if "Memory ran out" in note]
    assert notes[0] == "Memory ran out with 8 candidates at once; from chunk 0 on 4 are."


def test_generators_are_rewound_so_that_the_tree_is_the_same(
    small_memory: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = run("search.batch=8").tree.to_dict()["nodes"]
    monkeypatch.undo()
    assert without_times(small) == without_times(run("search.batch=8").tree.to_dict()["nodes"])


def test_close_calls_are_noted_where_batches_could_decide_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ToySession, "generate", lambda self, history, noise, generators: torch.zeros_like(noise))
    assert [note.partition(",")[0] for note in run("search.batch=2").tree.notes] == [
        f"Chunk {chunk}: a close call" for chunk in range(4)
    ]
    assert run("search.batch=1").tree.notes == []


def test_a_single_candidate_that_does_not_fit_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("no more memory")

    monkeypatch.setattr(ToySession, "generate", full)
    with pytest.raises(torch.OutOfMemoryError):
        run("search.batch=2")


class Malicious:
    """A noise policy that draws from the caller's stream, changes it, and proposes zeros."""

    @streamt1.hookimpl
    def streamt1_propose_noise(self, run: Any, beam: Any, count: int) -> list[streamt1.Proposal]:
        noise = run.session.draw(beam.history, run.session.generator)
        run.session.generator.manual_seed(0)
        return [streamt1.Proposal(0, noise * 0, run.session.generator)] * 3


class Wide:
    @streamt1.hookimpl
    def streamt1_width(self) -> int:
        return 5


def test_a_malicious_policy_cannot_change_what_plain_gives() -> None:
    """Off means off: the search decides what is plain, and hands out the pipeline's own noise stream."""
    policies: Any = {"noise": Malicious(), "width": Wide()}
    ours, theirs = (torch.Generator().manual_seed(3) for _ in range(2))
    found = streamt1.wrap(ToyPipeline(), "plain", policies=policies)
    expected = streamt1.wrap(ToyPipeline(), "plain")
    assert torch.equal(found("a prompt", generator=ours), expected("a prompt", generator=theirs))
    assert torch.equal(ours.get_state(), theirs.get_state())
    assert [len(found.tree.chunk(index)) for index in range(4)] == [1, 1, 1, 1]


class Empty:
    @streamt1.hookimpl
    def streamt1_propose_noise(self) -> list[streamt1.Proposal]:
        return []


def test_a_noise_policy_without_proposals_is_named() -> None:
    pipe = streamt1.wrap(ToyPipeline(), policies={"noise": Empty()})
    with pytest.raises(PluginError, match="streamt1_propose_noise returned no proposals"):
        pipe("a prompt")


def test_the_first_process_decides_the_width() -> None:
    """A width policy may follow a clock, which differs between processes."""

    class Second(SingleProcess):
        rank, size = 1, 2

        def all_gather(self, value: Any) -> list[Any]:
            return [[width + 1 for width in value], value]

    pipe = streamt1.wrap(ToyPipeline(), overrides=["search.candidates=2", "search.top_k=1"])
    run = pipe.begin("a prompt")
    run.beams = (streamt1.Beam(run.session.root()),)
    expander = Expander(run, pipe.search(run).hooks, Offload(run), Second())
    assert len(expander.branches(streamt1.Chunk(0, 4))) == 3


class Shared:
    @streamt1.hookimpl
    def streamt1_propose_noise(self, run: Any, beam: Any, count: int) -> list[streamt1.Proposal]:
        generator = torch.Generator().manual_seed(1)
        return [streamt1.Proposal(i, run.session.draw(beam.history, generator), generator) for i in range(count)]


def test_proposals_that_share_a_generator_are_refused() -> None:
    pipe = streamt1.wrap(ToyPipeline(), policies={"noise": Shared()})
    with pytest.raises(PluginError, match="share a generator, so a candidate would depend on those made before it"):
        pipe("a prompt")
