"""Positions on the page, in units of one column and one row: a hundred units each, the style gives pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from streamt1_plugins.api.tree import Tree
    from streamt1_plugins.api.types import Node

UNIT = 100
CARD = 0.77
"""Share of a column that a card is wide; the rest is for the lines between columns."""
HEAD = 8
"""Room above and below a curve, so that its line is not cut."""


@dataclass(frozen=True)
class Cell:
    """A node in column `column` and row `row`."""

    node: Node
    column: int
    row: int
    is_winner: bool


@dataclass(frozen=True)
class Edge:
    """A line from a node to its parent, as an SVG path; kind: `winner`, `kept` or `pruned`."""

    path: str
    kind: str


@dataclass(frozen=True)
class Curves:
    """Scores over the chunks as SVG paths: the `band` of all candidates, their `mean`, the `winner` and its `dots`."""

    band: str
    mean: str
    winner: str
    dots: str
    low: float
    high: float


def cells(tree: Tree, winner: Sequence[str]) -> dict[str, Cell]:
    """Every node, chunk by chunk: the winner in the first row, then the survivors, then by score."""
    found: dict[str, Cell] = {}
    best = set(winner)
    for column, nodes in by_chunk(tree).items():
        for row, node in enumerate(sorted(nodes, key=lambda node: _order(node, best))):
            found[node.id] = Cell(node, column, row, node.id in best)
    return found


def by_chunk(tree: Tree) -> dict[int, list[Node]]:
    """The nodes of every chunk, chunks in order."""
    found: dict[int, list[Node]] = {}
    for node in sorted(tree, key=lambda node: node.chunk):
        found.setdefault(node.chunk, []).append(node)
    return found


def _order(node: Node, winner: Container[str]) -> tuple[bool, float, float, int]:
    rank = math.inf if node.rank is None else node.rank
    score = -node.score if math.isfinite(node.score) else math.inf
    return node.id not in winner, rank, score, node.ordinal


def edges(found: dict[str, Cell]) -> list[Edge]:
    """Lines between nodes and their parents; the winner's come last, so that they lie on top."""
    lines = []
    for parent, child in [(found[cell.node.parent], cell) for cell in found.values() if cell.node.parent in found]:
        x0, x1 = (parent.column + CARD) * UNIT, child.column * UNIT
        y0, y1 = (parent.row + 0.5) * UNIT, (child.row + 0.5) * UNIT
        middle = (x0 + x1) / 2
        kind = "winner" if parent.is_winner and child.is_winner else "kept" if child.node.fate == "kept" else "pruned"
        lines.append(Edge(f"M{x0:g} {y0:g}C{middle:g} {y0:g} {middle:g} {y1:g} {x1:g} {y1:g}", kind))
    return sorted(lines, key=lambda edge: ("pruned", "kept", "winner").index(edge.kind))


def curves(tree: Tree, winner: Sequence[str]) -> Curves | None:
    """The score curves; None where no candidate has a score."""
    scored = {chunk: [node.score for node in nodes if node.is_scored] for chunk, nodes in by_chunk(tree).items()}
    measured = [(chunk, scores) for chunk, scores in scored.items() if scores]
    if not measured:
        return None
    low = min(min(scores) for _, scores in measured)
    high = max(max(scores) for _, scores in measured)
    best = [(tree.nodes[name].chunk, tree.nodes[name].score) for name in winner]
    chosen = [_point(chunk, score, low, high) for chunk, score in best if math.isfinite(score)]
    top = [_point(chunk, max(scores), low, high) for chunk, scores in measured]
    bottom = [_point(chunk, min(scores), low, high) for chunk, scores in reversed(measured)]
    return Curves(
        band=f"M{'L'.join(top + bottom)}Z",
        mean=f"M{'L'.join(_point(chunk, fmean(scores), low, high) for chunk, scores in measured)}",
        winner=f"M{'L'.join(chosen)}" if chosen else "",
        dots="".join(f"M{point}h.01" for point in chosen),  # round caps make dots that do not stretch
        low=low,
        high=high,
    )


def _point(chunk: int, score: float, low: float, high: float) -> str:
    share = (score - low) / (high - low) if high > low else 0.5
    return f"{(chunk + CARD / 2) * UNIT:g} {HEAD + (1 - share) * (UNIT - 2 * HEAD):.4g}"
