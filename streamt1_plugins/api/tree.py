"""The tree of a run: every candidate, its seeds, scores and fate."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from html import escape
from statistics import fmean
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from streamt1_plugins.api.types import Node
from streamt1_plugins.text.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SCHEMA = 1
SHOWN = 2
COLUMNS = ("id", "chunk", "parent", "fate", "rank", "score", "short", "long", "route", "seed", "seconds", "problem")
"""The fields of a node that its row in a table has."""
RARE = ("previewed", "round", "varies")
"""The fields of a node that its record has only where they differ from their defaults."""


@dataclass(repr=False)
class Tree:
    """Nodes in the order they were judged. `winner` is the chosen path, oldest first, empty until the end.

    `final` holds the whole-video scores of the last survivors by candidate id, where `search.final` is `whole_video`.
    `returns`: (chunk that was judged, chunk that the search went back to) of every return, in order.
    `picked`: the node, chosen by hand, that a branched run continues; the nodes up to its chunk come from another run.
    Iterating gives all nodes, those abandoned when the search went back included; questions about a chunk are about
    what stands. `table` has their scores.
    """

    nodes: dict[str, Node] = field(default_factory=dict)
    winner: tuple[str, ...] = ()
    final: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    picked: str | None = None
    returns: list[tuple[int, int]] = field(default_factory=list)

    def add(self, node: Node) -> None:
        """Record a node; the same id again replaces the record, in its old place."""
        self.nodes[node.id] = node

    def note(self, text: str) -> None:
        """Record a remark about the run once."""
        text = printable(text)
        if text not in self.notes:
            self.notes.append(text)

    def abandon(self, first: int) -> None:
        """Mark what stands from chunk `first` on as abandoned: the search has gone back."""
        for node in [each for each in self if each.chunk >= first and each.fate != "abandoned"]:
            self.add(replace(node, fate="abandoned"))

    @property
    def inherited(self) -> int:
        """How many nodes come from the run that a branched run continues."""
        last = self.nodes[self.picked].chunk if self.picked in self.nodes else -1
        return sum(node.chunk <= last for node in self)

    def chunk(self, index: int) -> list[Node]:
        """The candidates of one chunk, in order, without those that were abandoned."""
        return [node for node in self.nodes.values() if node.chunk == index and node.fate != "abandoned"]

    def abandoned(self, index: int | None = None) -> list[Node]:
        """The candidates that were abandoned, of one chunk or (None) of all, in the order they were judged."""
        return [node for node in self if node.fate == "abandoned" and index in (None, node.chunk)]

    def chunks(self) -> list[int]:
        """The indices of the chunks that have candidates, abandoned ones aside, in order."""
        return sorted({node.chunk for node in self.nodes.values() if node.fate != "abandoned"})

    def kept(self, index: int) -> list[Node]:
        """The survivors of one chunk, best first."""
        return sorted((node for node in self.chunk(index) if node.rank is not None), key=lambda node: node.rank or 0)

    def scores(self, index: int) -> list[float]:
        """The scores of one chunk's candidates, without those that no reward judged and those that are not finite."""
        return [node.score for node in self.chunk(index) if node.is_scored]

    def children(self, node_id: str | None) -> list[Node]:
        """The candidates that continue a node (None: those of the first chunk), abandoned ones included."""
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

    def __repr__(self) -> str:
        chunks, several = len(self.chunks()), "s" * (len(self.chunks()) != 1)
        winner = [f"winner {' > '.join(_ends(self.winner))}"] if self.winner else []
        notes = [f"{len(self.notes)} note{'s' * (len(self.notes) > 1)}"] if self.notes else []
        return f"<Tree: {', '.join([f'{len(self)} candidates in {chunks} chunk{several}', *winner, *notes])}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: a row per chunk."""
        rows = "".join(map(self._html_row, self.chunks()))
        notes = "".join(f"<p>Note: {escape(note)}</p>" for note in self.notes)
        head = "".join(
            f"<th>{name}</th>" for name in ("chunk", "candidates", "best", "mean", "kept, the winner's in bold")
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{notes}"

    def _html_row(self, index: int) -> str:
        scores = self.scores(index)
        best, mean = (f"{max(scores):.3f}", f"{fmean(scores):.3f}") if scores else ("-", "-")
        names = [f"<b>{node.id}</b>" if node.id in self.winner else node.id for node in self.kept(index)]
        cells = (str(index), str(len(self.chunk(index))), best, mean, " ".join(names))
        return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"

    def rows(self) -> list[dict[str, Any]]:
        """A row of plain values per candidate: scores, fate, and the raw reading of every reward as ``short/NAME``.

        Numbers that were not taken are NaN; every row has the same keys.
        """
        readings = {
            (horizon, name): math.nan for node in self for horizon in node.readings for name in node.readings[horizon]
        }
        return [
            {
                **{name: getattr(node, name) for name in COLUMNS},
                "winner": node.id in self.winner,
                **{
                    f"{horizon}/{name}": reading.raw
                    if (reading := node.readings.get(horizon, {}).get(name))
                    else math.nan
                    for horizon, name in readings
                },
            }
            for node in self
        ]

    def table(self) -> Any:
        """The `rows` as a pandas `DataFrame` where pandas is installed, by node id; the rows themselves otherwise."""
        try:
            from pandas import DataFrame  # type: ignore[import-untyped]
        except ImportError:
            return self.rows()
        return DataFrame(self.rows(), columns=[*COLUMNS, "winner"] if not self.nodes else None).set_index("id")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; NaN and infinities become None."""
        return {
            "schema": SCHEMA,
            **({"picked": self.picked} if self.picked else {}),
            **({"returns": [list(each) for each in self.returns]} if self.returns else {}),
            "winner": list(self.winner),
            "final": {name: value if math.isfinite(value) else None for name, value in self.final.items()},
            "notes": list(self.notes),
            "nodes": [node_record(node) for node in self.nodes.values()],
        }


def _ends(names: tuple[str, ...]) -> tuple[str, ...]:
    """The first and the last two of a long path."""
    return names if len(names) <= 2 * SHOWN else (*names[:SHOWN], "...", *names[-SHOWN:])


def node_record(node: Node) -> dict[str, Any]:
    """One candidate as plain data: what tree.json and the journal hold, without those of `RARE` that say nothing."""
    record = {"id": node.id, **_NODES.dump_python(node, by_alias=True)}
    return {name: value for name, value in record.items() if value or name not in RARE}


def node_of(record: Mapping[str, Any], weights: Mapping[tuple[str, str], float]) -> Node:
    """A node from its record. `weights`: by (horizon, reward name), which are in the recipe and not in the record."""
    node = _NODES.validate_python(record)
    readings = {
        horizon: {name: replace(each, weight=weights.get((horizon, name), 1.0)) for name, each in named.items()}
        for horizon, named in node.readings.items()
    }
    return replace(node, readings=readings)


_NODES = TypeAdapter(Node)
