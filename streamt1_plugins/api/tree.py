"""The tree of a run: every candidate, its seeds, scores and fate."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from streamt1_plugins.api.types import Node
from streamt1_plugins.text.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SCHEMA = 1


@dataclass
class Tree:
    """Nodes in the order they were judged. `winner` is the chosen path, oldest first, empty until the end.

    `final` holds the whole-video scores of the last survivors by candidate id, where `search.final` is `whole_video`.
    `picked`: the node, chosen by hand, that a branched run continues; the nodes up to its chunk come from another run.
    """

    nodes: dict[str, Node] = field(default_factory=dict)
    winner: tuple[str, ...] = ()
    final: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    picked: str | None = None

    def add(self, node: Node) -> None:
        """Record a node; the same id again replaces the record, in its old place."""
        self.nodes[node.id] = node

    def note(self, text: str) -> None:
        """Record a remark about the run once."""
        text = printable(text)
        if text not in self.notes:
            self.notes.append(text)

    @property
    def inherited(self) -> int:
        """How many nodes come from the run that a branched run continues."""
        last = self.nodes[self.picked].chunk if self.picked in self.nodes else -1
        return sum(node.chunk <= last for node in self)

    def chunk(self, index: int) -> list[Node]:
        """The candidates of one chunk, in order."""
        return [node for node in self.nodes.values() if node.chunk == index]

    def chunks(self) -> list[int]:
        """The indices of the chunks that have candidates, in order."""
        return sorted({node.chunk for node in self.nodes.values()})

    def kept(self, index: int) -> list[Node]:
        """The survivors of one chunk, best first."""
        return sorted((node for node in self.chunk(index) if node.rank is not None), key=lambda node: node.rank or 0)

    def scores(self, index: int) -> list[float]:
        """The scores of one chunk's candidates, without those that no reward judged and those that are not finite."""
        return [node.score for node in self.chunk(index) if node.is_scored]

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
            **({"picked": self.picked} if self.picked else {}),
            "winner": list(self.winner),
            "final": {name: value if math.isfinite(value) else None for name, value in self.final.items()},
            "notes": list(self.notes),
            "nodes": [node_record(node) for node in self.nodes.values()],
        }


def node_record(node: Node) -> dict[str, Any]:
    """One candidate as plain data: what tree.json and the journal hold."""
    return {"id": node.id, **_NODES.dump_python(node, by_alias=True)}


def node_of(record: Mapping[str, Any], weights: Mapping[tuple[str, str], float]) -> Node:
    """A node from its record. `weights`: by (horizon, reward name), which are in the recipe and not in the record."""
    node = _NODES.validate_python(record)
    readings = {
        horizon: {name: replace(each, weight=weights.get((horizon, name), 1.0)) for name, each in named.items()}
        for horizon, named in node.readings.items()
    }
    return replace(node, readings=readings)


_NODES = TypeAdapter(Node)
