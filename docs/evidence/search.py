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

import streamt1_plugins as streamt1

PROMPT, SEED = "a green circle moving right and a red star moving left on a white background", 3
PANELS: dict[str, tuple[str, ...]] = {
    "stream-t1": ("search.candidates=4",),
    "smc": ("search.top_k=8",),
    "diverse": (),
    "funnel": (),
}
"""Recipes, each with what makes it as wide as the others."""
PRUNED, KEPT, WINNER = "#b8bec6", "#3b6fb6", "#d9792b"


def trees() -> dict[str, Any]:
    """The tree of each recipe's run."""
    plain = streamt1.load("tinyworld", recipe="plain", device="cpu")
    found = {}
    for name, overrides in PANELS.items():
        pipe = streamt1.wrap(plain.pipe, name, adapter="tinyworld", overrides=overrides)
        pipe(PROMPT, generator=torch.Generator().manual_seed(SEED), output_type="latent")
        found[name] = pipe.tree
    return found


def draw_tree(axes: Any, tree: Any) -> None:
    """Candidates by chunk and score, joined to what they continue; a survivor is as large as it has children."""
    children = Counter(node.parent for node in tree)
    for order, (color, nodes) in enumerate(groups(tree).items()):
        pairs = [(tree.nodes[node.parent], node) for node in nodes if node.parent is not None]
        ends = [[(each.chunk, each.score) for each in pair] for pair in pairs]
        axes.add_collection(LineCollection(ends, colors=color, linewidths=0.6 + 0.7 * order, zorder=order))
        sizes = [10 + 12 * children[node.id] for node in nodes]
        places = [node.chunk for node in nodes], [node.score for node in nodes]
        axes.scatter(*places, s=sizes, color=color, zorder=order + 3, linewidths=0)


def groups(tree: Any) -> dict[str, list[Any]]:
    """The nodes by color."""
    found: dict[str, list[Any]] = {PRUNED: [], KEPT: [], WINNER: []}
    for node in tree:
        found[WINNER if node.id in tree.winner else PRUNED if node.rank is None else KEPT].append(node)
    return found


def figure(found: dict[str, Any]) -> Figure:
    """A panel per tree, with shared axes."""
    made = Figure(figsize=(9.5, 2.9 * ((len(found) + 1) // 2)), layout="constrained")
    panels = made.subplots((len(found) + 1) // 2, 2, sharex=True, sharey=True, squeeze=False).flat
    for axes, (name, tree) in zip(panels, found.items(), strict=False):
        draw_tree(axes, tree)
        axes.set_title(f"{name}: {len(tree)} candidates", fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
    made.supxlabel("chunk", fontsize=9)
    made.supylabel("score", fontsize=9)
    return made


def main(folder: Path) -> None:
    with mpl.rc_context({"font.size": 8}):
        figure(trees()).savefig(folder / "search.png", dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
