"""Every shipped recipe: valid, complete for the bundled model, and with a header that tells how to run it."""

from __future__ import annotations

import inspect
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins import pipeline
from streamt1_plugins.config import load as recipe
from streamt1_plugins.plugins import build
from tests.toy import ToyPipeline

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "recipes").rglob("*.yaml"))
GENERAL = [path for path in FILES if recipe.load(path).adapter.name is None]  # the others name a model of their own
DEFAULT = inspect.signature(streamt1.wrap).parameters["recipe"].default


def header(path: Path) -> str:
    return " ".join(recipe.header(path).split())


def test_the_shipped_names_are_the_files() -> None:
    assert len({path.stem for path in FILES}) == len(FILES) >= 5
    assert sorted(recipe.names()) == sorted(path.stem for path in FILES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_header_says_what_is_needed_and_how_to_run_it(path: Path) -> None:
    assert re.search(r"\bNeeds: \S", header(path))
    command = re.search(r"\bRun: (streamt1 .*)", header(path))
    assert command
    words = shlex.split(command[1])
    named = words[words.index("--recipe") + 1] if "--recipe" in words else DEFAULT
    assert words[:2] == ["streamt1", "generate"]
    assert named == path.stem


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_is_valid_and_described(path: Path) -> None:
    loaded = recipe.load(path)
    assert loaded.description
    assert build.policies(loaded).keys() == {"width", "noise", "scoring", "revision", "selection", "memory"}


@pytest.mark.parametrize("path", GENERAL, ids=lambda path: path.stem)
def test_it_runs_on_the_bundled_model(path: Path) -> None:
    completed = pipeline.resolve(path, "tinyworld")
    assert completed.adapter.name == "tinyworld"
    assert completed.rewards.are_named == (completed.search.is_wide and completed.selection.name != "random")
    assert bool(build.rewards(completed)) == completed.rewards.are_named


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_length_in_its_name_or_description_is_the_length_of_its_video(path: Path) -> None:
    loaded = pipeline.resolve(path, "tinyworld") if path in GENERAL else pipeline.resolve(path)
    promised = re.search(r"(\d+) ?s(econds)?\b", f"{path.stem} {loaded.description}")
    frames = loaded.video.num_frames or loaded.adapter.options["num_frames"]
    if promised:
        assert round(frames / 16) == int(promised[1])
    assert promised or path.stem != "30s"


def flat(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in data.items():
        nested = isinstance(value, dict) and value
        found |= flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return found


DIFFERENCES = {
    "noise.seeds",
    "memory.history",
    "sinks.sink_precision",
    "rewards.decode",
    "rewards.pixels",
    "rewards.replace",
}


def test_stream_t1_differs_from_the_release_only_where_comments_say_so() -> None:
    ours, theirs = (flat(recipe.load(name).model_dump()) for name in ("stream-t1", "stream-t1-paper"))
    different = {key for key in ours | theirs if ours.get(key) != theirs.get(key)}
    assert different - {"description"} == DIFFERENCES
    text = "\n".join(recipe.names()[name].read_text(encoding="utf-8") for name in ("stream-t1", "stream-t1-paper"))
    uncommented = [key for key in DIFFERENCES if not re.search(rf"\b{key.rpartition('.')[2]}: \S+.*#", text)]
    assert not uncommented


def test_plain_leaves_nothing_to_search() -> None:
    plain = recipe.load("plain")
    assert not plain.search.is_wide
    assert plain.noise.options["sigma"] == 0
    assert plain.memory.name == "fixed"


def test_early_pruning_is_one_key_away_from_a_search_without_it() -> None:
    early, wide = recipe.load("early-pruning", ["early.steps=0"]), recipe.load("stream-t1", ["search.candidates=4"])
    assert recipe.load("early-pruning").early.steps == 1
    assert early.model_copy(update={"description": wide.description}) == wide


def run(*overrides: str, recipe: str = "stream-t1") -> streamt1.StreamPipeline:
    pipe = streamt1.wrap(ToyPipeline(), recipe, overrides=overrides)
    pipe.video = pipe("a prompt", chunks=6)
    return pipe


def test_the_options_are_off_unless_asked_for() -> None:
    pipe = run()
    off = run("scoring.window=1", "scoring.decay=0.5", "scoring.horizon=both", "selection.per_parent=null")
    assert torch.equal(pipe.video, off.video)
    assert [node.score for node in pipe.tree] == [node.score for node in off.tree]
    assert pipe.recipe.scoring.options == {"cap": 0.4, "horizon": "both", "window": 1, "decay": 1.0}
    assert pipe.recipe.selection.options == {"per_parent": None}


def test_an_ablation_changes_one_unit() -> None:
    assert not any(node.propagated for node in run(recipe="no-noise").tree)
    assert {node.route for node in run(recipe="no-sinking").tree if node.chunk} == {"discard"}
    assert {node.route for node in run(recipe="no-noise").tree if node.chunk} != {"discard"}
    assert any(node.propagated for node in run(recipe="no-sinking").tree)
