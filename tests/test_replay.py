"""A recorded path is generated again from seeds, and a person can continue any node of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.errors import UnknownNameError
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
