"""Takes of the toy pipeline in the studio's thread: what a person does is what the record and the replay have."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.errors import InputError, RecipeError
from streamt1_studio import studio as module
from streamt1_studio.hand import Hand
from streamt1_studio.sitting import Sitting
from streamt1_studio.studio import Studio
from tests.toy import ToyPipeline


def until(find: Callable[[], Any]) -> Any:
    """What is found, as soon as it is."""
    end = time.monotonic() + 60
    while not (found := find()):
        assert time.monotonic() < end
        time.sleep(0.005)
    return found


def settled(sitting: Sitting) -> dict[str, Any]:
    """The view of a take when nothing more is done with it."""
    until(lambda: sitting.state in ("waiting", "parked", "finished"))
    assert sitting.problem == ""
    return sitting.view


def do(studio: Studio, sitting: Sitting, work: Callable[[Hand], None]) -> dict[str, Any]:
    studio.want(sitting, "A step", work)
    return settled(sitting)


def finished(studio: Studio, sitting: Sitting) -> dict[str, Any]:
    studio.play(sitting, True)
    until(lambda: sitting.state == "finished")
    return sitting.view


def test_a_video_made_by_hand_is_replayed_bit_by_bit(toy_studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    made, finish = [], Hand.finish
    monkeypatch.setattr(Hand, "finish", lambda hand: (finish(hand), made.append(hand.take.frames)))
    sitting = toy_studio.start("a prompt", "stream-t1", 3, None)
    view = settled(sitting)
    assert len(view["candidates"]) == 4
    assert sitting.pictures.keys() == set(view["candidates"])
    mine = next(name for name in view["candidates"] if name not in view["choice"])
    do(toy_studio, sitting, lambda hand: hand.keep(mine))
    view = do(toy_studio, sitting, lambda hand: hand.reroll(3, None))
    assert len(view["candidates"]) == 5
    view = do(toy_studio, sitting, lambda hand: hand.reroll(None, view["candidates"][0]))
    do(toy_studio, sitting, lambda hand: hand.keep(view["candidates"][-1]))
    view = do(toy_studio, sitting, lambda hand: hand.back_to(1))
    assert view["path"] == [mine]
    assert {node["fate"] for node in view["nodes"] if node["chunk"] == 1} == {"abandoned", None}
    view = do(toy_studio, sitting, lambda hand: hand.prompt("another prompt", "flush"))
    assert [scene["prompt"] for scene in view["scenes"]] == ["a prompt", "another prompt"]
    view = finished(toy_studio, sitting)
    assert next(node for node in view["nodes"] if node["id"] == mine)["by"] == "person"
    assert [node["by"] for node in view["nodes"] if node["id"] in view["path"][1:]] == ["policy"] * 3
    tree = json.loads((sitting.folder / "tree.json").read_text())
    assert tree["winner"] == view["path"]
    assert torch.equal(streamt1.regenerate(sitting.folder, None, ToyPipeline()), made[0])


def test_a_take_that_only_plays_is_what_the_recipe_makes(toy_studio: Studio) -> None:
    sitting = toy_studio.start("a prompt", "stream-t1", 3, None, playing=True)
    until(lambda: sitting.state == "finished")
    pipe = streamt1.wrap(ToyPipeline(), overrides=["seed=3"])
    pipe("a prompt")
    assert tuple(sitting.view["path"]) == pipe.tree.winner
    assert not [node for node in sitting.view["nodes"] if node["by"] == "person"]


def test_takes_share_the_model_and_are_opened_again(toy_studio: Studio) -> None:
    first = toy_studio.start("one", "stream-t1", 1, None)
    kept = settled(first)["candidates"][1]
    do(toy_studio, first, lambda hand: hand.keep(kept))
    second = toy_studio.start("two", "beam", 1, None)
    settled(second)
    assert (first.state, second.state) == ("parked", "waiting")
    view = do(toy_studio, first, lambda hand: hand.reroll(None, None))
    assert (view["path"], first.state, second.state) == ([kept], "waiting", "parked")
    assert finished(toy_studio, second)["done"] == 4
    assert finished(toy_studio, first)["path"][0] == kept


def test_a_studio_that_ends_leaves_runs_that_the_next_one_opens(toy_studio: Studio, tmp_path: Path) -> None:
    sitting = toy_studio.start("one", "stream-t1", 1, None)
    kept = settled(sitting)["candidates"][1]
    do(toy_studio, sitting, lambda hand: hand.keep(kept))
    toy_studio.close()
    other = Studio(ToyPipeline(), tmp_path / "runs")
    try:
        (run,) = other.shelf.runs()
        assert (run["prompt"], run["status"]) == ("one", "stopped")
        folder = other.shelf.find(run["id"])
        assert folder is not None
        assert finished(other, other.reopened(folder))["path"][0] == kept
        again = other.reopened(folder)  # finished, and continued all the same
        assert settled(again)["done"] == 4
        assert do(other, again, lambda hand: hand.back_to(2))["done"] == 2
        assert finished(other, again)["path"][0] == kept
        branched = other.branched(folder, "000.02")
        assert finished(other, branched)["path"][0] == "000.02"
    finally:
        other.close()


def test_two_studios_of_one_second_have_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_studio: Studio
) -> None:
    class Still(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Still:
            return cls(2026, 1, 2, tzinfo=tz)

    monkeypatch.setattr(module, "datetime", Still)
    first = toy_studio.start("one", "beam", 1, None)
    settled(first)
    other = Studio(ToyPipeline(), tmp_path / "runs")
    try:
        second = other.start("two", "beam", 1, None)
        settled(second)
        assert (first.folder.name, second.folder.name) == ("20260102-000000-001", "20260102-000000-002")
    finally:
        other.close()


def test_what_a_take_refuses_is_said_and_nothing_is_lost(toy_studio: Studio) -> None:
    sitting = toy_studio.start("a prompt", "stream-t1", 3, None)
    before = settled(sitting)
    for work, why in (
        (lambda hand: hand.keep("000.77"), "000.77"),
        (lambda hand: hand.back_to(9), "not made yet"),
        (lambda hand: hand.prompt("another", "flush"), "Chunk 0 has the prompt"),
        (lambda hand: hand.finish(), "Nothing was kept"),
        (lambda hand: 1 / 0, "division by zero"),
    ):
        toy_studio.want(sitting, "A step", work)
        until(lambda: sitting.state == "waiting")
        assert why in sitting.problem
        assert sitting.view["candidates"] == before["candidates"]
    view = do(toy_studio, sitting, lambda hand: hand.keep(None))
    assert view["done"] == 1


def test_a_refused_prompt_leaves_the_model_to_the_next_take(toy_studio: Studio) -> None:
    refused = toy_studio.start("", "stream-t1", 3, None)
    until(lambda: refused.state == "parked")
    assert "empty" in refused.problem
    settled(toy_studio.start("a prompt", "stream-t1", 3, None))


def test_recipes_are_the_shipped_ones_and_those_that_were_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("extends: beam\nsearch: {candidates: 3}\n")
    studio = Studio(ToyPipeline(), tmp_path / "runs", (str(file),))
    try:
        assert studio.wrapped(str(file)).recipe.search.candidates == 3
        with pytest.raises(InputError, match="offers no recipe"):
            studio.wrapped(str(tmp_path / "other.yaml"))
        with pytest.raises(RecipeError):
            studio.wrapped("beam", seed=-1)
    finally:
        studio.close()


def test_takes_have_a_limit(toy_studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamt1_studio.studio.MOST_TAKES", 1)
    sitting = toy_studio.start("a prompt", "stream-t1", 3, None)
    with pytest.raises(InputError, match="1 takes are open"):
        toy_studio.start("a prompt", "stream-t1", 3, None)
    settled(sitting)
    finished(toy_studio, sitting)
    settled(toy_studio.start("a prompt", "stream-t1", 3, None))
