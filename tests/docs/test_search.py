"""The page of search strategies: what it promises of widths and draws, and the script that draws its figure."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from matplotlib.collections import PathCollection

import streamt1_plugins as streamt1
from streamt1_plugins.config import load as recipes
from streamt1_plugins.plugins import build
from streamt1_plugins.plugins.discovery import Discovery
from streamt1_plugins.plugins.resolve import resolve
from tests.search.revising import Returning
from tests.toy import ToyPipeline

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "search.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("search_figure", DOCS / "evidence" / "search.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_policy_that_decides_who_survives_has_a_place() -> None:
    found = Discovery().policies
    named = {f"`{kind}: {name}`" for kind in ("width", "selection", "revision") for name in found[kind]} - {
        "`revision: none`"
    }
    assert not [each for each in named if each not in TEXT]


def test_the_recipes_of_its_table_exist() -> None:
    rows = re.findall(r"^\| \[.*?\]\(.*?\) \| (.*?) \|", TEXT, flags=re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`([a-z0-9-]+)`", row)]
    assert len(named) >= 10
    assert set(named) <= set(recipes.names())


@pytest.mark.parametrize(
    ("prices", "promised"),
    [((4,) * 7, "7, 6, 5, 4, 3, 2 and 1"), ((16, 4, 4, 4, 4, 4, 4), "6, 4, 4, 3, 2, 2 and 1")],
)
def test_the_widths_of_the_funnel_are_those_of_the_recipe(prices: tuple[int, ...], promised: str) -> None:
    recipe = resolve("funnel", "tinyworld")
    outline = streamt1.Outline(prices, (0,) * 7, latent_frames=3, steps=prices)
    widths = build.policies(recipe)["width"].schedule(recipe, outline)
    assert ", ".join(map(str, widths[:-1])) + f" and {widths[-1]}" == promised
    assert promised in " ".join(TEXT.split())


SHORT: dict[str, tuple[str, dict[str, object]]] = {
    "smc": ("smc", {}),
    "funnel": ("funnel", {}),
    "backtrack": ("stream-t1", {"revision": Returning(times=2)}),
    "refine": ("refine", {}),
}
"""A recipe and policies for some panels: the toy's rewards rarely fall by the threshold of `backtrack`."""


@pytest.fixture(scope="module")
def trees(_toy_plugin: None) -> dict[str, streamt1.Tree]:
    found = {}
    for name, (recipe, policies) in SHORT.items():
        pipe = streamt1.wrap(ToyPipeline(), recipe, policies=policies)
        pipe("a prompt")
        found[name] = pipe.tree
    return found


def test_the_figure_has_a_panel_per_strategy_with_every_candidate(
    script: ModuleType, trees: dict[str, streamt1.Tree]
) -> None:
    panels = script.figure(trees).axes
    assert [axes.get_title(loc="left").partition(":")[0] for axes in panels] == list(SHORT)
    for axes, tree in zip(panels, trees.values(), strict=True):
        dots = [each for each in axes.collections if isinstance(each, PathCollection)]
        assert sum(len(each.get_offsets()) for each in dots) == len(tree)
        nodes = script.groups(tree)
        assert [node.id for node in nodes[script.WINNER]] == list(tree.winner)
        assert all(node.rank is None for node in nodes[script.PRUNED])


def test_the_figure_shows_what_was_abandoned_and_the_rounds_apart(
    script: ModuleType, trees: dict[str, streamt1.Tree]
) -> None:
    back, refined = trees["backtrack"], trees["refine"]
    assert back.returns == [(3, 1), (3, 1)]
    assert script.groups(back)[script.ABANDONED] == back.abandoned()
    arrows = [each.get_text() for each in script.figure({"backtrack": back}).axes[0].texts]
    assert arrows == [f" back {number + 1}" for number in range(len(back.returns))]
    for tree in (back, refined):
        first = script.first_rounds(tree)
        places = {node.id: script.place(node, first) - node.chunk for node in tree}
        assert {each for each in places if places[each] < 0} == {node.id for node in tree.abandoned()}
        assert {each for each in places if places[each] > 0} == {node.id for node in tree if node.varies}


def test_the_recipes_of_the_figure_are_equally_wide(script: ModuleType) -> None:
    searches = [recipes.load(name, list(more)).search for name, more in script.PANELS.items()]
    assert {each.candidates * each.top_k for each in searches} == {8}
