"""A video in the making as the studio holds it: its jobs, its state, and what is seen of it."""

from __future__ import annotations

import secrets
from collections import deque
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from streamt1_studio.hand import Hand
    from streamt1_studio.pictures import Picture

State = Literal["queued", "working", "waiting", "parked", "finished"]
"""`queued`: it waits for the model. `working`: the model works on it. `waiting`: a person decides. `parked`: saved, and
closed until a person goes on with it. `finished`: its video is written."""


@dataclass(frozen=True)
class Job:
    """Something that a person wants of a sitting: `name` in words, and the work on its hand."""

    name: str
    work: Callable[[Hand], None]


@dataclass(eq=False)
class Sitting:
    """One take: `hand` holds it while it has the model, `view` is what was seen of it last, `folder` records it.

    pictures: strips of the candidates that wait. playing: whether the recipe decides every chunk until the end, or
    until a person stops it. problem: why the last job failed, empty where it did not. began: when the newest step
    did. pace: seconds that a chunk takes, of the newest ones the most. spent: seconds of work since the last chunk was
    kept.
    """

    opener: Callable[[], Hand]
    folder: Path
    recipe: str = ""
    id: str = field(default_factory=lambda: secrets.token_hex(6))
    hand: Hand | None = None
    state: State = "queued"
    is_finished: bool = False
    playing: bool = False
    doing: str = ""
    problem: str = ""
    began: float = 0.0
    pace: float = 0.0
    spent: float = 0.0
    view: dict[str, Any] = field(default_factory=dict)
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    jobs: deque[Job] = field(default_factory=deque)

    @property
    def wants_model(self) -> bool:
        """Whether there is something to do."""
        return bool(self.jobs) or self.playing

    def took(self, seconds: float, chunks: int) -> None:
        """Count the seconds that a step took, and the chunks that were kept in it."""
        self.spent += seconds
        if chunks > 0:
            each, self.spent = self.spent / chunks, 0.0
            self.pace = each if not self.pace else 0.6 * self.pace + 0.4 * each

    def summary(self) -> dict[str, Any]:
        """What the list of takes shows of it."""
        done, of = self.view.get("done", 0), self.view.get("chunks", 0)
        left = round(self.pace * (of - done), 1) if self.pace and self.playing else None
        return {
            "id": self.id,
            "state": self.state,
            "playing": self.playing,
            "doing": self.doing,
            "since": round(monotonic() - self.began, 1) if self.doing else 0,
            "problem": self.problem,
            "jobs": [job.name for job in self.jobs],
            "eta": left,
            "recipe": self.recipe,
            **{name: self.view.get(name) for name in ("prompt", "seed", "done", "chunks")},
        }
