"""A folder for every run of a wrapped pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.errors import InputError, OutputError
from streamt1_plugins.runs.observers.record import record_to
from tests.toy import ToyPipeline


def test_a_loop_of_calls_leaves_a_folder_per_call(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("other files may lie there")
    pipe, made = streamt1.wrap(ToyPipeline(), observers=record_to(tmp_path, per_run=True)), []
    for prompt in ("A fox, in the snow!", "A fox, in the snow!", "../../etc"):
        video = pipe(prompt)
        made.append(pipe.run_folder)
        assert torch.equal(streamt1.regenerate(pipe.run_folder, pipe=ToyPipeline()), video)
    assert len(set(made)) == 3
    assert {each.parent for each in made} == {tmp_path}
    assert [each.name.split("-", 2)[2] for each in made[::2]] == ["a-fox-in-the-snow", "etc"]
    assert all({"video.mp4", "report.html", "journal.jsonl"} <= {file.name for file in each.iterdir()} for each in made)


def test_a_call_of_several_prompts_leaves_a_folder_per_video(tmp_path: Path) -> None:
    pipe = streamt1.wrap(ToyPipeline(), observers=record_to(tmp_path, per_run=True))
    with pytest.raises(AttributeError):  # the toy's tensors cannot be joined, once both are made
        pipe(["one", "two"])
    assert sorted(each.name.split("-", 2)[2] for each in tmp_path.iterdir()) == ["one", "two"]


def test_the_recipes_options_are_those_of_every_run(tmp_path: Path) -> None:
    recipe = {"extends": "plain", "observers": {"journal": {"state": False}}}
    pipe = streamt1.wrap(ToyPipeline(), recipe, observers=record_to(tmp_path, per_run=True))
    pipe("a prompt")
    assert (pipe.run_folder / "journal.jsonl").exists()
    assert not (pipe.run_folder / "state").exists()


def test_wrong_places_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        streamt1.wrap(ToyPipeline(), observers=record_to(tmp_path / "file", per_run=True))
    with pytest.raises(InputError, match="choose one"):
        record_to(tmp_path, append=True, per_run=True)
    with pytest.raises(InputError, match="`folder` has to be a path, got None"):
        record_to(None)  # type: ignore[arg-type]


def test_a_second_call_into_one_folder_names_the_way(tmp_path: Path) -> None:
    pipe = streamt1.wrap(ToyPipeline(), observers=record_to(tmp_path / "run"))
    pipe("a prompt")
    with pytest.raises(OutputError, match=r"already holds a run\..* record_to\(\.\.\., per_run=True\)"):
        pipe("a prompt")
    with pytest.raises(InputError, match=r"record_to\(FOLDER, per_run=True\)"):
        pipe(["a prompt", "another"])
