"""`streamt1 generate --prompts FILE`: a run folder per prompt, over all processes, finished when run again."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from streamt1_plugins import InputError
from streamt1_plugins.cli.batch import read_prompts
from streamt1_plugins.cli.batch_folders import folder_name
from streamt1_plugins.runs.files import Claim
from streamt1_plugins.runs.sheet import INDEX
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
    folders = sorted(path for path in out.iterdir() if path.is_dir())
    return {path.name: without_times(json.loads((path / "tree.json").read_text())) for path in folders}


def test_every_prompt_of_a_file_gets_its_video_however_many_processes(prompts: Path, tmp_path: Path) -> None:
    command = ("generate", "--prompts", prompts, "--model", "toy", "--out")
    alone = launch(1, CLI, *command, tmp_path / "alone")
    assert alone.returncode == 0, alone.stderr
    assert sorted(path.name for path in (tmp_path / "alone").iterdir()) == sorted([*FOLDERS, INDEX])
    grouped = launch(4, CLI, *command, tmp_path / "grouped", "-o", "parallel={prompts: 2, candidates: 2}")
    assert grouped.returncode == 0, grouped.stderr
    assert grouped.stdout.splitlines()[-2] == f"5 videos in {tmp_path / 'grouped'}"
    assert (tmp_path / "grouped" / INDEX).read_text().count('<li class="run"') == 5
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


def test_a_line_with_a_schedule_is_a_video_of_its_own(tmp_path: Path) -> None:
    """Two schedules that begin alike, and a prompt that does not change: three folders, found again."""
    entries: list[Any] = [{"prompt": "sun", "schedule": [{"chunk": chunk, "prompt": "rain"}]} for chunk in (1, 2)]
    lines = ["sun", *map(json.dumps, entries), json.dumps(entries[0]), '{"prompt": "sun"}']
    Path("scenes.jsonl").write_text("\n".join(lines))
    command = ("generate", "--prompts", "scenes.jsonl", "--model", "toy", "--out", "out")
    made = call(*command)
    assert made.exit_code == 0, made.output
    assert "line 4 is the prompt of line 2" in made.stderr
    assert "line 5 is the prompt of line 1" in made.stderr
    journals = [path.read_text().partition("\n")[0] for path in sorted(Path("out").glob("*/journal.jsonl"))]
    calls = [json.loads(each)["call"].get("schedule") for each in journals]
    assert calls == [None, *([{**scene, "memory": "keep"} for scene in each["schedule"]] for each in entries)]
    again = call(*command)
    assert again.stdout.count("(exists)") == 3
    assert "from chunk 2 (keep): rain" in call(*command, "--dry-run").stdout


def test_a_wrong_schedule_is_a_problem_of_its_line_alone() -> None:
    late = {"prompt": "sun", "schedule": [{"chunk": 9, "prompt": "rain"}]}
    Path("scenes.jsonl").write_text(f'moon\n{json.dumps(late)}\n{{"promt": "x"}}')
    made = call("generate", "--prompts", "scenes.jsonl", "--model", "toy", "--out", "out", "-q")
    assert made.exit_code == 3
    assert "line 2: A scene begins at chunk 9" in made.stderr
    assert "line 3: unknown key 'promt'. Did you mean 'prompt'?" in made.stderr
    assert made.stdout == "out/0001-moon/video.mp4\n"


# Reading the file.


def test_a_file_has_a_prompt_per_line(prompts: Path) -> None:
    assert read_prompts(prompts) == PROMPTS


@pytest.mark.parametrize(("text", "message"), [(None, "does not exist"), ("# nothing\n\n", "holds no prompts")])
def test_a_file_without_prompts_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / "prompts.txt"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InputError, match=message):
        read_prompts(file)


@pytest.mark.parametrize("args", [("a prompt", "--prompts", "p.txt", "--out", "o"), ("--prompts", "p.txt")])
def test_a_file_takes_the_place_of_the_prompt_and_needs_a_folder(args: tuple[str, ...]) -> None:
    assert "--prompts FILE takes the place of PROMPT" in one_line(call("generate", *args))


# What a video of a batch is.


def batch(*args: str, lines: str = "one\nthe second\n") -> Any:
    Path("p.txt").write_text(lines)
    done = call("generate", "--prompts", "p.txt", "--model", "toy", "--out", "out", *args)
    assert done.exit_code == 0, done.output
    return done


def made() -> dict[str, int]:
    """When each video was written, by its folder."""
    return {path.parent.name: path.stat().st_mtime_ns for path in Path("out").glob("*/video.mp4")}


def test_a_line_in_between_makes_one_video_more() -> None:
    batch()
    before = made()
    done = batch(lines="new\n# comment\none\nbetween\nthe second\n")
    assert done.stdout.count("(exists)") == 2
    assert {name: when for name, when in made().items() if name in before} == before
    assert len(made()) == 4


def test_a_folder_is_found_wherever_its_line_is_now_and_whatever_it_is_called() -> None:
    batch()
    Path("out/0001-one").rename("out/mine")
    before = made()
    done = batch(lines="first\nthe second\none\n")
    assert "[2/3] out/0002-the-second  (exists)" in done.stdout
    assert "[3/3] out/mine  (exists)" in done.stdout
    assert {name: when for name, when in made().items() if name in before} == before
    assert set(made()) == {"mine", "0002-the-second", "0001-first"}


@pytest.mark.parametrize("args", [["--seed", "7"], ["-o", "search.top_k=3"], ["--num-frames", "33"]])
def test_another_seed_recipe_or_length_is_another_video(args: list[str]) -> None:
    batch()
    before = made()
    assert "(exists)" not in batch(*args).stdout
    assert len(made()) == 4
    assert {name: when for name, when in made().items() if name in before} == before
    assert batch(*args).stdout.count("(exists)") == 2
    assert batch().stdout.count("(exists)") == 2


def test_what_decides_no_video_makes_none_again() -> None:
    batch()
    assert batch("-o", "description=mine", "-o", "placement.check=false").stdout.count("(exists)") == 2


def test_a_prompt_that_stands_there_twice_is_made_once() -> None:
    done = batch(lines="one\n\ntwo\none\n")
    assert "p.txt, line 4 is the prompt of line 1, which is made once." in done.stderr
    assert "2 videos in out" in done.stdout
    assert len(made()) == 2


def test_every_seed_of_every_prompt_has_a_folder_and_is_the_video_of_that_seed() -> None:
    batch("--seeds", "3-4")
    assert set(made()) == {
        folder_name(n, prompt, seed) for n, prompt in ((1, "one"), (2, "the second")) for seed in (3, 4)
    }
    assert generate("--out", "alone", "--seed", "4", "-q").exit_code == 0
    done = call("generate", "a prompt", "--model", "toy", "--seeds", "4", "5", "--out", "out")
    assert done.exit_code == 0, done.output
    winners = [
        json.loads(Path(each, "tree.json").read_text())["nodes"][0]["seed"]
        for each in ("alone", "out/0001-a-prompt-seed-4")
    ]
    assert winners[0] == winners[1]


def test_one_prompt_with_several_seeds_needs_no_folder() -> None:
    done = call("generate", "a prompt", "--model", "toy", "--seeds", "1,2")
    assert done.exit_code == 0, done.output
    (out,) = Path("runs").iterdir()
    assert len([each for each in out.iterdir() if each.is_dir()]) == 2


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--seeds", "1", "2", "--seed", "3"], "--seeds names every seed"),
        (["--seeds", "1", "-o", "seed=3"], "--seeds names every seed"),
        (["--seeds", "x"], "'x' is neither a number nor a range"),
        (["--seeds", "4-2"], "has to go up"),
    ],
)
def test_seeds_that_make_no_sense_are_refused_at_once(args: list[str], message: str) -> None:
    assert message in one_line(generate("--out", "out", *args))
    assert not Path("out").exists()


def test_progress_is_shown_inside_a_video() -> None:
    done = batch()
    assert "[1/2]  chunk 0  4 candidates" in done.stderr
    assert "[2/2]  chunk 3  4 candidates" in done.stderr
    assert "chunk" not in batch("--quiet", lines="three\n").stderr


def test_the_index_leads_to_every_run_of_the_folder() -> None:
    batch()
    batch("--seed", "7", lines="<b>one</b>\n")
    page = Path("out", INDEX).read_text()
    names = ["0001-b-one-b", "0001-one", "0002-the-second"]
    assert re.findall(r'href="([^"]*)/report.html"', page) == names
    assert all(f'src="{name}/video.mp4"' in page for name in names)
    assert "<b>one" not in page
    assert page.count("&lt;b&gt;one&lt;/b&gt;") >= 1


def test_programs_that_follow_a_run_call_it_by_its_folder() -> None:
    pytest.importorskip("tensorboard")
    batch("-o", "observers.trackers={name: tensorboard, folder: logs}")
    assert {path.name for path in Path("logs").iterdir()} == {"0001-one", "0002-the-second"}


# Prompts that cannot be made.


def test_a_prompt_that_fails_is_reported_with_its_line_and_the_others_are_made() -> None:
    Path("p.txt").write_text("one\n\n# comment\nb\x1bd\nthree\nwords that are too long " + "x" * 300 + "\n")
    done = call("generate", "--prompts", "p.txt", "--model", "toy", "--out", "out")
    assert done.exit_code == 3
    assert re.search(r"Error: p\.txt, line 4: character 2 is U\+001B .*The other prompts are made", done.stderr)
    assert done.stdout.splitlines()[-2:] == ["3 videos in out", "index   out/index.html"]
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
    assert done.stdout.splitlines()[-2] == "2 videos in out"


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
