"""Batches that are more than memory holds are halved, once, and nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
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
