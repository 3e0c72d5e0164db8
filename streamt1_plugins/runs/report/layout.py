"""Positions on the page, in units of one column and one row: a hundred units each, the style gives pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Sequence

    from streamt1_plugins.api.tree import Tree
    from streamt1_plugins.api.types import Node

UNIT = 100
CARD = 0.77
"""Share of a column that a card is wide; the rest is for the lines between columns."""
HEAD = 8
"""Room above and below a curve, so that its line is not cut."""
EDGES = ("abandoned", "pruned", "kept", "winner")
"""Kinds of lines, those that lie on top last."""
APART = 18
"""How far labels of an axis are apart at least."""


@dataclass(frozen=True)
class Cell:
    """A node in column `column` and row `row`."""

    node: Node
    column: int
    row: int
    is_winner: bool


@dataclass(frozen=True)
class Edge:
    """A line from the parent of a node to the node, as an SVG path; kind: one of `EDGES`."""

    node: str
    path: str
    kind: str


@dataclass(frozen=True)
class Axis:
    """The vertical axis of curves, from `low` to `high`."""

    low: float
    high: float

    def height(self, value: float) -> float:
        """Where a value is, from the top."""
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return HEAD + (1 - share) * (UNIT - 2 * HEAD)

    @property
    def zero(self) -> float | None:
        """Where zero is, None outside."""
        return self.height(0.0) if self.low <= 0 <= self.high else None


@dataclass(frozen=True)
class Curves:
    """Values over the chunks as SVG paths: the `band` of all candidates, their `mean`, the `winner` and its `dots`.

    `ends`: the winner's first and last value, each with its chunk; empty where it has none.
    """

    band: str
    mean: str
    winner: str
    dots: str
    axis: Axis
    ends: tuple[tuple[int, float], ...]

    @property
    def ticks(self) -> list[tuple[str, float]]:
        """(label, where from the top) of the lowest and the highest value and, where there is room, of zero."""
        places = {value: self.axis.height(value) for value in (self.axis.high, self.axis.low)}
        zero = self.axis.zero
        if zero is not None and all(abs(zero - place) >= APART for place in places.values()):
            places[0.0] = zero
        few = digits((self.axis.low, self.axis.high))
        return [(f"{value:.{few}f}" if value else "0", place) for value, place in places.items()]


def digits(values: Iterable[float], least: int = 2) -> int:
    """How many digits after the point tell these values apart: `least`, or up to three more where they are close."""
    finite = [value for value in values if math.isfinite(value)]
    spread = max(finite, default=0.0) - min(finite, default=0.0)
    return least if spread <= 0 else min(max(least, 1 - math.floor(math.log10(spread))), least + 3)


def cells(tree: Tree, winner: Sequence[str]) -> dict[str, Cell]:
    """Every node, chunk by chunk: the winner first, then the survivors, then by score, and last what was abandoned."""
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


def _order(node: Node, winner: Container[str]) -> tuple[bool, bool, float, tuple[float, ...], int]:
    rank = math.inf if node.rank is None else node.rank
    measured = (node.score if node.is_scored else math.nan, node.long, node.short)
    return (
        node.id not in winner,
        node.fate == "abandoned",
        rank,
        tuple(-each if math.isfinite(each) else math.inf for each in measured),
        node.ordinal,
    )


def edges(found: dict[str, Cell]) -> list[Edge]:
    """Lines between nodes and their parents; the winner's come last, so that they lie on top."""
    lines = []
    for parent, child in [(found[cell.node.parent], cell) for cell in found.values() if cell.node.parent in found]:
        x0, x1 = (parent.column + CARD) * UNIT, child.column * UNIT
        y0, y1 = (parent.row + 0.5) * UNIT, (child.row + 0.5) * UNIT
        middle = (x0 + x1) / 2
        kind = "winner" if parent.is_winner and child.is_winner else _kind(child.node)
        lines.append(Edge(child.node.id, f"M{x0:g} {y0:g}C{middle:g} {y0:g} {middle:g} {y1:g} {x1:g} {y1:g}", kind))
    return sorted(lines, key=lambda edge: EDGES.index(edge.kind))


def _kind(node: Node) -> str:
    return str(node.fate) if node.fate in EDGES else "pruned"


def curves(tree: Tree, winner: Sequence[str], value: Callable[[Node], float], *, zero: bool = False) -> Curves | None:
    """The curves of a value of candidates. NaN means that a candidate has none; zero: the axis holds 0.

    None where fewer than two chunks have a value: there is nothing to follow.
    """
    found = {chunk: list(filter(math.isfinite, map(value, nodes))) for chunk, nodes in by_chunk(tree).items()}
    measured = [(chunk, values) for chunk, values in found.items() if values]
    if len(measured) < 2:
        return None
    low, high = min(min(values) for _, values in measured), max(max(values) for _, values in measured)
    axis = Axis(min(low, 0.0), max(high, 0.0)) if zero else Axis(low, high)
    best = [(tree.nodes[name].chunk, value(tree.nodes[name])) for name in winner]
    chosen = [(chunk, each) for chunk, each in best if math.isfinite(each)]
    points = [_point(chunk, each, axis) for chunk, each in chosen]
    top = [_point(chunk, max(values), axis) for chunk, values in measured]
    bottom = [_point(chunk, min(values), axis) for chunk, values in reversed(measured)]
    return Curves(
        band=f"M{'L'.join(top + bottom)}Z",
        mean=f"M{'L'.join(_point(chunk, fmean(values), axis) for chunk, values in measured)}",
        winner=f"M{'L'.join(points)}" if points else "",
        dots="".join(f"M{point}h.01" for point in points),  # round caps make dots that do not stretch
        axis=axis,
        ends=(chosen[0], chosen[-1]) if chosen else (),
    )


def _point(chunk: int, value: float, axis: Axis) -> str:
    return f"{(chunk + CARD / 2) * UNIT:g} {axis.height(value):.4g}"
