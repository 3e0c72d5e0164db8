"""Run folders of a batch: found by what they hold, whatever they are called."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from streamt1_plugins import InputError
from streamt1_plugins.cli.batch_folders import Folders, folder_name, state_of
from streamt1_plugins.config.prompt_file import PromptLine
from streamt1_plugins.plugins.resolve import resolve
from tests.cli.calling import generate


def test_a_folder_is_named_by_number_prompt_and_one_of_several_seeds() -> None:
    assert folder_name(1, "A red/CIRCLE, moving!") == "0001-a-red-circle-moving"
    assert folder_name(12, "?") == "0012"
    assert folder_name(1, "one", 7) == "0001-one-seed-7"
    long = [folder_name(1, "w" * 99, seed) for seed in (2**64 - 1, 2**64 - 2)]
    assert len(set(long)) == 2
    assert max(map(len, long)) <= 80


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished run."""
    assert generate("--out", "run", "-q").exit_code == 0
    return tmp_path / "run"


def recorded(folder: Path) -> dict[str, Any]:
    """The recipe in the journal."""
    found: dict[str, Any] = json.loads((folder / "journal.jsonl").read_text().splitlines()[0])["recipe"]
    return found


def test_a_run_is_new_begun_or_done(folder: Path, tmp_path: Path) -> None:
    recipe = recorded(folder)
    assert state_of(tmp_path / "other", PromptLine(1, "a prompt"), recipe) == "new"
    assert state_of(folder, PromptLine(1, "a prompt"), recipe) == "done"
    journal = folder / "journal.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:-1]))
    assert state_of(folder, PromptLine(1, "a prompt"), recipe) == "begun"


def test_observers_and_processes_may_differ(folder: Path) -> None:
    recipe = {**recorded(folder), "observers": {"wandb": {}}, "parallel": {"candidates": 4}}
    assert state_of(folder, PromptLine(1, "a prompt"), recipe) == "done"


@pytest.mark.parametrize(("prompt", "changes"), [("another", {}), ("a prompt", {"seed": 7})])
def test_a_run_of_something_else_is_refused(folder: Path, prompt: str, changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"holds a run of another prompt or recipe\. Choose another --out"):
        state_of(folder, PromptLine(1, prompt), recorded(folder) | changes)


def test_a_run_recorded_under_the_old_keys_is_the_same_recipe(folder: Path) -> None:
    recipe, journal = recorded(folder), folder / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    started = json.loads(lines[0])
    started["recipe"]["search"]["park"] = {"none": "device"}[started["recipe"]["search"].pop("offload")]
    started["recipe"]["parallel"]["previews"] = started["recipe"]["parallel"].pop("thumbnails")
    journal.write_text(json.dumps(started) + "\n" + "".join(lines[1:]))
    assert state_of(folder, PromptLine(1, "a prompt"), recipe) == "done"


def test_a_folder_is_found_by_what_it_holds(folder: Path, tmp_path: Path) -> None:
    recipe = recorded(folder)
    for other, text in (("empty", None), ("torn", ""), ("list", "[]\n"), ("nested", "[" * 9999)):
        (tmp_path / other).mkdir()
        if text is not None:
            (tmp_path / other / "journal.jsonl").write_text(text)
    found = Folders(tmp_path)
    assert found.of(PromptLine(1, "a prompt"), recipe, "name") == folder
    assert found.of(PromptLine(1, "a prompt"), {**recipe, "seed": 7}, "run").name == "run-2"
    assert found.of(PromptLine(1, "a prompt"), {**recipe, "seed": 8}, "run").name == "run-3"
    assert found.of(PromptLine(1, "another"), recipe, "empty").name == "empty"
    assert found.of(PromptLine(1, "another"), recipe, "torn").name == "torn-2"


def test_a_size_counts_wherever_it_was_given(folder: Path, tmp_path: Path) -> None:
    recipe = recorded(folder)
    sized = {**recipe, "video": {**recipe["video"], "num_frames": 33}}
    with pytest.raises(InputError, match="another prompt or recipe"):
        state_of(folder, PromptLine(1, "a prompt"), sized)
    _edit(folder, lambda start: start["call"].update(num_frames=33))  # as earlier versions have it
    _edit(folder, lambda start: start["recipe"].pop("video"))
    assert state_of(folder, PromptLine(1, "a prompt"), sized) == "done"
    with pytest.raises(InputError):
        state_of(folder, PromptLine(1, "a prompt"), recipe)


def test_options_that_a_part_has_had_since_make_no_other_video(folder: Path) -> None:
    recipe = recorded(folder)
    _edit(folder, lambda start: start["recipe"]["adapter"].pop("gain"))
    assert "gain" in recipe["adapter"]
    assert state_of(folder, PromptLine(1, "a prompt"), recipe) == "done"


def test_runs_of_version_0_1_are_found_the_finished_one_first(tmp_path: Path) -> None:
    runs = Path(__file__).parents[1] / "data" / "runs-0.1"
    start = json.loads((runs / "interrupted" / "journal.jsonl").read_text().splitlines()[0])
    sizes = {name: size for name, size in start["call"].items() if name == "num_frames"}
    recipe = resolve(start["recipe"]).with_video(**sizes).model_dump(mode="json")
    for name in ("interrupted", "finished"):
        shutil.copytree(runs / name, tmp_path / name)
        assert Folders(tmp_path).of(PromptLine(1, start["prompt"]), recipe, "new") == tmp_path / name


def _edit(folder: Path, change: Any) -> None:
    journal = folder / "journal.jsonl"
    first, *rest = journal.read_text().splitlines(keepends=True)
    start = json.loads(first)
    change(start)
    journal.write_text(json.dumps(start) + "\n" + "".join(rest))
