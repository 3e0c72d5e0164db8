"""`tree.json` and `summary.json` of a run folder as the page needs them: typed, whoever wrote them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from streamt1_studio import files

if TYPE_CHECKING:
    from pathlib import Path

TREE, SUMMARY = "tree.json", "summary.json"


class Reading(BaseModel):
    """The reading of one reward."""

    raw: float | None = None


class RecordedNode(BaseModel):
    """A candidate."""

    id: str
    chunk: int
    parent: str | None = None
    seed: int | str = ""
    short: float | None = None
    long: float | None = None
    score: float | None = None
    route: str | None = None
    fate: str | None = None
    rank: int | None = None
    problem: str | None = None
    rewards: dict[str, dict[str, Reading]] = {}


class RecordedAction(BaseModel):
    """What a person did."""

    kind: str
    candidates: list[str] = []


class RecordedTree(BaseModel):
    """The tree of a run."""

    nodes: list[RecordedNode] = []
    winner: list[str] = []
    notes: list[str] = []
    actions: list[RecordedAction] = []

    @property
    def path(self) -> list[str]:
        """The path that was chosen; of a run that is not finished, the best one so far."""
        known = {each.id: each for each in self.nodes}
        best = next((each for each in reversed(self.nodes) if each.rank == 0), None)
        path: list[str] = []
        while best is not None and best.id not in path:
            path.append(best.id)
            best = known.get(best.parent or "")
        return self.winner or path[::-1]

    @property
    def by_hand(self) -> set[str]:
        """The candidates that a person kept."""
        return {name for action in self.actions if action.kind == "keep" for name in action.candidates}


class Chunks(BaseModel):
    """How many chunks are made, of how many."""

    done: int
    of: int


class RecordedSummary(BaseModel):
    """How a run ended, and what it cost."""

    chunks: Chunks | None = None
    error: str | None = None
    cost: dict[str, int] = {}

    @property
    def status(self) -> str:
        """`finished`, `stopped`, or `open` where the run has not ended."""
        if self.chunks is None:
            return "open"
        return "stopped" if self.error or self.chunks.done < self.chunks.of else "finished"


Record = TypeVar("Record", bound=BaseModel)


def read(kind: type[Record], path: Path) -> Record:
    """The record in a file, an empty one where the file is damaged or not there."""
    found: dict[str, Any] = files.read_json(path)
    try:
        return kind.model_validate(found)
    except ValidationError:
        return kind()
