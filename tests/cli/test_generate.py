"""`streamt1 generate`: what it writes and prints, and what bad input looks like."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import av
import pytest
import torch
import yaml

from streamt1_plugins import Chunk, hookimpl
from streamt1_plugins.cli.generate import run_folder
from streamt1_plugins.cli.running import LOADING
from streamt1_plugins.config import load as recipe
from streamt1_plugins.config import yaml12
from streamt1_plugins.pipeline import StreamPipeline
from streamt1_plugins.plugins.discovery import discovery
from streamt1_plugins.process.threads import THREADS
from streamt1_plugins.runs.observers import console
from streamt1_plugins.runs.observers.console import threads_line
from tests.cli.calling import RECORD, call, generate, one_line
from tests.toy import ToySession, overflowing


@dataclass
class Interrupting:
    """Presses Ctrl-C after chunk `at`."""

    at: int = 1

    @hookimpl
    def streamt1_chunk_selected(self, chunk: Chunk) -> None:
        if chunk.index == self.at:
            raise KeyboardInterrupt


class CliParts:
    @hookimpl
    def streamt1_register_policies(self, register: Any) -> None:
        register("interrupting", kind="observer", target=f"{__name__}:Interrupting")


@pytest.fixture(autouse=True, scope="module")
def _parts(_toy_plugin: None) -> None:
    sys.modules.setdefault(__name__, sys.modules[Interrupting.__module__])
    discovery().add(CliParts(), name="cli-parts", origin="tests")


def test_generate_leaves_a_run_folder_and_a_table(tmp_path: Path) -> None:
    result = generate("--out", "o", "--seed", "5", "-o", "search.candidates=3")
    assert result.exit_code == 0, result.output
    assert sorted(file.name for file in Path("o").iterdir()) == RECORD
    assert recipe.load("o/recipe.yaml").seed == json.loads(Path("o/summary.json").read_text())["seed"] == 5
    rows = [line.split() for line in result.stdout.splitlines() if re.match(r"\s+\d", line)]
    assert [row[:2] for row in rows] == [[str(i), "6"] for i in range(4)]
    assert "24 candidates in" in result.stdout
    assert "video   o/video.mp4" in result.stdout
    assert "chunk 3 " in result.stderr
    assert "(4 of 4 done)" in result.stderr


def test_the_threads_are_set_for_the_command_alone_and_printed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_printed", set())
    before = torch.get_num_threads()
    result = generate("--out", "o", "--threads", "2")
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines()[:2] == [LOADING, threads_line(2)]
    assert result.stderr.count(threads_line(2)) == 1
    assert threads_line(2) not in generate("--out", "p", "--threads", "2").stderr
    assert (torch.get_num_threads(), os.environ.get(THREADS)) == (before, None)
    assert generate("--threads", "0").exit_code == 2


def test_a_terminal_shows_at_once_that_a_command_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    shown = generate("--out", "o", "--recipe", "nothing").stderr
    assert 0 <= shown.find("Checking the recipe") < shown.find("Error: Unknown recipe")
    monkeypatch.setattr(StreamPipeline, "__call__", lambda pipe, prompt: sys.stderr.write("called"))
    shown = generate("--out", "o").stderr
    assert shown.find("Checking the recipe") < shown.find("Loading the model") < shown.find("called")
    assert LOADING not in shown


def test_a_quiet_command_prints_nothing_of_it(tmp_path: Path) -> None:
    assert generate("--out", "o", "--threads", "2", "--quiet").stderr == ""


def test_every_command_that_runs_a_model_takes_threads() -> None:
    for command in ("generate", "compare", "replay", "serve-reward", "probe"):
        assert "--threads" in call(command, "--help").stdout, command


@pytest.mark.parametrize(("chunks", "code"), [((1,), 0), ((0, 1, 2, 3), 2)])
@pytest.mark.parametrize("recipe", ["plain", "stream-t1"])
def test_frames_that_are_not_finite_are_named_and_a_video_of_them_alone_is_an_error(
    chunks: tuple[int, ...], code: int, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ToySession, "decode", overflowing(ToySession.decode, chunks))
    result = generate("--out", "o", "--recipe", recipe)
    assert result.exit_code == code
    for chunk in chunks:
        assert f"Note: Chunk {chunk}: no valid candidate (The frames are not finite" in result.stderr
    assert ("No chunk of this video is usable" in result.stderr) is (code > 0)
    assert sorted(file.name for file in Path("o").iterdir()) == RECORD


def test_the_seed_without_an_option_is_the_recipes() -> None:
    for name in "ab":
        generate("--out", name, "--recipe", "plain")
    assert json.loads(Path("a/summary.json").read_text())["seed"] == 42
    assert Path("a/video.mp4").read_bytes() == Path("b/video.mp4").read_bytes()


def test_the_recipe_of_a_run_folder_runs_the_same_again() -> None:
    generate("--out", "a", "--seed", "5")
    call("generate", "a prompt", "--recipe", "a/recipe.yaml", "--out", "b")
    first, second = (json.loads(Path(name, "tree.json").read_text()) for name in "ab")
    for node in (*first["nodes"], *second["nodes"]):
        node.pop("seconds")
    assert first == second
    assert Path("a/video.mp4").read_bytes() == Path("b/video.mp4").read_bytes()


def test_quiet_prints_the_path_and_json_the_summary() -> None:
    quiet = generate("--out", "q", "--quiet")
    assert (quiet.stdout, quiet.stderr) == ("q/video.mp4\n", "")
    found = json.loads(generate("--out", "j", "--json").stdout)
    assert (found["prompt"], found["out"], found["video_file"]) == ("a prompt", "j", "j/video.mp4")
    both = generate("--out", "b", "--json", "--quiet")
    assert (json.loads(both.stdout)["out"], both.stderr) == ("b", "")


def test_without_out_the_folder_is_named_by_time_and_prompt() -> None:
    for _ in range(2):
        assert generate("-q").exit_code == 0
    names = sorted(folder.name for folder in Path("runs").iterdir())
    assert len(names) == 2
    assert all(re.fullmatch(r"\d{8}-\d{6}-a-prompt(-2)?", name) for name in names)
    assert re.fullmatch(r"runs/\d{8}-\d{6}", str(run_folder(None, "?!")))
    assert len(run_folder(None, "x" * 500).name) <= 80


def test_runs_that_start_in_the_same_second_get_folders_of_their_own() -> None:
    names = [run_folder(None, "the same") for _ in range(20)]
    assert len(set(names)) == 20
    assert all(folder.is_dir() for folder in names)


def test_a_run_that_does_not_start_leaves_no_folder() -> None:
    assert call("generate", "a prompt", "--model", "none/such").exit_code != 0
    assert generate("--recipe", "plain", "-o", "revision=backtrack").exit_code != 0
    assert not Path("runs").exists()


def test_ctrl_c_saves_what_was_generated() -> None:
    result = generate("--out", "o", "-o", "observers.interrupting.at=1")
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-2:] == ["What was generated so far is kept in o", "Interrupted."]
    assert sorted(file.name for file in Path("o").iterdir()) == RECORD
    with av.open("o/video.mp4") as container:
        assert sum(1 for _ in container.decode(video=0)) == 6


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["-r", "stream-t2"], r"Unknown recipe 'stream-t2'\. Did you mean 'stream-t1'\? Known: .*plain"),
        (["-r", "missing.yaml"], "Recipe file 'missing.yaml' does not exist."),
        (["-o", "searchh.top_k=3"], "unknown key 'searchh'. Did you mean 'search'?"),
        (["-o", "search.topk=3"], "unknown key 'search.topk'. Did you mean 'top_k'?"),
        (["-o", "memory.short_treshold=1"], "no option 'short_treshold'. Did you mean 'short_threshold'?"),
        (["-o", "search.top_k"], "is not of the form key=value"),
        (["-o", "search.top_k=0"], "search.top_k = 0: Input should be greater than or equal to 1"),
        (["-o", "search.candidates=0"], "search.candidates = 0"),
        (["-o", "rewards.long.brigt={}"], "Unknown reward 'brigt'. Did you mean 'bright'?"),
        (["--adapter", "toyy"], "Unknown adapter 'toyy'. Did you mean 'toy'?"),
        (["--seed", "-1"], "seed = -1: Input should be greater than or equal to 0"),
        (["--device", "nonsense"], "device: 'nonsense' is not the name of a device"),
        (["--out", "file/x"], "The folder file/x cannot be made: .*file is a file."),
        (["--out", "full"], "The folder full is not empty. Choose another one with --out, or empty it first."),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(args: list[str], message: str) -> None:
    Path("file").touch()
    Path("full").mkdir()
    Path("full/mine").touch()
    line = one_line(generate("--quiet", *args))
    assert line.startswith("Error: ")
    assert re.search(message, line), line
    assert sorted(each.name for each in Path().iterdir()) == ["file", "full"]


@pytest.mark.parametrize("prompt", ["", "  \n"])
def test_an_empty_prompt(prompt: str) -> None:
    assert "The prompt is empty: describe what the video should show." in one_line(call("generate", prompt))


def test_a_model_that_is_not_there_names_model_and_adapter() -> None:
    line = one_line(call("generate", "x", "-r", "plain", "--adapter", "wan", "--model", "./missing", "-q"))
    assert line.startswith("Error: Loading the model './missing' with adapter 'wan' failed: ")


def test_a_model_nobody_names_an_adapter_for() -> None:
    assert "--adapter NAME" in one_line(call("generate", "x", "-r", "plain", "--model", "some/model", "-q"))


@pytest.mark.slow
def test_generate_with_the_embedded_model_in_a_process_of_its_own(tmp_path: Path) -> None:
    prompt = "a red circle moving right on a blue background"
    options = ["--recipe", "plain", "--num-frames", "21", "--json", "--out", "o"]
    command = [sys.executable, "-m", "streamt1_plugins", "generate", prompt, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["video"] == {"frames": 21, "height": 64, "width": 64, "fps": 16.0}
    assert (found["model"], found["device"][:3]) in {("tinyworld-student", "cpu"), ("tinyworld-student", "cud")}
    lines = [line for line in done.stderr.splitlines() if not line.startswith(("Loading", "Using"))]
    assert [line[:7] for line in lines] == ["chunk 0", "chunk 1"]
    with av.open("o/video.mp4") as container:
        assert container.streams.video[0].width == 256


# Options of the recipe and of the command line.


def options_of_observers() -> Iterator[tuple[str, str, str]]:
    """Every option of every built-in observer, with another value than its default as YAML."""
    values = {"bool": "true", "int": "7", "float": "7.5", "str": "other"}
    for name, entry in discovery().policies["observer"].items():
        if entry.origin == "streamt1-plugins":
            for each in fields(entry.load()):
                kind = next(value for key, value in values.items() if key in f"{each.type}".lower() or key == "str")
                value = "false" if each.default is True else kind
                yield name, each.name, {"mode": "offline", "name": "tensorboard", "scale": "7"}.get(each.name, value)


@pytest.mark.parametrize(("observer", "option", "value"), options_of_observers())
def test_an_option_of_an_observer_acts_or_is_refused(
    observer: str, option: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[Any] = []
    monkeypatch.setattr(StreamPipeline, "complete", lambda pipe, run: used.append(pipe._observing.built))
    monkeypatch.setattr("streamt1_plugins.cli.generate.show_result", lambda *_: None)
    result = generate("-q", "--out", "o", "-o", f"observers.{observer}.{option}={value}")
    if result.exit_code == 2:
        assert f"observers.{observer}.{option} = " in one_line(result)
        assert "has no effect" in result.stderr
        assert (observer, option) in {("wandb", "folder")} or option in ("path", "append")
    else:
        assert result.exit_code == 0, result.output
        assert getattr(used[0][observer], option) == yaml12.read(value, "it")


def test_the_video_is_where_the_recipe_has_it() -> None:
    result = generate("--out", "o", "-o", "observers.video.path=elsewhere.mp4")
    assert result.exit_code == 0
    assert "video   elsewhere.mp4" in result.stdout
    assert Path("elsewhere.mp4").exists()
    assert not Path("o/video.mp4").exists()
    assert generate("-q", "--out", "p", "-o", "observers.video.path=again.mp4").stdout == "again.mp4\n"


def test_the_recorded_video_has_the_options_of_the_recipe() -> None:
    for name, quality in (("coarse", 51), ("fine", 1)):
        assert generate("-q", "--out", name, "-o", f"observers.video={{crf: {quality}}}").exit_code == 0
        assert recipe.load(f"{name}/recipe.yaml").observers == {"video": {"crf": quality}}
    assert Path("coarse/video.mp4").stat().st_size < Path("fine/video.mp4").stat().st_size
    assert generate("-q", "--out", "j", "-o", "observers.journal.state=false").exit_code == 0
    assert not Path("j/state").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--seed", "1", "-o", "seed=2"], "--seed 1 and an override give seed two values"),
        (["-o", "model=other"], "--model toy and an override give model two values"),
        (["--adapter", "toy", "-o", "adapter=wan"], "--adapter toy and an override give adapter two values"),
        (["--wandb", "a", "-o", "observers.wandb.project=b"], "is undone by"),
        (["-o", "observers.journal.path=elsewhere"], "observers.journal.path = 'elsewhere' has no effect"),
        (["-o", "observers.video.crff=3"], "no option 'crff'. Did you mean 'crf'"),
        (["-o", "rewards.long.bright={where: /no/python}"], "'/no/python' is no program that can be started here"),
        (["--num-frames", "4101", "--model", "tinyworld"], "The longest video is 4089 frames"),
        (["--out", "x" * 300], "a name of more than 255 bytes"),
        (["--out", "a/" + "é" * 130], "a name of more than 255 bytes"),
        (["--out", "~no-such-user/x"], "is no home folder"),
    ],
)
def test_clashes_and_impossible_values_are_found_before_anything_is_loaded(
    args: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamt1_plugins.pipeline.load", None)
    monkeypatch.setattr("streamt1_plugins.load", None)
    assert re.search(message, one_line(generate("-q", *args)))
    assert list(Path().iterdir()) == []


def test_a_tilde_in_out_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert generate("-q", "--out", "~/run").exit_code == 0
    assert (tmp_path / "home" / "run" / "video.mp4").exists()
    assert not Path("~").exists()


def test_without_wandb_nothing_is_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    for args in (("--out", "out"), ("--seeds", "1,2", "--out", "out"), ("--dry-run", "--out", "out")):
        message = one_line(generate("--wandb", "mine", *args))
        assert "needs wandb: pip install 'streamt1-plugins[wandb]'" in message
        assert not Path("out").exists()


def test_sizes_of_the_command_line_are_part_of_the_recorded_recipe() -> None:
    assert generate("--out", "run", "--num-frames", "33", "-q").exit_code == 0
    assert yaml.safe_load(Path("run/recipe.yaml").read_text())["video"]["num_frames"] == 33
    start = json.loads(Path("run/journal.jsonl").read_text().splitlines()[0])
    assert (start["call"]["num_frames"], start["recipe_name"]) == (33, "stream-t1")


SCENES = "[{chunk: 1, prompt: it rains, memory: flush}, {chunk: 3, prompt: it snows}]"


def journal_of(folder: Path) -> dict[str, Any]:
    first: dict[str, Any] = json.loads((folder / "journal.jsonl").read_text().splitlines()[0])
    return first


def test_a_schedule_is_part_of_the_run_and_of_its_resumption(tmp_path: Path) -> None:
    (tmp_path / "scenes.yaml").write_text(SCENES)
    whole = generate("--schedule", "scenes.yaml", "--out", "whole", "-q")
    assert whole.exit_code == 0, whole.output
    assert generate("--schedule", SCENES, "--out", "cut", "-o", "observers.interrupting={}").exit_code == 130
    start = journal_of(Path("cut"))
    assert start["prompt"] == "a prompt"
    assert start["call"]["schedule"] == [
        {"chunk": 1, "prompt": "it rains", "memory": "flush"},
        {"chunk": 3, "prompt": "it snows", "memory": "keep"},
    ]
    assert call("generate", "--resume", "cut", "-q").exit_code == 0
    trees = [json.loads(Path(folder, "tree.json").read_text())["nodes"] for folder in ("whole", "cut")]
    assert [node["id"] for node in trees[0]] == [node["id"] for node in trees[1]]
    assert journal_of(Path("whole"))["call"] == start["call"]


def test_a_schedule_may_have_the_first_prompt(tmp_path: Path) -> None:
    done = call("generate", "--model", "toy", "--schedule", "[{chunk: 0, prompt: sun}, {chunk: 2, prompt: rain}]", "-q")
    assert done.exit_code == 0, done.output
    assert Path(done.stdout.strip()).parent.name.endswith("-sun")
    assert journal_of(Path(done.stdout.strip()).parent)["prompt"] == "sun"


def test_a_dry_run_shows_the_scenes(tmp_path: Path) -> None:
    text = generate("--schedule", SCENES, "--dry-run").stdout
    assert "scenes  from chunk 0: a prompt\n        from chunk 1, memory: flush: it rains\n" in text
    found = json.loads(generate("--schedule", SCENES, "--dry-run", "--json").stdout)["videos"][0]
    assert found["prompt"] == "a prompt"
    assert [scene["memory"] for scene in found["scenes"]] == ["keep", "flush", "keep"]
    assert json.loads(generate("--dry-run", "--json").stdout)["videos"][0]["scenes"] == []


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("[{chunk: 1, promt: it rains}]", "Did you mean 'prompt'?"),
        ("[{chunk: 9, prompt: it rains}]", "A scene begins at chunk 9, but the video has the chunks 0 to 3"),
        ("[{chunk: 0, prompt: it rains}]", "are for chunk 0"),
        ("[{chunk: 1, prompt: it rains", "is not YAML"),
        ("scenes.yml", "The schedule 'scenes.yml' does not exist"),
    ],
)
def test_a_wrong_schedule_is_one_line(tmp_path: Path, schedule: str, message: str) -> None:
    assert message in one_line(generate("--schedule", schedule, "--out", "out"))
    assert not Path("out/journal.jsonl").exists()


def test_a_schedule_beside_a_prompt_file_or_a_resumption_is_refused(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a")
    refused = call("generate", "--prompts", "prompts.txt", "--out", "o", "--schedule", SCENES, "--model", "toy")
    assert "a line has its own" in one_line(refused)
    assert "leave out --schedule" in one_line(call("generate", "--resume", "o", "--schedule", SCENES))


@pytest.mark.parametrize("adapter", ["framepack", "skyreels"])
def test_an_adapter_without_scenes_names_those_with_them_before_anything_is_loaded(adapter: str) -> None:
    message = one_line(call("generate", "a", "--schedule", SCENES, "--model", "a/model", "--adapter", adapter))
    assert f"The prompt cannot change with adapter '{adapter}'" in message
    assert "wan" in message.partition("take a schedule:")[2]
