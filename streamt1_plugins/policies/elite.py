"""Elite sinks: the first sink gives way to a better chunk, so that a flawed first chunk does not anchor the video."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from streamt1_plugins.api.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamt1_plugins.api.candidate import Candidate
    from streamt1_plugins.api.types import MemoryRoute, Node


def anchor(path: Sequence[Node]) -> Node:
    """The chunk that is the first sink once every chunk of the path has left the window."""
    replacing = [node for node in path[1:] if node.route == "replace"]
    return replacing[-1] if replacing else path[0]


@dataclass(frozen=True)
class Elite:
    """`replace` for a chunk that is better than the anchor of its branch, `otherwise` for every other one.

    by: the reward that compares, `short` (the quality of the chunk alone), `long`, or the `score` of the selection.
    margin: how much better, in calibrated reward units. otherwise: a route of the adapter's memory. A chunk takes its
    route when it leaves the window; the anchor of the decision is the best chunk so far, in the window or out of it.
    """

    needs_frames: ClassVar[bool] = False
    compares_chunks: ClassVar[bool] = True

    by: Literal["short", "long", "score"] = "short"
    margin: float = 0.0
    otherwise: str = field(default="discard", metadata={"acts": "text"})

    @property
    def routes(self) -> frozenset[MemoryRoute]:
        """The routes it may answer with."""
        return frozenset({"replace", self.otherwise})

    @hookimpl
    def streamt1_route_memory(self, candidate: Candidate) -> MemoryRoute:
        gain = getattr(candidate, self.by) - getattr(anchor(candidate.beam.path), self.by)
        return "replace" if gain > self.margin else self.otherwise  # NaN (not measured) is not above the margin
