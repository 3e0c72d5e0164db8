"""The observer `folder`: recipe, tree and summary, at any time and after failures."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

import streamt1_plugins as streamt1
from streamt1_plugins import hookimpl
from streamt1_plugins.config import load as recipe
from streamt1_plugins.errors import OutputError
from streamt1_plugins.runs.files import to_json
from streamt1_plugins.runs.observers import folder as folders
from streamt1_plugins.runs.observers.folder import Folder
from tests.runs.shared import Failing, run
from tests.toy import ToyPipeline


def test_the_folder_holds_the_complete_recipe_tree_and_summary(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "one"
    pipe = run({"folder": Folder(str(out))}, "search.candidates=3", "seed=7")
    assert recipe.load(out / "recipe.yaml") == pipe.last_run.recipe
    assert json.loads((out / "tree.json").read_text()) == json.loads(to_json(pipe.tree.to_dict()))
    found = json.loads((out / "summary.json").read_text())
    assert found["prompt"] == "a prompt"
    assert found["seed"] == 7
    assert found["error"] is None
    assert found["chunks"] == {"done": 4, "of": 4}
    assert found["video"] == {"frames": 12, "height": 2, "width": 2, "fps": 8.0}
    assert found["cost"]["candidates"] == 24
    assert found["winner"]["path"] == list(pipe.tree.winner)
    assert found["winner"]["whole_video"] == pipe.tree.final[pipe.tree.winner[-1]]
    assert {"wall", "generate", "decode", "reward", "commit"} <= set(found["seconds"])
    assert {"python", "torch", "diffusers", "transformers", "streamt1-plugins"} == set(found["versions"])


def test_a_prompt_in_another_encoding_does_not_break_the_record(tmp_path: Path) -> None:
    pipe = streamt1.wrap(ToyPipeline(), "plain", observers={"folder": Folder(str(tmp_path / "o"))})
    pipe("a caf\udce9")
    assert json.loads((tmp_path / "o" / "summary.json").read_text())["prompt"] == "a caf?"


def test_without_rewards_there_is_no_score(tmp_path: Path) -> None:
    run({"folder": Folder(str(tmp_path / "o"))}, recipe="plain")
    assert json.loads((tmp_path / "o" / "summary.json").read_text())["winner"]["score"] is None


def test_the_tree_is_on_disk_after_every_chunk_and_whole_at_any_time(tmp_path: Path) -> None:
    seen: list[int] = []

    class Reader:
        @hookimpl(trylast=True)
        def streamt1_chunk_selected(self) -> None:
            seen.append(len(json.loads((tmp_path / "o" / "tree.json").read_text())["nodes"]))
            assert not [file for file in (tmp_path / "o").iterdir() if file.name.endswith(".part")]

    run({"folder": Folder(str(tmp_path / "o")), "reader": Reader()})
    assert seen == [4, 8, 12, 16]


def test_the_summary_of_an_interrupted_run_names_the_interruption(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run({"folder": Folder(str(tmp_path / "o")), "failing": Failing(1, KeyboardInterrupt())})
    found = json.loads((tmp_path / "o" / "summary.json").read_text())
    assert found["error"] == "KeyboardInterrupt"
    assert found["chunks"] == {"done": 2, "of": 4}
    assert len(found["winner"]["path"]) == 2


def test_a_folder_that_holds_a_run_is_refused_and_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "o"
    run({"folder": Folder(str(out))})
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    with pytest.raises(OutputError, match="already holds a run"):
        run({"folder": Folder(str(out))}, "seed=1")
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


@pytest.mark.parametrize("below", ["file", "file/deeper"])
def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_generated(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    pipe = streamt1.wrap(ToyPipeline(), observers={"folder": Folder(str(tmp_path / below))})
    with pytest.raises(OutputError, match=r"cannot be made: .* is a file"):
        pipe("a prompt")
    assert pipe.run.session.forwards == 0


def test_a_full_disk_at_a_chunk_does_not_end_the_run_but_at_the_end_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = folders.write_atomically

    def full(path: Path, content: str | bytes) -> None:
        if path.name == folders.TREE:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, content)

    monkeypatch.setattr(folders, "write_atomically", full)
    with pytest.raises(OutputError, match=r"could not be brought up to date in .*: No space left on device"):
        run({"folder": Folder(str(tmp_path / "o"))})
    assert "tree.json was not updated" in caplog.text
