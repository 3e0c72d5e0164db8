"""What recipes from elsewhere make happen: all of it listed, none of it done without a yes, by every entry."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import streamt1_plugins as streamt1
from streamt1_plugins import replay
from streamt1_plugins.config.load import load
from streamt1_plugins.config.trust import TRUST
from streamt1_plugins.errors import TrustError
from streamt1_plugins.plugins import acting
from streamt1_plugins.plugins.discovery import discovery
from tests.cli.calling import call, one_line
from tests.toy import ToyPipeline

PROGRAM = "rewards.short.flicker.where.python"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv(TRUST, raising=False)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program that leaves a mark beside itself when it runs."""
    path = tmp_path / "program"
    path.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n", encoding="utf-8")
    path.chmod(0o700)
    return path


def hostile(program: Path) -> dict[str, Any]:
    """Sections that start a program, write to a path and contact a server."""
    return {
        "rewards": {
            "short": {"flicker": {"where": {"python": str(program), "start_timeout": 5}}},
            "long": {"bright": {}},
        },
        "observers": {"video": {"path": str(program.parent / "elsewhere.mp4")}},
    }


def shared(sections: dict[str, Any], name: str = "shared.yaml") -> str:
    Path(name).write_text(json.dumps({"extends": "stream-t1", **sections}), encoding="utf-8")
    return name


def run_folder(sections: dict[str, Any]) -> Path:
    """A run that was stopped after two chunks, whose record somebody has changed."""

    def stop(_: Any, index: int, __: Any) -> None:
        if index == 1:
            raise KeyboardInterrupt

    pipe = streamt1.load("toy", observers=streamt1.record_to("run"))
    with pytest.raises(KeyboardInterrupt):
        pipe("a prompt", on_chunk_end=stop)
    journal = Path("run/journal.jsonl")
    lines = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    lines[0]["recipe"] |= load(sections).model_dump(mode="json", include=set(sections))
    rewrite(journal, lines)
    return Path("run")


def rewrite(journal: Path, lines: list[dict[str, Any]]) -> None:
    """Write a journal as version 0.1 did, without checks of its lines."""
    plain = [{name: value for name, value in line.items() if name not in ("check", "line")} for line in lines]
    journal.write_text("".join(f"{json.dumps(line)}\n" for line in plain), encoding="utf-8")


ENTRIES: dict[str, Callable[[Any], object]] = {
    "wrap": lambda it: streamt1.wrap(ToyPipeline(), shared(it)),
    "wrap with a base": lambda it: streamt1.wrap(ToyPipeline(), {"extends": shared(it), "seed": 3}),
    "load": lambda it: streamt1.load("toy", shared(it)),
    "resume": lambda it: streamt1.resume(run_folder(it)),
    "resume around a pipeline": lambda it: streamt1.resume(run_folder(it), ToyPipeline()),
    "branch": lambda it: replay.branch(run_folder(it), "000.00", "branched"),
}


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_python_needs_a_yes(entry: Callable[[Any], object], program: Path) -> None:
    with pytest.raises(TrustError) as caught:
        entry(hostile(program))
    assert f"{PROGRAM} = {str(program)!r} starts this program" in str(caught.value)
    assert f"observers.video.path = '{program.parent}/elsewhere.mp4' writes there" in str(caught.value)
    assert not list(program.parent.glob("*.mp4"))
    assert not (program.parent / "ran").exists()


COMMANDS: dict[str, Callable[[Any], tuple[str, ...]]] = {
    "generate": lambda it: ("generate", "a prompt", "--model", "toy", "--recipe", shared(it), "--out", "new"),
    "generate --resume": lambda it: ("generate", "--resume", str(run_folder(it))),
    "replay --continue-from": lambda it: ("replay", str(run_folder(it)), "--continue-from", "000.00", "--out", "new"),
    "compare": lambda it: (
        *("compare", "plain", shared(it), "--prompts", prompts(), "--judge", "seam", "--model", "toy", "--out", "new"),
    ),
}


def prompts() -> str:
    Path("prompts.txt").write_text("a prompt\n", encoding="utf-8")
    return "prompts.txt"


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_commands_need_a_yes(command: Callable[[Any], tuple[str, ...]], program: Path) -> None:
    line = one_line(call(*command(hostile(program))))
    for part in (PROGRAM, "observers.video.path", "--trust", f"{TRUST}='{program}'", "docs/trust.md"):
        assert part in line
    assert not (program.parent / "ran").exists()
    assert not Path("new").exists()


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_with_a_yes_commands_act(command: Callable[[Any], tuple[str, ...]], program: Path) -> None:
    call(*command(hostile(program)), "--trust")
    assert (program.parent / "ran").exists()


def test_reading_recipes_and_records_does_nothing(program: Path) -> None:
    name, folder = shared(hostile(program)), run_folder(hostile(program))
    for command in (("validate", name), ("show", name), ("show", name, "--resolved"), ("diff", name, "plain")):
        assert call("recipes", *command).exit_code == 0
    assert f"{PROGRAM} = {str(program)!r} starts this program" in call("recipes", "validate", name).stdout
    assert call("report", str(folder)).exit_code == 0
    assert call("replay", str(folder), "--out", "again").exit_code == 0, "a replay calls no rewards"
    assert not (program.parent / "ran").exists()
    assert not list(program.parent.glob("*.mp4"))


def test_the_users_own_words_need_no_yes(program: Path) -> None:
    sections = hostile(program)
    streamt1.wrap(ToyPipeline(), {"extends": "stream-t1", **sections})
    streamt1.wrap(ToyPipeline(), overrides=[f"{PROGRAM}={program}"])
    name = shared(sections)
    mine = [f"rewards.short.flicker.where={program}", f"observers.video={{path: {program.parent}/mine.mp4}}"]
    streamt1.wrap(ToyPipeline(), name, overrides=mine)
    agreed = streamt1.wrap(ToyPipeline(), name, trust=True)
    streamt1.wrap(ToyPipeline(), agreed.recipe)


def test_the_users_list_allows_what_it_names(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = shared(hostile(program))
    monkeypatch.setenv(TRUST, str(program))
    with pytest.raises(TrustError, match=r"observers\.video\.path") as caught:
        streamt1.wrap(ToyPipeline(), name)
    assert "starts this program" not in str(caught.value)
    monkeypatch.setenv(TRUST, f"{program},{program.parent}")
    streamt1.wrap(ToyPipeline(), name)


def test_a_recipe_of_the_users_allows_what_it_names_itself(program: Path) -> None:
    name, mine = shared(hostile(program)), load({"extends": "stream-t1", **hostile(program)})
    streamt1.wrap(ToyPipeline(), name, trust=mine)
    sections = hostile(program)
    sections["rewards"]["short"]["flicker"]["where"]["python"] = "another"
    with pytest.raises(TrustError, match="'another' starts"):
        streamt1.wrap(ToyPipeline(), shared(sections, "other.yaml"), trust=mine)


ACTING = {
    "rewards.short.flicker.where=http://127.0.0.1:1": "url",
    "rewards.short.flicker.where=python": "program",
    "rewards.long.tinyalign.options.folder=/weights": "read",
    "rewards.long.tinyalign.options.folder=~/weights": "read",
    "rewards.long.tinyalign.options.folder=a/../../weights": "read",
    "rewards.long.tinyalign.options.folder=C:\\weights": "read",
    "rewards.long.tinyalign.options.folder=link/weights": "read",
    "rewards.long.clipscore.options.model=https://elsewhere/model": "url",
    "rewards.long.clipscore.options.model=\\\\elsewhere\\model": "url",
    "rewards.long.hpsv3.options.template_file=/etc/passwd": "read",
    "rewards.short.flicker={where: {python: python}, options: {deep: [{down: /etc}]}}": "read",
    "model=https://elsewhere/model": "url",
    "adapter={name: framepack, base: ../model}": "read",
    "adapter={name: skyreels, call: {image: 'http://elsewhere/image'}}": "url",
    "adapter={base: /model}": "read",
    "observers.video.path=video.mp4": "write",
    "observers.folder.path=.": "write",
    "observers.journal.path=run": "write",
    "observers.report.path=run": "write",
    "observers.trackers.folder=logs": "write",
    "observers.trackers={}": "upload",
    "observers.wandb={}": "upload",
    "observers.wandb={media_mb: 1}": "upload",
    "observers.wandb.entity=somebody": "upload",
    "observers.wandb.folder=/home": "write",
}


@pytest.mark.parametrize(("key", "kind"), ACTING.items(), ids=ACTING)
def test_everything_that_acts_is_listed(key: str, kind: str) -> None:
    Path("link").symlink_to("/")
    values = load({}, [key]).model_dump(mode="json", exclude_unset=True)
    Path("shared.yaml").write_text(json.dumps(values), encoding="utf-8")
    assert kind in {act.kind for act in acting.waiting(load("shared.yaml"))}
    assert acting.waiting(load({}, [key])) == []


@pytest.mark.parametrize(
    "key",
    [
        "model=owner/name",
        "model=/data/model",
        "rewards.long.clipscore.options.model=owner/name",
        "rewards.long.tinyalign.options.folder=weights/mine",
        "adapter={name: wan, negative_prompt: '../ugly, /bad'}",
        "observers.console={}",
        "observers.wandb.name=/a/name",
    ],
)
def test_what_reads_weights_or_text_needs_no_yes(key: str) -> None:
    values = load({}, [key]).model_dump(mode="json", exclude_unset=True)
    Path("shared.yaml").write_text(json.dumps(values), encoding="utf-8")
    found = [act for act in acting.waiting(load("shared.yaml")) if act.kind != "upload"]
    assert found == []


def test_a_record_may_write_to_its_own_folder_alone() -> None:
    assert acting.waiting(foreign("observers.video.path=run/again.mp4"), Path("run")) == []
    assert acting.waiting(foreign("observers.video.path=run/../again.mp4"), Path("run"))
    Path("run").mkdir()
    Path("run/out").symlink_to("..")
    assert acting.waiting(foreign("observers.video.path=run/out/again.mp4"), Path("run"))


def foreign(key: str) -> Any:
    recipe = load({}, [key])
    return recipe.traced(type(recipe.origin).of(recipe.model_dump(mode="json")))


def test_a_long_or_hostile_value_is_short_and_plain_in_the_message() -> None:
    with pytest.raises(TrustError) as caught:
        acting.agreed(foreign("observers.video.path='\\e[31m" + "x" * 1000 + "'").model_copy())
    assert len(str(caught.value)) < 1000


TEXTS = {
    "adapter": {
        ("framepack", "base"): "by value",
        ("framepack", "vision"): "by value",
        ("framepack", "call"): "by value",
        ("skyreels", "call"): "by value",
        **{(name, "negative_prompt"): "text" for name in ("tinyworld", "tinyworld-student", "wan")},
        **{(name, "preview"): "by value" for name in ("tinyworld", "tinyworld-student", "wan")},
        **{(name, "variant"): "text" for name in ("tinyworld", "tinyworld-student", "wan")},
    },
    "memory": {("elite", "otherwise"): "text", ("fixed", "route"): "text"},
    "reward": {
        **{(name, "model"): "by value" for name in ("clipscore", "pickscore", "hpsv2", "laion-aesthetic", "hpsv3")},
        **{(name, "model"): "by value" for name in ("background-consistency", "subject-consistency", "videoalign")},
        **{(name, "revision"): "by value" for name in ("clipscore", "pickscore", "hpsv2", "laion-aesthetic", "hpsv3")},
        **{(name, "revision"): "by value" for name in ("background-consistency", "subject-consistency", "videoalign")},
        **{(name, option): "by value" for name in ("hpsv2", "laion-aesthetic") for option in ("checkpoint", "file")},
        **{(name, option): "by value" for name in ("hpsv3", "videoalign") for option in ("base", "base_revision")},
        **{(name, "template_file"): "by value" for name in ("hpsv3", "videoalign")},
        ("tinyalign", "folder"): "by value",
        ("videoalign", "checkpoint"): "by value",
    },
    "observer": {
        **{(name, "path"): "write" for name in ("folder", "journal", "report", "video")},
        ("trackers", "name"): "upload",
        ("console", "label"): "text",
        ("trackers", "run"): "text",
        ("trackers", "title"): "text",
        ("trackers", "folder"): "write",
        ("wandb", "project"): "upload",
        ("wandb", "entity"): "upload",
        ("wandb", "name"): "text",
        ("wandb", "group"): "text",
        ("wandb", "folder"): "write",
    },
}
"""Every option of this package that can hold a text, and what it does. `by value`: URLs and paths that lead away."""


def test_no_option_slips_past() -> None:
    """A new option that can hold a text: mark it with `metadata={"acts": ...}` if it acts, and list it above."""
    tables = {"adapter": discovery().adapters, "reward": discovery().rewards, **discovery().policies}
    found = {
        kind: {
            (name, option.name): acting.marks(entry).get(option.name, "by value")
            for name, entry in table.items()
            if entry.origin == "streamt1-plugins"
            for option in acting.fields(entry)
            if holds_text(option)
        }
        for kind, table in tables.items()
    }
    assert {kind: options for kind, options in found.items() if options} == TEXTS


def holds_text(option: dataclasses.Field[Any]) -> bool:
    written = str(option.type)
    return "Literal" not in written and any(word in written for word in ("str", "Path", "Any", "Mapping"))


made: list[str] = []


@dataclasses.dataclass
class Notes:
    outfile: str = "notes.txt"

    def __post_init__(self) -> None:
        made.append(self.outfile)

    @streamt1.hookimpl
    def streamt1_run_started(self) -> None:
        """Nothing, but a hook."""


@contextmanager
def registered() -> Iterator[None]:
    table = discovery().policies["observer"]
    table["notes"] = dataclasses.replace(table["console"], name="notes", target=Notes)
    try:
        yield
    finally:
        del table["notes"]


def test_an_observer_of_a_third_party_writes_where_its_option_is_called_so() -> None:
    with registered():
        assert [act.kind for act in acting.waiting(foreign("observers.notes.outfile=notes.txt"))] == ["write"]


def test_nothing_is_made_of_a_recipe_before_the_yes() -> None:
    made.clear()
    name = shared({"observers": {"notes": {"outfile": "notes.txt"}}})
    with registered(), pytest.raises(TrustError):
        streamt1.wrap(ToyPipeline(), name)
    assert made == []


def test_a_file_of_prompts_needs_no_yes_for_what_its_own_recipe_has() -> None:
    with registered():
        command = ("generate", "--prompts", prompts(), "--model", "toy", "--out", "runs")
        mine = ("-o", "observers.notes.outfile=notes.txt")
        assert call(*command, *mine).exit_code == 0
        journal = Path("runs/0001-a-prompt/journal.jsonl")
        unfinished = "".join(journal.read_text(encoding="utf-8").splitlines(keepends=True)[:-1])
        journal.write_text(unfinished, encoding="utf-8")
        assert "observers.notes.outfile" in one_line(call(*command))
        assert call(*command, *mine).exit_code == 0
        assert json.loads(journal.read_text(encoding="utf-8").splitlines()[-1])["event"] == "finished"


def test_a_model_is_read_as_data(tmp_path: Path) -> None:
    """Code beside the weights is never run."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "custom.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Custom: pass\n", encoding="utf-8")
    index = {"_class_name": ["custom", "Custom"], "_diffusers_version": "0.42.0"}
    (model / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    for adapter in ("helios", "wan", "skyreels", "anyflow", "framepack"):
        with pytest.raises((streamt1.PluginError, streamt1.UnsupportedPipelineError)):
            streamt1.load(str(model), "plain", adapter=adapter)
    assert not (tmp_path / "ran").exists()
    assert "custom" not in sys.modules


def test_a_replay_agrees_to_what_it_uses_alone() -> None:
    unused = replay.UNUSED
    assert acting.agreed(foreign("observers.video.path=video.mp4"), unused=unused)
    assert acting.agreed(foreign("rewards.short.flicker.where=python"), unused=unused)
    with pytest.raises(TrustError, match=r"adapter\.base"):
        acting.agreed(foreign("adapter={name: framepack, base: /model}"), unused=unused)
