"""The command line: what it writes and prints, what bad input looks like, and that it starts fast."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import av
import pytest
import typer
import yaml
from typer.testing import CliRunner

from streamt1_plugins import hookimpl
from streamt1_plugins.api.types import Chunk
from streamt1_plugins.cli import main as cli
from streamt1_plugins.cli.generate import run_folder
from streamt1_plugins.config import load as recipe
from streamt1_plugins.errors import PluginError
from streamt1_plugins.plugins import discovery as hooks
from streamt1_plugins.plugins.discovery import discovery

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"
RECORD = sorted(
    ["journal.jsonl", "recipe.yaml", "report.html", "state", "strips", "summary.json", "tree.json", "video.mp4"]
)


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


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def call(*args: str) -> Any:
    return CliRunner().invoke(cli.app, list(args))


def generate(*args: str) -> Any:
    return call("generate", "a prompt", "--model", "toy", *args)


def one_line(result: Any) -> str:
    """The message of a user error: one line on standard error, no traceback, exit code 2."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    return lines[0]


# --- start -----------------------------------------------------------------------------------------------------------


def test_help_comes_at_once_and_shows_examples() -> None:
    seconds = []
    for _ in range(3):
        start = perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "streamt1_plugins", "--help"], capture_output=True, text=True, check=True
        )
        seconds.append(perf_counter() - start)
    assert min(seconds) < 4  # 0.3 s on an idle machine; the bar is 0.7 s
    assert done.stdout.count("streamt1 generate") == 2
    for command in ("generate", "plugins", "recipes"):
        assert command in done.stdout


def test_neither_help_nor_plugins_import_torch() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from streamt1_plugins.cli.main import app;"
        "[CliRunner().invoke(app, args) for args in (['--help'], ['plugins'], ['recipes', 'list'])];"
        "sys.exit(str([name for name in ('torch', 'diffusers', 'transformers', 'av') if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "[]"


def test_version_and_no_arguments() -> None:
    assert call("--version").stdout.strip() == "0.1.0"
    assert "Usage" in call().output


def test_main_adds_the_commands_of_plugins(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Greeting:
        @hookimpl
        def streamt1_add_commands(self, cli: typer.Typer) -> None:
            @cli.command()
            def greet() -> None:
                typer.echo("hello")

            @cli.command()
            def other() -> None: ...

    found = hooks.Discovery()
    found.add(Greeting(), name="greeting", origin="tests")
    monkeypatch.setattr(hooks, "discovery", lambda: found)
    monkeypatch.setattr(cli, "app", typer.Typer())
    monkeypatch.setattr(sys, "argv", ["streamt1", "greet"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (ended.value.code, capsys.readouterr().out) == (0, "hello\n")


@pytest.mark.parametrize("broken", ["loading", "commands"])
def test_a_broken_plugin_is_one_line(
    broken: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Found:
        def add_commands(self, app: typer.Typer) -> None:
            raise ZeroDivisionError("oh")

    def discover() -> Found:
        if broken == "loading":
            raise PluginError("Loading plugin 'x' failed.\nSee there.")
        return Found()

    monkeypatch.setattr(hooks, "discovery", discover)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    expected = {
        "loading": "Loading plugin 'x' failed. See there.",
        "commands": "A plugin's commands failed: ZeroDivisionError: oh",
    }
    assert (ended.value.code, capsys.readouterr().err) == (2, f"Error: {expected[broken]}\n")


# --- generate --------------------------------------------------------------------------------------------------------


def test_generate_leaves_a_run_folder_and_a_table(tmp_path: Path) -> None:
    result = generate("--out", "o", "--seed", "5", "-o", "search.candidates=3")
    assert result.exit_code == 0, result.output
    assert sorted(file.name for file in Path("o").iterdir()) == RECORD
    assert recipe.load("o/recipe.yaml").seed == json.loads(Path("o/summary.json").read_text())["seed"] == 5
    rows = [line.split() for line in result.stdout.splitlines() if re.match(r"\s+\d", line)]
    assert [row[:2] for row in rows] == [[str(i), "6"] for i in range(4)]
    assert "24 candidates in" in result.stdout
    assert "video   o/video.mp4" in result.stdout
    assert "chunk 4/4" in result.stderr


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
        (["--device", "nonsense"], "Moving the model to 'nonsense' failed"),
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
    assert "The prompt is empty: say what the video should show." in one_line(call("generate", prompt))


def test_a_model_that_is_not_there_names_model_and_adapter() -> None:
    line = one_line(call("generate", "x", "-r", "plain", "--adapter", "wan", "--model", "./missing", "-q"))
    assert line.startswith("Error: Loading the model './missing' with adapter 'wan' failed: ")


def test_a_model_nobody_names_an_adapter_for() -> None:
    assert "--adapter NAME" in one_line(call("generate", "x", "-r", "plain", "--model", "some/model", "-q"))


@pytest.mark.parametrize("args", [["--debug", "generate", ""], ["generate", "", "--debug"]])
def test_debug_shows_the_traceback_too(args: list[str]) -> None:
    result = call(*args)
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("Error: The prompt is empty")


@pytest.mark.slow
def test_generate_with_the_embedded_model_in_a_process_of_its_own(tmp_path: Path) -> None:
    prompt = "a red circle moving right on a blue background"
    options = ["--recipe", "plain", "--num-frames", "21", "--json", "--out", "o"]
    command = [sys.executable, "-m", "streamt1_plugins", "generate", prompt, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["video"] == {"frames": 21, "height": 64, "width": 64, "fps": 16.0}
    assert (found["model"], found["device"][:3]) in {("tinyworld", "cpu"), ("tinyworld", "cud")}
    assert [line[:9] for line in done.stderr.splitlines()] == ["chunk 1/2", "chunk 2/2"]
    with av.open("o/video.mp4") as container:
        assert container.streams.video[0].width == 256


# --- plugins ---------------------------------------------------------------------------------------------------------


def test_plugins_lists_names_and_origins() -> None:
    shown = call("plugins").stdout
    for word in ("toy", "ToyPipeline", "tests.toy:Bright", "reward_feedback", "interrupting", "streamt1-plugins"):
        assert word in shown


def test_plugins_as_json() -> None:
    found = json.loads(call("plugins", "--json").stdout)
    assert {"name": "tinyworld", "origin": "streamt1-plugins"} in found["plugins"]
    adapters = {entry["name"]: entry for entry in found["adapters"]}
    assert adapters["tinyworld"]["bundled model"] is True
    assert adapters["wan"]["pipelines"] == ["WanPipeline"]
    assert adapters["wan"]["explicit"]
    assert adapters["toy"]["suggested rewards"] == ["bright"]
    assert {entry["kind"] for entry in found["policies"]} == {
        "width",
        "noise",
        "scoring",
        "selection",
        "memory",
        "observer",
    }


def test_disabled_plugins_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(hooks.DISABLE, "wan, gone")
    monkeypatch.setattr(hooks, "discovery", hooks.Discovery)
    found = json.loads(call("plugins", "--json").stdout)
    assert found["disabled"] == [{"name": "wan"}, {"name": "gone"}]
    assert "wan" not in [plugin["name"] for plugin in found["plugins"]]
    assert "disabled" in call("plugins").stdout


# --- recipes ---------------------------------------------------------------------------------------------------------


def test_list_names_every_shipped_recipe_and_what_it_is() -> None:
    shown = call("recipes", "list").stdout
    for name, path in recipe.names().items():
        assert name in shown
        assert recipe.load(path).description in shown


def test_show_prints_the_file_and_resolved_the_whole_recipe() -> None:
    assert call("recipes", "show", "plain").stdout == recipe.find("plain").read_text()
    complete = yaml.safe_load(call("recipes", "show", "plain", "--resolved").stdout)
    assert complete["model"] == "tinyworld"
    assert complete["scoring"] == {"name": "hybrid", "cap": 0.4, "horizon": "both", "window": 1, "decay": 1.0}
    assert complete["adapter"]["chunk_frames"] == 3


def test_copy_writes_a_file_that_runs_and_overwrites_only_when_told() -> None:
    assert call("recipes", "copy", "plain", "mine.yaml").exit_code == 0
    assert recipe.load("mine.yaml") == recipe.load("plain")
    Path("mine.yaml").write_text("seed: 1")
    assert "mine.yaml exists. Overwrite it with --force." in one_line(call("recipes", "copy", "plain", "mine.yaml"))
    assert Path("mine.yaml").read_text() == "seed: 1"
    assert call("recipes", "copy", "plain", "mine.yaml", "--force").exit_code == 0
    assert Path("mine.yaml").read_text() == recipe.find("plain").read_text()
    assert "cannot be written" in one_line(call("recipes", "copy", "plain", "mine.yaml/x.yaml"))


def bad_recipes() -> Iterator[tuple[str, str]]:
    yield "extends: plain\nsearchh: {}", "unknown key 'searchh'. Did you mean 'search'?"
    yield "extends: plain\nscoring: {name: hybridd}", "Unknown scoring policy 'hybridd'. Did you mean 'hybrid'?"
    yield "extends: plain\nscoring: {name: hybrid, cup: 1}", "no option 'cup'. Did you mean 'cap'?"
    yield "extends: plain\nscoring: {name: hybrid, cap: 3}", "cap = 3"
    yield "extends: plain\nobservers: {vido: {}}", "Unknown observer 'vido'. Did you mean 'video'?"
    yield "extends: plain\nrewards: {long: {bright: {options: {cals: []}}}}", "no option 'cals'. Did you mean 'calls'?"
    yield "extends: plain\nrewards: {long: {short-only: {}}}", "serves only the horizons short"
    yield "extends: plain\nadapter: {chunk_frame: 3}", "no option 'chunk_frame'. Did you mean 'chunk_frames'?"
    yield "just text", "is not a recipe: expected keys and values"
    yield "a: [", "is not YAML"


@pytest.mark.parametrize(("text", "message"), bad_recipes())
def test_validate_finds_what_is_wrong(text: str, message: str) -> None:
    Path("bad.yaml").write_text(text)
    result = call("recipes", "validate", "plain", "bad.yaml")
    assert result.exit_code == 2
    assert result.stdout.splitlines()[0] == "OK     plain"
    assert result.stderr.startswith("Error: bad.yaml: ")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_validate_passes_what_is_right_and_tells_the_cost() -> None:
    result = call("recipes", "validate", "plain", "30s", "--num-frames", "21")
    assert result.exit_code == 0
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert [line.partition(",")[0] for line in lines if "memory" not in line] == [
        "OK     plain",
        "2 chunks: 2 candidates",
        "OK     30s",
        "2 chunks: 8 candidates",
    ]
    memory = re.compile(r"about ([\d.]+) MB of memory, .*\(model 16 MB, .*\)")
    plain, wide = memory.fullmatch(lines[2]), memory.fullmatch(lines[5])
    assert plain
    assert wide
    assert 16 < float(plain[1]) < float(wide[1]) < 50


@pytest.mark.parametrize(
    ("recipe", "why"),
    [("longlive", "'models/longlive' is not on this machine"), ("toy.yaml", "the adapter 'toy'")],
)
def test_validate_says_where_the_memory_is_not_known(recipe: str, why: str) -> None:
    Path("toy.yaml").write_text("model: toy\nadapter: toy\n")
    line = call("recipes", "validate", recipe).stdout.splitlines()[-1].strip()
    assert line.startswith("memory not known: ")
    assert why in line


def test_validate_tells_what_a_budget_allows() -> None:
    Path("mine.yaml").write_text("extends: stream-t1\nwidth: {name: budget, forwards: 100}\n")
    told = call("recipes", "validate", "mine.yaml", "--num-frames", "33").stdout
    lines = [line.strip() for line in told.splitlines()]
    assert lines[1].startswith("at least 3 chunks: 6 candidates, 52 transformer forwards")
    assert lines[2].startswith("at most 3 chunks: 24 candidates, 100 transformer forwards")


def test_a_length_the_adapter_cannot_make_is_an_error_of_the_recipe() -> None:
    result = call("recipes", "validate", "plain", "--num-frames", "20")
    assert result.exit_code == 2
    assert "plain: `num_frames` = 20 does not fill whole chunks" in one_line(result)


def test_the_schema_is_printed_or_written() -> None:
    shown = call("recipes", "schema").stdout
    assert json.loads(shown)["title"] == "Recipe"
    assert call("recipes", "schema", "recipe.schema.json").exit_code == 0
    assert Path("recipe.schema.json").read_text() == shown
    assert "cannot be written" in one_line(call("recipes", "schema", "recipe.schema.json/x"))


def test_diff_shows_the_keys_that_differ() -> None:
    Path("other.yaml").write_text("extends: plain\ndescription: mine\nseed: 7\nadapter: {steps: [8, 2]}\n")
    rows = [line.split(maxsplit=1) for line in call("recipes", "diff", "plain", "other.yaml").stdout.splitlines()]
    assert [row[0] for row in rows] == ["key", "adapter.steps", "seed"]
    assert rows[2][1].split() == ["42", "7"]
    assert call("recipes", "diff", "plain", "plain").stdout == "No difference.\n"


# --- the page --------------------------------------------------------------------------------------------------------


def commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every command below one, with its full name."""
    below = getattr(command, "commands", {})
    for name, each in below.items():
        yield from commands(each, f"{path} {name}")
    if not below:
        yield path, command


def whole_command() -> Any:
    """The command line with the commands of the installed plugins, as `main` runs it."""
    app = copy.copy(cli.app)
    app.registered_commands = [*cli.app.registered_commands]
    hooks.discovery().add_commands(app)
    return typer.main.get_command(app)


def test_every_command_and_option_is_documented() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for path, command in commands(whole_command(), "streamt1"):
        assert f"`{path}" in text, path
        section = text.partition(f"`{path}")[2].partition("\n## ")[0]
        for parameter in command.params:
            assert parameter.help, (path, parameter.name)
            for option in parameter.opts:
                if option.startswith("-"):
                    assert f"`{option}" in section, (path, option)


def test_no_option_in_the_page_is_made_up() -> None:
    known = {"--help"}
    for _, command in commands(whole_command(), "streamt1"):
        known |= {option for parameter in command.params for option in parameter.opts}
    known |= {option for parameter in typer.main.get_command(cli.app).params for option in parameter.opts}
    assert set(re.findall(r"`(--[a-z-]+)", DOCS.read_text(encoding="utf-8"))) <= known
