"""The tree of a run: every candidate, its seeds, scores and fate."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from streamt1_plugins.api.types import Node, Reading

SCHEMA = 1


@dataclass
class Tree:
    """Nodes in the order they were judged; `winner` is the chosen path, oldest first, empty until the end.

    `final` holds the whole-video scores of the last survivors by candidate id, where the recipe asks for them.
    """

    nodes: dict[str, Node] = field(default_factory=dict)
    winner: tuple[str, ...] = ()
    final: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, node: Node) -> None:
        """Record a node; the same id again replaces the record, in its old place."""
        self.nodes[node.id] = node

    def note(self, text: str) -> None:
        """Record a remark about the run once."""
        if text not in self.notes:
            self.notes.append(text)

    def chunk(self, index: int) -> list[Node]:
        """The candidates of one chunk, in order."""
        return [node for node in self.nodes.values() if node.chunk == index]

    def children(self, node_id: str | None) -> list[Node]:
        """The candidates that continue a node (None: those of the first chunk)."""
        return [node for node in self.nodes.values() if node.parent == node_id]

    def path(self, node_id: str) -> tuple[Node, ...]:
        """From the first chunk to `node_id`."""
        path = [self.nodes[node_id]]
        while path[-1].parent is not None:
            path.append(self.nodes[path[-1].parent])
        return tuple(reversed(path))

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    def __len__(self) -> int:
        return len(self.nodes)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; NaN and infinities become None."""
        return {
            "schema": SCHEMA,
            "winner": list(self.winner),
            "final": {name: _number(value) for name, value in self.final.items()},
            "notes": list(self.notes),
            "nodes": [node_record(node) for node in self.nodes.values()],
        }


def node_record(node: Node) -> dict[str, Any]:
    """One candidate as plain data: what tree.json and the journal hold."""
    return {
        "id": node.id,
        "chunk": node.chunk,
        "ordinal": node.ordinal,
        "parent": node.parent,
        "seed": node.seed,
        "propagated": node.propagated,
        "rewards": {horizon: _readings(readings) for horizon, readings in node.readings.items()},
        "short": _number(node.short),
        "long": _number(node.long),
        "score": _number(node.score),
        "route": node.route,
        "fate": node.fate,
        "rank": node.rank,
        "problem": node.problem,
        "stage": node.stage,
        "seconds": round(node.seconds, 4),
    }


def _readings(readings: Mapping[str, Reading]) -> dict[str, dict[str, float | None]]:
    return {name: {"raw": _number(r.raw), "value": _number(r.value)} for name, r in readings.items()}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
