"""Every code block of the pages for authors runs as it stands: docs/hooks.md, docs/rewards.md, docs/adapters.md."""

from __future__ import annotations

import importlib
import inspect
import re
import shlex
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner

import streamt1_plugins as streamt1
from streamt1_plugins.api import hookspecs
from streamt1_plugins.cli.main import app
from streamt1_plugins.cli.scaffold import Scaffold
from streamt1_plugins.config import load as recipes
from streamt1_plugins.plugins import discovery
from streamt1_plugins.runs.observers.journal import Journal
from tests.third_party.fresh import fresh_discovery
from tests.toy import ToyPipeline

tomllib = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")

DOCS = Path(__file__).parents[2] / "docs"
TEXTS = {name: (DOCS / f"{name}.md").read_text(encoding="utf-8") for name in ("hooks", "rewards", "adapters")}
QUICK = ("--num-frames", "9", "--device", "cpu", "--quiet")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXTS[page], flags=re.DOTALL | re.MULTILINE)


def block(page: str, start: str) -> str:
    """The only Python block that begins like this."""
    (found,) = (each for each in blocks(page, "python") if each.startswith(start))
    return found


SCRIPT = "import streamt1_plugins as streamt1\nfrom my_plugin"
ONE_FILE = "from dataclasses import dataclass\n\nfrom streamt1_plugins import Reward, RewardOutput, hookimpl"
RUN = {
    "rewards": (
        "from dataclasses import dataclass\nfrom streamt1_plugins import Reward, RewardOutput\n",
        "import streamt1_plugins as streamt1\n",
        "from streamt1_plugins import hookimpl\n",
        "from streamt1_plugins.testing import RewardContract\n",
        "recipe = ",
        "from dataclasses import dataclass\nfrom streamt1_plugins import ImageReward\n",
    ),
}
"""How the Python blocks of a page begin that tests below run. Those of hooks.md run all, and those of adapters.md are
run, or compared with files that are run, by tests/adapters/test_contract_docs.py."""


def test_no_block_is_left_out() -> None:
    assert [each for each in blocks("rewards", "python") if not each.startswith(RUN["rewards"])] == []
    for page, text in TEXTS.items():
        languages = set(re.findall(r"^```(\w*)$", text, flags=re.MULTILINE)) - {""}
        assert languages <= {"python", "text", "console", "yaml", "toml"}, page
        signatures = {f"{name}{inspect.signature(hook)}".replace("'", "") for name, hook in hooks()}
        assert {each.strip() for each in blocks(page, "text")} <= signatures, "code has its language, so that it is run"


def hooks() -> list[tuple[str, Any]]:
    return [(name, hook) for name, hook in vars(hookspecs).items() if hasattr(hook, "streamt1_spec")]


# Hooks.


@pytest.fixture
def my_plugin(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module that all examples of docs/hooks.md make together, registered."""
    module = ModuleType("my_plugin")
    monkeypatch.setitem(sys.modules, "my_plugin", module)
    own = [each for each in blocks("hooks", "python") if not each.startswith((SCRIPT, ONE_FILE))]
    exec("\n".join(own), vars(module))
    fresh_discovery(monkeypatch, mine=module)
    return module


@pytest.mark.slow
def test_objects_take_part_without_a_plugin(my_plugin: ModuleType) -> None:
    scope: dict[str, Any] = {}
    exec(block("hooks", SCRIPT), scope)
    scope["pipe"]("a red circle", num_frames=21)
    tree = scope["pipe"].tree
    assert {*tree.nodes} == {*scope["pipe"]._observing.built["stills"].frames}
    assert all({"redness", "basic"} <= set(node.readings["short"]) for node in tree)
    assert len({node.parent for node in tree.kept(1)}) == 2


def test_the_command_prints_its_greeting(my_plugin: ModuleType) -> None:
    cli = typer.Typer()
    my_plugin.streamt1_add_commands(cli)
    assert CliRunner().invoke(cli, ["world"]).output == "hello world\n"


@pytest.mark.parametrize("count", [2, 3])
def test_mirrored_noise_is_replayed_resumed_and_branched(my_plugin: ModuleType, count: int, tmp_path: Path) -> None:
    """Two of its proposals have one seed."""
    recipe = {"extends": "stream-t1", "noise": "mirrored", "search": {"candidates": count}}
    seen: dict[str, torch.Tensor] = {}

    class Frames:
        @streamt1.hookimpl
        def streamt1_candidate_scored(self, candidate: streamt1.Candidate) -> None:
            seen[candidate.id] = candidate.decoded.frames

    observers = {"journal": Journal(str(tmp_path / "run")), "frames": Frames()}
    pipe = streamt1.wrap(ToyPipeline(), recipe, observers=observers)
    video = pipe("a prompt")
    for node in list(pipe.tree):
        expected = torch.cat([seen[each.id] for each in pipe.tree.path(node.id)])
        assert torch.equal(streamt1.regenerate(tmp_path / "run", node.id, ToyPipeline()), expected), node.id
    loser = pipe.tree.chunk(1)[1]
    branched = streamt1.branch(tmp_path / "run", loser.id, tmp_path / "new", ToyPipeline())
    made = branched.complete(branched.last_run)
    assert torch.equal(made[:6], torch.cat([seen[each.id] for each in pipe.tree.path(loser.id)]))
    cut = {"journal": Journal(str(tmp_path / "cut"))}
    with pytest.raises(RuntimeError):
        streamt1.wrap(ToyPipeline(), recipe, observers=cut)("a prompt", fail_at=2)
    for damaged in (tmp_path / "cut" / "state").iterdir():
        damaged.write_bytes(b"")  # so that its chunks are made again from seeds
    assert torch.equal(streamt1.resume(tmp_path / "cut", ToyPipeline(), fail_at=None), video)


# One file, as a plugin.


def in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """The file `my_rewards.py`, and a process that has not seen it."""
    (folder / "my_rewards.py").write_text(text, encoding="utf-8")
    monkeypatch.chdir(folder)
    monkeypatch.delitem(sys.modules, "my_rewards", raising=False)
    monkeypatch.setattr(discovery, "_found", cache(discovery.Discovery))


@pytest.mark.slow
@pytest.mark.parametrize("page", ["hooks", "rewards"])
def test_the_commands_use_the_file(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = block("hooks", ONE_FILE) if page == "hooks" else block("rewards", RUN["rewards"][0]) + hook_of_rewards()
    (console,) = blocks(page, "console")
    for number, command in enumerate(re.findall(r"^\$ (.*)$", console, flags=re.MULTILINE)):
        in_folder(tmp_path, monkeypatch, text)
        variables, _, line = command.rpartition("streamt1 ")
        environment = dict(each.split("=") for each in variables.split())
        done = CliRunner(env=environment).invoke(app, [*shlex.split(line), *QUICK, "--out", f"run{number}"])
        assert done.exit_code == 0, done.output
        nodes = (tmp_path / f"run{number}" / "tree.json").read_text(encoding="utf-8")
        assert '"warmth"' in nodes
        assert '"tinyalign"' in nodes, "the suggested rewards are still there"
        sys.modules.pop("my_rewards", None)


def hook_of_rewards() -> str:
    return block("rewards", RUN["rewards"][2])


# Rewards.


@pytest.mark.slow
def test_the_rewards_run(monkeypatch: pytest.MonkeyPatch) -> None:
    reward, load, _, _, recipe, pictures = (block("rewards", start) for start in RUN["rewards"])
    scope: dict[str, Any] = {}
    exec(reward + load + recipe, scope)
    scope["pipe"]("a red circle", num_frames=9)
    node = next(iter(scope["pipe"].tree))
    assert (node.readings["long"]["warmth"].weight, set(node.readings["short"])) == (0.5, {"basic"})
    module: dict[str, Any] = {"__name__": "pictures"}
    monkeypatch.setitem(sys.modules, "pictures", ModuleType("pictures"))
    exec(pictures, module)
    assert module["Bright"]().score_frames(torch.ones(2, 3, 4, 4), ["", ""]).tolist() == [1, 1]


def test_the_packages_test_and_entry_point_are_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Scaffold("reward", "warmth").write(tmp_path)
    written = tomllib.loads((tmp_path / "pyproject.toml").read_text(encoding="utf-8"))
    (shown,) = blocks("rewards", "toml")
    assert tomllib.loads(shown)["project"]["entry-points"] == written["project"]["entry-points"]
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    scope: dict[str, Any] = {}
    exec(block("rewards", RUN["rewards"][3]), scope)
    case = scope["TestWarmth"]
    case.setup_class()
    assert case().scores(case().make_input()).shape == (4,)
    for name in [name for name in sys.modules if name.startswith("streamt1_warmth")]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize("text", blocks("rewards", "yaml"))
def test_the_recipes_are_valid(text: str) -> None:
    assert recipes.load({"extends": "stream-t1", **recipes.yaml12.read(text, "the example")}).rewards.are_named
