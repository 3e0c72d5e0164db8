"""`streamt1 generate --prompts FILE`: a run folder per prompt, over all processes, finished when run again."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from streamt1_plugins import InputError
from streamt1_plugins.cli.batch import folder_of, read_prompts, state_of
from streamt1_plugins.runs.files import Claim
from tests.cli.calling import call, generate, one_line
from tests.launching import CLI, launch, without_times
from tests.toy import ToyAdapter

PROMPTS = ["one", "the second", "three", "the fourth", "five"]
FOLDERS = ["0001-one", "0002-the-second", "0003-three", "0004-the-fourth", "0005-five"]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.txt"
    file.write_text("# a comment\n" + "\n\n".join(PROMPTS) + "\n")
    return file


def trees(out: Path) -> dict[str, object]:
    return {path.name: without_times(json.loads((path / "tree.json").read_text())) for path in sorted(out.iterdir())}


def test_every_prompt_of_a_file_gets_its_video_however_many_processes(prompts: Path, tmp_path: Path) -> None:
    command = ("generate", "--prompts", prompts, "--model", "toy", "--out")
    alone = launch(1, CLI, *command, tmp_path / "alone")
    assert alone.returncode == 0, alone.stderr
    assert sorted(path.name for path in (tmp_path / "alone").iterdir()) == FOLDERS
    grouped = launch(4, CLI, *command, tmp_path / "grouped", "-o", "parallel={prompts: 2, candidates: 2}")
    assert grouped.returncode == 0, grouped.stderr
    assert grouped.stdout.splitlines()[-1] == f"5 videos in {tmp_path / 'grouped'}"
    assert trees(tmp_path / "grouped") == trees(tmp_path / "alone")
    assert "still there at exit" not in grouped.stderr  # a thread of a connection could abort the process now and then


def test_running_again_makes_only_what_is_missing(prompts: Path, tmp_path: Path) -> None:
    command = ("generate", "--prompts", prompts, "--model", "toy", "--out", tmp_path / "out")
    assert launch(1, CLI, *command).returncode == 0
    before = trees(tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / FOLDERS[4])
    file = tmp_path / "out" / FOLDERS[2] / "journal.jsonl"
    file.write_text("\n".join(file.read_text().splitlines()[:8]) + "\n")  # as if it had been killed
    (tmp_path / "out" / FOLDERS[2] / "state" / "head.safetensors").unlink()
    again = launch(2, CLI, *command)
    assert again.returncode == 0, again.stderr
    assert trees(tmp_path / "out") == before
    other = launch(1, CLI, *command, "--seed", 7)
    assert "holds a run of another prompt or recipe" in other.stderr


def test_every_prompt_has_a_wandb_run_of_its_own_with_its_own_page(
    prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    pages: list[str] = []
    monkeypatch.setattr("streamt1_plugins.runs.observers.wandb.render", lambda folder: pages.append(folder) or "page")
    monkeypatch.setenv("WANDB_SILENT", "true")
    prompts.write_text("one\nthe second\n")
    result = call("generate", "--prompts", str(prompts), "--model", "toy", "--out", "out", "--wandb", "mine")
    assert result.exit_code == 0, result.output
    folders = [Path("out", name) for name in FOLDERS[:2]]
    assert pages == list(map(str, folders))
    assert len({json.loads((folder / "wandb.json").read_text())["id"] for folder in folders}) == 2
    assert len(list(tmp_path.rglob("*.wandb"))) == 2
    assert not Path("out/wandb.json").exists()


def test_what_another_batch_is_making_is_left_to_it(prompts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    claim = Claim(out / FOLDERS[1], owner="the other batch")
    found = call("generate", "--prompts", str(prompts), "--model", "toy", "--out", str(out))
    claim.release()
    assert found.exit_code == 0, found.output
    assert f"{FOLDERS[1]}  (another process makes it)" in found.output
    assert [(out / name / "video.mp4").exists() for name in FOLDERS] == [True, False, True, True, True]


# Reading the file and the folders.


def test_a_file_has_a_prompt_per_line(prompts: Path) -> None:
    assert read_prompts(prompts) == PROMPTS


@pytest.mark.parametrize(("text", "message"), [(None, "does not exist"), ("# nothing\n\n", "holds no prompts")])
def test_a_file_without_prompts_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / "prompts.txt"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InputError, match=message):
        read_prompts(file)


def test_a_folder_is_named_by_number_and_prompt(tmp_path: Path) -> None:
    assert folder_of(tmp_path, 0, "A red/CIRCLE, moving!").name == "0001-a-red-circle-moving"
    assert folder_of(tmp_path, 11, "?").name == "0012"


@pytest.mark.parametrize("args", [("a prompt", "--prompts", "p.txt", "--out", "o"), ("--prompts", "p.txt")])
def test_a_file_takes_the_place_of_the_prompt_and_needs_a_folder(args: tuple[str, ...]) -> None:
    assert "--prompts FILE takes the place of PROMPT" in one_line(call("generate", *args))


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
    assert state_of(tmp_path / "other", "a prompt", recipe) == "new"
    assert state_of(folder, "a prompt", recipe) == "done"
    journal = folder / "journal.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:-1]))
    assert state_of(folder, "a prompt", recipe) == "begun"


def test_observers_and_processes_may_differ(folder: Path) -> None:
    recipe = {**recorded(folder), "observers": {"wandb": {}}, "parallel": {"candidates": 4}}
    assert state_of(folder, "a prompt", recipe) == "done"


@pytest.mark.parametrize(("prompt", "changes"), [("another", {}), ("a prompt", {"seed": 7})])
def test_a_run_of_something_else_is_refused(folder: Path, prompt: str, changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"holds a run of another prompt or recipe\. Choose another --out"):
        state_of(folder, prompt, recorded(folder) | changes)


def test_a_run_recorded_under_the_old_keys_is_the_same_recipe(folder: Path) -> None:
    recipe, journal = recorded(folder), folder / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    started = json.loads(lines[0])
    started["recipe"]["search"]["park"] = {"none": "device"}[started["recipe"]["search"].pop("offload")]
    started["recipe"]["parallel"]["previews"] = started["recipe"]["parallel"].pop("thumbnails")
    journal.write_text(json.dumps(started) + "\n" + "".join(lines[1:]))
    assert state_of(folder, "a prompt", recipe) == "done"


# Prompts that cannot be made.


def test_a_prompt_that_fails_is_reported_with_its_line_and_the_others_are_made() -> None:
    Path("p.txt").write_text("one\n\n# comment\nb\x1bd\nthree\nwords that are too long " + "x" * 300 + "\n")
    done = call("generate", "--prompts", "p.txt", "--model", "toy", "--out", "out")
    assert done.exit_code == 3
    assert re.search(r"Error: p\.txt, line 4: character 2 is U\+001B .*The other prompts are made", done.stderr)
    assert done.stdout.splitlines()[-1] == "3 videos in out"
    made = sorted(path.name for path in Path("out").iterdir() if (path / "video.mp4").exists())
    assert [name[:11] for name in made] == ["0001-one", "0003-three", "0004-words-"]
    assert max(map(len, made)) <= 80
    Path("p.txt").write_text(Path("p.txt").read_text().replace("\x1b", ""))
    again = call("generate", "--prompts", "p.txt", "--model", "toy", "--out", "out")
    assert again.exit_code == 0
    assert again.stdout.count("(exists)") == 3


def test_a_run_that_fails_is_reported_and_the_others_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_session(self: ToyAdapter, pipe: Any, call: dict[str, Any], memory: Any) -> Any:
        failing = {"refused": {"prompt": ""}, "broken": {"fail_at": 1}}.get(call["prompt"], {})
        return opened(self, pipe, {**call, **failing}, memory)

    opened = ToyAdapter.open
    monkeypatch.setattr(ToyAdapter, "open", open_session)
    Path("p.txt").write_text("refused\none\nbroken\ntwo\n")
    done = call("generate", "--prompts", "p.txt", "--model", "toy", "--out", "out")
    assert done.exit_code == 3
    assert "Error: p.txt, line 1: The prompt is empty." in done.stderr
    assert "Error: p.txt, line 3: Making this video failed: RuntimeError: the pipeline broke" in done.stderr
    assert done.stdout.splitlines()[-1] == "2 videos in out"


def test_where_no_prompt_can_be_used_nothing_is_loaded() -> None:
    Path("p.txt").write_text("\x07\n")
    result = call("generate", "--prompts", "p.txt", "--model", "toy", "--out", "out")
    assert "p.txt: no prompt can be used. Line 1: " in one_line(result)
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["-o", "observers.video.path=all.mp4"], "The observer 'video' writes one run, to all.mp4"),
        (["--json"], "--json prints the summary of one run"),
        (["--num-frames", "4101", "--model", "tinyworld"], "The longest video is 4089 frames"),
    ],
)
def test_what_would_meet_every_prompt_is_refused_at_once(prompts: Path, args: list[str], message: str) -> None:
    result = call("generate", "--prompts", str(prompts), "--model", "toy", "--out", "out", *args)
    assert message in one_line(result)
    assert not Path("out").exists()


def test_failures_of_other_processes_count(prompts: Path, tmp_path: Path) -> None:
    prompts.write_text("one\nb\x07d\nthree\nfour\n")
    command = ("generate", "--prompts", prompts, "--model", "toy", "--out", tmp_path / "out")
    done = launch(2, CLI, *command)
    assert done.returncode != 0
    assert "3 videos in " in done.stdout
    assert done.stderr.count("line 2: character 2 is U+0007") == 1
    assert len(list((tmp_path / "out").glob("*/video.mp4"))) == 3
