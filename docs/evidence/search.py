"""The figure of docs/search.md: the tree of one prompt under each search strategy, with eight candidates per chunk.

python docs/evidence/search.py docs/images        # search.svg; two minutes on one free thread
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
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
    for node in tree:
        is_kept, is_best = node.rank is not None, node.id in tree.winner
        color = WINNER if is_best else KEPT if is_kept else PRUNED
        order = 1 + is_kept + is_best
        if node.parent is not None:
            parent = tree.nodes[node.parent]
            ends = ((parent.chunk, node.chunk), (parent.score, node.score))
            axes.plot(*ends, color=color, linewidth=0.6 + 0.7 * (order - 1), zorder=order)
        size = 14 + 12 * children[node.id] if is_kept else 9
        axes.scatter(node.chunk, node.score, s=size, color=color, zorder=order + 3, linewidths=0)


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
    with mpl.rc_context({"svg.hashsalt": "search", "font.size": 8}):
        figure(trees()).savefig(folder / "search.svg", metadata={"Date": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
