"""A recorded run, read from its folder: recipe, tree, winner, cost, and how it ended."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields, replace
from functools import cache, cached_property
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from streamt1_plugins.api.run import Cost
from streamt1_plugins.config import load as recipes
from streamt1_plugins.config.user_files import user_path
from streamt1_plugins.errors import InputError, RecipeError
from streamt1_plugins.runs import journal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamt1_plugins.api.tree import Tree
    from streamt1_plugins.api.types import Node
    from streamt1_plugins.config.schema import Recipe
    from streamt1_plugins.runs.journal import Event

log = logging.getLogger("streamt1")

TIMED = ("chunk", "returned", "finished")
"""Events with the seconds of the search so far."""


@cache
def _warn_once(problem: str) -> None:
    log.warning("%s", problem)


@dataclass(frozen=True)
class RecordedRun:
    """The run whose journal in `folder` holds `events`.

    `damage`: notes on what is damaged in the journal, and left out. `edited`: whether its first line was changed in
    what decides the video. `end`: where its last whole line ends, in bytes.
    """

    folder: Path
    events: Sequence[Event]
    damage: Sequence[str] = ()
    edited: bool = False
    end: int | None = None

    @classmethod
    def read(cls, folder: str | Path) -> RecordedRun:
        """Read the run in `folder`; a warning lists what is damaged. Raises `InputError` where there is no run."""
        path = user_path(folder)
        lines = journal.read_lines(path)
        for problem in lines.damage:
            _warn_once(f"{path}: {problem}")
        return cls(path, lines.events, lines.damage, lines.edited, lines.end)

    @property
    def start(self) -> Event:
        """The `started` event: recipe, prompt, seed, arguments and versions."""
        return self.events[0]

    @cached_property
    def recipe(self) -> Recipe:
        """The complete recipe. Raises `InputError` where the recorded data is none."""
        try:
            return recipes.recorded(self.start["recipe"], self.start.get("recipe_name", ""))
        except RecipeError as error:
            raise InputError(f"{self.folder / journal.JOURNAL}, line 1: {error}") from error

    def tree(self, chunks: int | None = None) -> Tree:
        """A new tree of the candidates; with `chunks`, as it was after that many chunks."""
        return journal.tree_of(self.events, chunks=chunks)

    @cached_property
    def winner(self) -> tuple[Node, ...]:
        """The winning path, oldest node first; of a run that is not finished, the best branch so far."""
        tree = self.tree()
        if tree.winner:
            return tuple(tree.nodes[name] for name in tree.winner)
        best = [node for node in tree if node.rank == 0 and node.fate != "abandoned"]
        return tree.path(best[-1].id) if best else ()

    @property
    def returns(self) -> int:
        """How often the search went back."""
        return len(self.tree().returns)

    def before_leaving(self, node: str) -> RecordedRun:
        """The record as it was before the search went back behind a node, all of it where it never did."""
        where = journal.abandoned_at(self.events, node)
        return self if where is None else replace(self, events=self.events[:where])

    @property
    def whole(self) -> int:
        """How many chunks are whole in the journal, from the first one on: what a resumed run can build on."""
        return journal.chunks_done(self.events)

    @property
    def notes(self) -> list[str]:
        """Remarks on the run, and on damage of its record."""
        return [*(self.newest("notes") or []), *self.damage]

    @property
    def score(self) -> float | None:
        """Mean score of the winner over its scored chunks, None where nothing was measured."""
        scores = [node.score for node in self.winner if node.is_scored]
        return fmean(scores) if scores else None

    @property
    def whole_video(self) -> float | None:
        """The winner's score as a whole video, None where the recipe does not want it or the run did not get there."""
        return self.tree().final.get(self.winner[-1].id) if self.winner else None

    def cost(self, chunks: int | None = None) -> Cost:
        """What the run cost; with `chunks`, what that many chunks cost."""
        counted = [event for event in self.events if "cost" in event]
        if chunks is not None:
            counted = [event for event in counted if _ends_before(event, chunks)]
        cost, known = counted[-1]["cost"] if counted else {}, {field.name for field in fields(Cost)}
        return Cost(**{name: value for name, value in cost.items() if name in known})

    def newest(self, name: str) -> Any:
        """The last value of a field that several events carry, None where none does."""
        return next((event[name] for event in reversed(self.events) if name in event), None)

    @property
    def device(self) -> str:
        """Where the run was made, or resumed last, with the name of the GPU."""
        name = self.newest("device_name")
        return f"{self.newest('device')} ({name})" if name else str(self.newest("device"))

    @property
    def error(self) -> str | None:
        """What ended the run early, None where it ended well or was killed."""
        end: str | None = self.events[-1].get("error")
        return end

    @property
    def status(self) -> str:
        """How the run ended, in a few words."""
        if self.events[-1]["event"] != "finished":
            return "not finished"
        return f"stopped: {self.error}" if self.error else "finished"

    @property
    def seconds(self) -> float:
        """Wall time of the search, the parts before and after an interruption together."""
        total = current = 0.0
        for event in self.events:
            if event["event"] == "resumed":
                total, current = total + current, 0.0
            current = event.get("seconds", current) if event["event"] in TIMED else current
        return total + current

    @property
    def frames(self) -> dict[int, int]:
        """Frames of video by chunk, of the chunks that are done."""
        found: dict[int, int] = {}
        for event in self.events:
            if event["event"] == "chunk":
                found[event["chunk"]] = event["frames"]
            elif event["event"] in ("resumed", "returned"):
                found = {chunk: frames for chunk, frames in found.items() if chunk < event["chunk"]}
        return found

    def summary(self) -> dict[str, Any]:
        """What `summary.json` holds, as plain data: what was run, where, at what cost and how it ended."""
        start, spent, frames = self.start, self.cost(), self.frames
        stages = {stage: round(value, 3) for stage, value in spent.seconds.items()}
        size = {"height": self.newest("height"), "width": self.newest("width")}  # None in journals of version 0.1
        path = [node.id for node in self.winner]
        return {
            "prompt": start["prompt"],
            "seed": start["seed"],
            "model": start["recipe"]["model"],
            "adapter": start["recipe"]["adapter"].get("name"),
            "device": self.device,
            "versions": self.newest("versions"),
            "chunks": {"done": len(frames), "of": start["chunks"]},
            "video": {"frames": sum(frames.values()), **size, "fps": start["fps"]} if frames else {},
            "error": self.error,
            "winner": {"path": path, "score": self.score, "whole_video": self.whole_video},
            "seconds": {"wall": round(self.seconds, 3)} | stages,
            "cost": {name: n for name, n in spent.counts().items() if n or name != "latent_frames_previewed"},
            **({"reward_profile": spent.judged()} if spent.reward_profile else {}),  # older journals have none
            "notes": self.notes,
        }


def _ends_before(event: Event, chunks: int) -> bool:
    """Whether no more than `chunks` chunks were committed after an event, as it was a commit or a return."""
    done = event["chunk"] + (event["event"] == "chunk") if "chunk" in event else chunks + 1
    return bool(done <= chunks)
