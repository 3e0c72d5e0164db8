"""The documentation against the code: hooks, recipes, keys, names, links, and examples that run."""

from __future__ import annotations

import inspect
import json
import logging
import re
import sys
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
import typer
from pydantic import BaseModel

import streamt1_plugins as streamt1
from streamt1_plugins.api import hookspecs
from streamt1_plugins.config import load as recipe
from streamt1_plugins.config.rewards import RewardPart
from streamt1_plugins.config.schema import Recipe
from streamt1_plugins.errors import InputError
from streamt1_plugins.plugins.discovery import Discovery
from streamt1_plugins.plugins.given import POLICY_SECTIONS
from streamt1_plugins.plugins.implementations import TRACE
from streamt1_plugins.policies.memory import feedback, route
from streamt1_plugins.policies.scoring import hybrid
from tests.docs.test_author_pages import ONE_FILE, SCRIPT
from tests.third_party.fresh import fresh_discovery
from tests.toy import ToyPipeline

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in PAGES}
HOOKS = [name for name, value in vars(hookspecs).items() if hasattr(value, "streamt1_spec")]


def section(name: str) -> str:
    """The part of docs/hooks.md under a hook's heading."""
    _, _, rest = TEXTS["hooks.md"].partition(f"### `{name}`\n")
    return re.split(r"^##", rest, maxsplit=1, flags=re.MULTILINE)[0]


def blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


# Hooks.


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_is_documented_with_its_signature_and_docstring(name: str) -> None:
    hook = getattr(hookspecs, name)
    signature = f"{name}{inspect.signature(hook)}".replace("'", "")
    assert f"```text\n{signature}\n```" in section(name)
    assert " ".join((inspect.getdoc(hook) or "").split()) in " ".join(section(name).split())
    assert "\nWhen: " in section(name)


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_has_an_example(name: str) -> None:
    assert any(re.search(rf"@hookimpl\n\s*def {name}\(", block) for block in blocks(section(name)))


@pytest.fixture
def my_plugin(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module that all examples of docs/hooks.md make together."""
    module = ModuleType("my_plugin")
    monkeypatch.setitem(sys.modules, "my_plugin", module)
    own = [each for each in blocks(TEXTS["hooks.md"]) if not each.startswith((SCRIPT, ONE_FILE))]
    exec("\n".join(own), vars(module))
    return module


MINE = {
    "width": {"name": "tapered", "least": 4},
    "noise": "mirrored",
    "scoring": "worst",
    "revision": {"name": "retake", "least": 100.0},
    "selection": "family",
    "memory": {"name": "milestones", "every": 2},
    "rewards": {"short": {"redness": {}}, "long": {"redness": {"options": {"gain": 2.0}}}},
    "observers": {"budget": {"chunks": 9}, "stills": {}, "misses": {}, "margins": {}, "ending": {}, "penalty": {}},
}


def test_the_examples_run(
    my_plugin: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found = fresh_discovery(monkeypatch, mine=my_plugin)
    assert found.adapters["mine"].pipelines == ("MyPipeline",)
    cli = typer.Typer()
    found.add_commands(cli)
    assert "greet" in {command.callback.__name__ for command in cli.registered_commands}
    monkeypatch.setenv(TRACE, "1")
    with caplog.at_level(logging.WARNING):
        pipe = streamt1.wrap(ToyPipeline(), MINE)
        pipe("a prompt")
    assert [len(pipe.tree.chunk(i)) for i in range(4)] == [4, 8, 8, 8]
    assert pipe.run.beams[0].history.memory == ("discard", "discard", "append", "discard")
    assert len({node.parent for node in pipe.tree.chunk(3) if node.fate == "kept"}) == 2
    assert len(pipe._observing.built["stills"].frames) == len(pipe.tree)
    assert len(pipe._observing.built["margins"].values) == 4
    assert pipe.tree.returns == [(0, 0)]
    assert "chunk 0: 4 candidates abandoned" in caplog.messages
    assert "4 chunks, well" in caplog.messages
    asked = " ".join(message for message in caplog.messages if " calls " in message)
    elsewhere = ("register", "commands", "acted")  # before a run, and in takes
    assert all(f"{name} calls" in asked for name in HOOKS if not any(each in name for each in elsewhere))
    with pytest.raises(InputError, match="The budget is 9 chunks, but the video has 10"):
        pipe("a prompt", chunks=10)


# Recipes.


def test_every_shipped_recipe_is_documented() -> None:
    missing = [name for name in recipe.names() if f"| `{name}` |" not in TEXTS["recipes.md"]]
    assert not missing


def keys(model: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """Every key of a recipe with its default; sections are opened, a part is its name."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if isinstance(field.default, BaseModel):
            found |= keys(type(field.default), f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = field.default
    return found


def policy_options() -> dict[str, Any]:
    """Options of the built-in policies with their defaults."""
    tables = Discovery().policies
    entries = [(kind, entry) for kind in POLICY_SECTIONS for entry in tables[kind].values()]
    return {f"{kind}.{field.name}": field.default for kind, entry in entries for field in fields(entry.load())}


@pytest.mark.parametrize(("key", "default"), {**keys(Recipe), **keys(RewardPart), **policy_options()}.items())
def test_every_key_is_documented_with_its_default(key: str, default: Any) -> None:
    shown = default if isinstance(default, str) and default else json.dumps(default)
    assert f"\n| `{key}` | {shown} | " in TEXTS["recipes.md"]


def test_every_calibration_is_documented() -> None:
    literal, fixed = get_args(RewardPart.model_fields["calibration"].annotation)
    names = [*get_args(literal), *fixed.model_fields]
    assert all(f"`{name}`" in TEXTS["recipes.md"] for name in names)


def test_the_recipe_of_the_team_page_is_that_of_its_samples() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", TEXTS["teams.md"], flags=re.DOTALL)
    written = set(re.findall(r"sample: printf '(.*?)' > ours", TEXTS["teams.md"]))
    assert {each.encode().decode("unicode_escape") for each in written} == {text.partition("\n")[2]}
    assert recipe.load(recipe.yaml12.read(text, "the example")).search.top_k == 3


def test_the_recipe_example_is_valid() -> None:
    text, _ = re.findall(r"```yaml\n(.*?)```", TEXTS["recipes.md"], flags=re.DOTALL)
    loaded = recipe.load(recipe.yaml12.read(text, "the example"))
    assert (loaded.search.candidates, loaded.memory.name, list(loaded.rewards.long)) == (
        4,
        "reward_feedback",
        ["basic"],
    )


def test_the_documented_overrides_work_together() -> None:
    lines = re.search(r"```text\n(search\.top_k=3\n.*?)```", TEXTS["recipes.md"], flags=re.DOTALL)
    assert lines
    loaded = recipe.load("stream-t1", lines[1].splitlines())
    assert (loaded.search.top_k, loaded.memory.name, loaded.rewards.long["basic"].weight) == (3, "fixed", 0.5)


def test_the_differences_from_the_release_are_documented() -> None:
    ours, theirs = (recipe.load(name) for name in ("stream-t1", "stream-t1-paper"))
    rows = re.findall(r"^\| `([\w.]+)` \| `(\w+)` \| `(\w+)` \|", TEXTS["recipes.md"], flags=re.MULTILINE)
    assert len(rows) == 6
    for key, paper, recommended in rows:
        name, _, option = key.partition(".")
        values = [str(_option(getattr(each, name), option)).lower() for each in (theirs, ours)]
        assert values == [paper, recommended]


def _option(section: Any, option: str) -> Any:
    return section.options[option] if hasattr(section, "options") else getattr(section, option)


# Names.


def registered() -> list[str]:
    found = Discovery()
    tables = [found.adapters, found.rewards, *found.policies.values()]
    return [name for table in tables for name, entry in table.items() if entry.origin == "streamt1-plugins"]


@pytest.mark.parametrize("name", registered())
def test_every_registered_name_is_documented(name: str) -> None:
    assert f"`{name}`" in TEXTS["recipes.md"]


# The worked example.

LINE = r"short (\S+)  long (\S+)  score (\S+)  (\w*) *(\d{3}\.\d{2})(?: \*(\d))?"


def test_the_worked_example_is_right() -> None:
    text = TEXTS["concepts.md"]
    parent: dict[str, Any] = {}
    nodes: dict[str, Any] = {}
    current = None
    for line in text.splitlines():
        branch = re.search(r"(\d{3}\.\d{2}) ─┬─", line)
        current = branch[1] if branch else current
        row = re.search(LINE, line)
        if row:
            short, long, score, shown, name, _ = row.groups()
            chunk = int(name[:3])
            nodes[name] = streamt1.Node(
                chunk=chunk, ordinal=int(name[4:]), parent=None, seed=0, short=float(short), long=float(long)
            )
            parent[name] = current
            assert hybrid(float(short), float(long), chunk / 2, 0.4) == pytest.approx(float(score))
            if chunk:
                past = [nodes[above] for above in lineage(parent, current)]
                gain, loss = (round(value, 9) for value in feedback(past, nodes[name], 9))
                assert route(gain, loss, 0.0, 0.2) == shown
    assert len(nodes) == 12
    assert len(lineage(parent, "002.01")) == 3
    assert lineage(parent, "002.01") == re.findall(r"\d{3}\.\d{2}", text.partition("winner: ")[2])[:3]


def lineage(parent: dict[str, Any], name: str | None) -> list[str]:
    path: list[str] = []
    while name:
        path.insert(0, name)
        name = parent.get(name)
    return path


def test_the_worked_examples_survivors_are_the_best() -> None:
    rows = [row.groups() for row in re.finditer(LINE, TEXTS["concepts.md"])]
    for chunk in ("000", "001", "002"):
        scored = sorted((-float(score), name, rank) for _, _, score, _, name, rank in rows if name.startswith(chunk))
        assert [rank for _, _, rank in scored] == ["0", "1", None, None]


# The README's reward.


def test_the_reward_of_the_readme_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("my_rewards")
    monkeypatch.setitem(sys.modules, "my_rewards", module)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    _, reward, hook = blocks(readme)
    vars(module).update(streamt1=streamt1, pipe=ToyPipeline())
    exec(hook, vars(module))
    exec(reward, vars(module))
    assert fresh_discovery(monkeypatch, mine=module).rewards["warmth"].load() is vars(module)["Warmth"]
    module.pipe("a prompt")
    assert all("warmth" in node.readings["long"] for node in module.pipe.tree)


# Stability.


def test_the_public_packages_exist() -> None:
    rows = re.findall(r"^\| (`streamt1_.*?) \|", TEXTS["stability.md"], flags=re.MULTILINE)
    names = re.findall(r"`([\w.]+)`", " ".join(rows))
    assert {"streamt1_plugins", "streamt1_seams", "streamt1_backbones"} <= set(names)
    assert all(find_spec(name) for name in names)


# All pages.


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_relative_links_resolve(path: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"", path.read_text(encoding="utf-8"))
    targets = [(one or other).partition("#")[0] for one, other in links]
    local = [target for target in targets if target and not re.match(r"[a-z]+:", target)]
    assert [target for target in local if not (path.parent / target).exists()] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_no_page_names_a_place_on_somebodys_machine(path: Path) -> None:
    places = r"(?<![\w.:/-])/(?:work|home|root|tmp|Users|mnt|opt|srv)/|\b[A-Z]:\\"
    assert re.findall(places, path.read_text(encoding="utf-8")) == []


def test_every_page_is_reached_from_the_index() -> None:
    listed = re.findall(r"\]\(([\w.-]+\.md)", TEXTS["index.md"])
    assert {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"} <= set(listed)
