"""A recorded path is generated again from seeds, and a person can continue any node of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.errors import InputError, UnknownNameError
from streamt1_plugins.replay import branch, regenerate
from streamt1_plugins.runs import journal
from streamt1_plugins.runs.observers.record import record_to
from tests.toy import ToyPipeline


def recorded(folder: Path, *overrides: str, recipe: str = "stream-t1") -> streamt1.StreamPipeline:
    pipe = streamt1.wrap(ToyPipeline(), recipe, overrides=overrides, observers=record_to(folder))
    pipe.video = pipe("a prompt", chunks=6)
    return pipe


class Frames:
    """Remembers what every candidate looked like."""

    def __init__(self) -> None:
        self.frames: dict[str, torch.Tensor] = {}

    @streamt1.hookimpl
    def streamt1_candidate_scored(self, candidate: streamt1.Candidate) -> None:
        self.frames[candidate.id] = candidate.decoded.frames


@pytest.mark.parametrize("recipe", ["stream-t1", "stream-t1-paper", "best-of-n", "beam", "plain"])
def test_the_winner_comes_back_bit_by_bit_at_plain_cost(tmp_path: Path, recipe: str) -> None:
    first = recorded(tmp_path, recipe=recipe)
    generated = ToyPipeline()
    assert torch.equal(regenerate(tmp_path, pipe=generated), first.video)


def test_any_node_comes_back_bit_by_bit(tmp_path: Path) -> None:
    seen = Frames()
    pipe = streamt1.wrap(ToyPipeline(), observers={**record_to(tmp_path), "frames": seen})
    pipe("a prompt")
    for node in pipe.tree:
        path = [step.id for step in pipe.tree.path(node.id)]
        expected = torch.cat([seen.frames[name] for name in path])
        assert torch.equal(regenerate(tmp_path, node.id, ToyPipeline()), expected), node.id


def test_an_interrupted_run_is_replayed_as_far_as_it_got(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        streamt1.wrap(ToyPipeline(), observers=record_to(tmp_path))("a prompt", fail_at=2)
    video = regenerate(tmp_path, pipe=ToyPipeline())
    assert len(video) == 6


def test_an_unknown_node_is_named_with_a_guess(tmp_path: Path) -> None:
    recorded(tmp_path)
    with pytest.raises(UnknownNameError, match=r"003\.09.*Did you mean '003\.0"):
        regenerate(tmp_path, "003.09", ToyPipeline())


def test_a_person_overrules_the_rewards(tmp_path: Path) -> None:
    first = recorded(tmp_path / "first")
    loser = next(node for node in first.tree.chunk(2) if node.fate == "pruned")
    pipe = branch(tmp_path / "first", loser.id, tmp_path / "second", ToyPipeline())
    video = pipe.complete(pipe.last_run)
    path = [node.id for node in first.tree.path(loser.id)]
    assert list(pipe.tree.winner[:3]) == path
    assert len(video) == len(first.video)
    assert not torch.equal(video, first.video)
    assert [node.id for node in pipe.tree.chunk(2) if node.fate == "kept"] == [loser.id]
    assert "picked by hand" in pipe.tree.notes[0]
    found = journal.tree_of(journal.read(tmp_path / "second"))
    assert found.to_dict() == pipe.tree.to_dict() or without_seconds(found) == without_seconds(pipe.tree)
    assert len(list((tmp_path / "second" / "strips").iterdir())) == len(pipe.tree)


def without_seconds(tree: streamt1.Tree) -> list[dict]:
    return [{**node, "seconds": None} for node in tree.to_dict()["nodes"]]


def test_a_branched_run_can_be_resumed_and_replayed(tmp_path: Path) -> None:
    first = recorded(tmp_path / "first")
    loser = next(node for node in first.tree.chunk(2) if node.fate == "pruned")
    whole = branch(tmp_path / "first", loser.id, tmp_path / "whole", ToyPipeline())
    video = whole.complete(whole.last_run)
    cut = branch(tmp_path / "first", loser.id, tmp_path / "cut", ToyPipeline())
    steps = cut.steps(cut.last_run)
    next(steps)
    steps.close()
    cut.last_run.session.close()
    assert torch.equal(streamt1.resume(tmp_path / "cut", ToyPipeline()), video)
    assert torch.equal(regenerate(tmp_path / "cut", pipe=ToyPipeline()), video)


def test_continuing_from_the_winner_of_a_single_beam_changes_nothing(tmp_path: Path) -> None:
    first = recorded(tmp_path / "first", "search.top_k=1", "search.candidates=4")
    pipe = branch(tmp_path / "first", first.tree.winner[1], tmp_path / "second", ToyPipeline())
    assert torch.equal(pipe.complete(pipe.last_run), first.video)


def test_options_of_recording_observers_do_not_stop_a_replay_or_a_branch(tmp_path: Path) -> None:
    recipe = {"extends": "plain", "observers": {"video": {"crf": 51}}}
    pipe = streamt1.wrap(ToyPipeline(), recipe, observers=record_to(tmp_path / "run"))
    video = pipe("a prompt")
    assert torch.equal(streamt1.regenerate(tmp_path / "run", pipe=ToyPipeline()), video)
    branched = streamt1.branch(tmp_path / "run", "001.00", tmp_path / "new", ToyPipeline())
    branched.complete(branched.last_run)
    assert (tmp_path / "new" / "video.mp4").exists()


# Runs that were made with objects, which no record holds.


@dataclass
class Dim(streamt1.Reward):
    """Minus the mean of the frames."""

    def score(self, inp: Any) -> streamt1.RewardOutput:
        return streamt1.RewardOutput(-inp.video.mean((1, 2, 3, 4)))


class Last:
    """Keeps the last candidate."""

    @streamt1.hookimpl
    def streamt1_select(self, candidates: Any) -> Any:
        return candidates[-1:]


class Own:
    """A noise policy of the caller's."""

    @streamt1.hookimpl
    def streamt1_propose_noise(self, run: Any, chunk: Any, beam: Any, count: int) -> Any:
        seeds = [streamt1.fresh_seed(run.seed, chunk.index, beam.rank, index) for index in range(count)]
        made = [torch.Generator().manual_seed(seed) for seed in seeds]
        noise = [streamt1.chunk_noise(run.session, beam.history, each) for each in made]
        return [streamt1.Proposal(*each) for each in zip(seeds, noise, made, strict=True)]


def objects() -> dict[str, Any]:
    return {"rewards": {"dim": Dim()}, "policies": {"selection": Last()}}


def test_a_replay_needs_the_noise_policy(tmp_path: Path) -> None:
    own = {"policies": {"noise": Own()}}
    video = streamt1.wrap(ToyPipeline(), observers=record_to(tmp_path), **own)("a prompt")
    assert torch.equal(regenerate(tmp_path, None, streamt1.wrap(ToyPipeline(), **own)), video)
    with pytest.raises(UnknownNameError, match=r"noise policy 'Own'.* was made with objects"):
        regenerate(tmp_path, None, ToyPipeline())


@pytest.mark.parametrize("again", [ToyPipeline, lambda: streamt1.wrap(ToyPipeline(), "plain")])
def test_a_replay_needs_neither_rewards_nor_policies(tmp_path: Path, again: Any) -> None:
    pipe = streamt1.wrap(ToyPipeline(), observers=record_to(tmp_path), **objects())
    video = pipe("a prompt")
    assert torch.equal(regenerate(tmp_path, None, again()), video)
    assert torch.equal(streamt1.regenerate(tmp_path, pipe.tree.winner[1], again()), video[:6])


def test_a_branch_and_a_resume_get_them_with_a_wrapped_pipeline(tmp_path: Path) -> None:
    video = streamt1.wrap(ToyPipeline(), observers=record_to(tmp_path / "run"), **objects())("a prompt")
    for again in (
        lambda pipe: branch(tmp_path / "run", "001.00", tmp_path / "new", pipe),
        lambda pipe: streamt1.resume(tmp_path / "run", pipe),
    ):
        with pytest.raises(UnknownNameError, match=r"was made with objects .* pass a pipeline that is wrapped"):
            again(ToyPipeline())
    wrapped = streamt1.wrap(ToyPipeline(), **objects())
    assert torch.equal(streamt1.resume(tmp_path / "run", wrapped), video)
    branched = branch(tmp_path / "run", "001.00", tmp_path / "new", wrapped)
    branched.complete(branched.last_run)
    assert all("dim" in node.readings["long"] for node in branched.tree.chunk(3))


def test_observers_that_are_none_are_refused_with_what_to_write(tmp_path: Path) -> None:
    recorded(tmp_path / "run")
    for again in (
        lambda given: streamt1.resume(tmp_path / "run", ToyPipeline(), observers=given),
        lambda given: branch(tmp_path / "run", "001.00", tmp_path / "new", ToyPipeline(), observers=given),
    ):
        with pytest.raises(InputError, match=r"Write observers={'console': {}}"):
            again(["console"])
