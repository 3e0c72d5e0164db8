"""The figure of docs/search.md: the tree of one prompt under each search strategy, with eight candidates per chunk.

python docs/evidence/search.py docs/images        # search.png; half a minute on one free thread
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import streamt1_plugins as streamt1

PROMPT, SEED = "a green circle moving right and a red star moving left on a white background", 3
PANELS: dict[str, tuple[str, ...]] = {
    "stream-t1": ("search.candidates=4",),
    "smc": ("search.top_k=8",),
    "diverse": (),
    "funnel": (),
    "backtrack": ("search.candidates=4", "search.top_k=2", "revision.share=0.05", "revision.times=2"),
    "refine": (),
}
"""Recipes, each with what makes it as wide as the others; a short video rarely falls by `backtrack`'s own threshold."""
PRUNED, ABANDONED, KEPT, WINNER = "#b8bec6", "#b0578d", "#3b6fb6", "#d9792b"
WIDTHS = {PRUNED: 0.5, ABANDONED: 1.2, KEPT: 1.4, WINNER: 2.2}
"""Of the lines to survivors; those to pruned candidates are as thin as the first."""
STEP = 0.17
"""How far to the right of an earlier round a later one stands, in chunks; what was abandoned is of earlier rounds."""


def trees() -> dict[str, Any]:
    """The tree of each recipe's run."""
    plain = streamt1.load(recipe="plain", device="cpu")
    found = {}
    for name, overrides in PANELS.items():
        pipe = streamt1.wrap(plain.pipe, name, adapter=plain.recipe.adapter.name, overrides=overrides)
        pipe(PROMPT, generator=torch.Generator().manual_seed(SEED), output_type="latent")
        found[name] = pipe.tree
    return found


def draw_tree(axes: Any, tree: Any) -> None:
    """Candidates by chunk and score, joined to what they continue; a survivor is as large as it has children."""
    children, first = Counter(node.parent for node in tree), first_rounds(tree)
    at = {node.id: (place(node, first), node.score) for node in tree}
    for order, (color, nodes) in enumerate(groups(tree).items()):
        widths = [WIDTHS[color] if node.rank is not None else WIDTHS[PRUNED] for node in nodes]
        kept = [(node, width) for node, width in zip(nodes, widths, strict=True) if node.parent is not None]
        parents = [(each, width) for each, width in kept if not each.varies or each.rank is not None]
        style = {"colors": color, "zorder": order}
        lines = [[at[node.parent], at[node.id]] for node, _ in parents]
        axes.add_collection(LineCollection(lines, linewidths=[width for _, width in parents], **style))
        elders = [[at[node.varies.of], at[node.id]] for node in nodes if node.varies]
        axes.add_collection(LineCollection(elders, linestyles="dotted", linewidths=0.9, **style))
        for marker in "oD":
            shown = [node for node in nodes if ("D" if node.varies else "o") == marker]
            sizes = [10 + 12 * children[node.id] for node in shown]
            axes.scatter(*places(shown, at), s=sizes, color=color, marker=marker, zorder=order + 4, linewidths=0)
    draw_returns(axes, tree)


def first_rounds(tree: Any) -> dict[int, int]:
    """The first round of each chunk's attempt that stands."""
    return {chunk: min(node.round for node in tree.chunk(chunk)) for chunk in tree.chunks()}


def place(node: Any, first: dict[int, int]) -> float:
    """Where a candidate stands on the axis of chunks."""
    return float(node.chunk + STEP * (node.round - first.get(node.chunk, 0)))


def places(nodes: list[Any], at: dict[str, tuple[float, float]]) -> tuple[list[float], list[float]]:
    """The coordinates of nodes, by axis."""
    return [at[node.id][0] for node in nodes], [at[node.id][1] for node in nodes]


def draw_returns(axes: Any, tree: Any) -> None:
    """An arrow from each chunk that was judged to the one that the search went back to."""
    look = {"xycoords": ("data", "axes fraction"), "va": "center", "color": ABANDONED}
    arrow = {"arrowstyle": "->", "color": ABANDONED, "shrinkA": 0, "shrinkB": 0}
    for number, (judged, back) in enumerate(tree.returns):
        height = 0.96 - 0.08 * number
        start, end = (judged, height), (back - STEP, height)
        axes.annotate(f" back {number + 1}", end, start, arrowprops=arrow, **look)


def groups(tree: Any) -> dict[str, list[Any]]:
    """The nodes by color."""
    found: dict[str, list[Any]] = {PRUNED: [], ABANDONED: [], KEPT: [], WINNER: []}
    for node in tree:
        color = ABANDONED if node.fate == "abandoned" else PRUNED if node.rank is None else KEPT
        found[WINNER if node.id in tree.winner else color].append(node)
    return found


def figure(found: dict[str, Any]) -> Figure:
    """A panel per tree; the level of a score means something in its own panel alone."""
    made = Figure(figsize=(9.5, 0.3 + 2.7 * ((len(found) + 1) // 2)), layout="constrained")
    panels = made.subplots((len(found) + 1) // 2, 2, sharex=True, squeeze=False).flat
    for axes, (name, tree) in zip(panels, found.items(), strict=False):
        draw_tree(axes, tree)
        axes.set_title(f"{name}: {len(tree)} candidates", fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
    made.supxlabel("chunk", fontsize=9)
    made.supylabel("score", fontsize=9)
    made.legend(handles=legend(), loc="outside upper center", ncols=5, frameon=False)
    return made


def legend() -> list[Line2D]:
    """What colors and markers mean."""
    named = {"winner": WINNER, "survives": KEPT, "pruned": PRUNED, "abandoned": ABANDONED}
    dots = [Line2D([], [], color=color, marker="o", ls="", label=name) for name, color in named.items()]
    return [*dots, Line2D([], [], color="#555555", marker="D", ls=":", label="varies another candidate")]


def main(folder: Path) -> None:
    with mpl.rc_context({"font.size": 8}):
        figure(trees()).savefig(folder / "search.png", dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
