"""The events of a run, made from what the search reports: what a journal holds, line by line."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from datetime import datetime, timezone
from importlib import metadata
from time import perf_counter
from typing import TYPE_CHECKING, Any

from streamt1_plugins.api.tree import node_record
from streamt1_plugins.errors import described
from streamt1_plugins.runs.journal import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.types import Node
    from streamt1_plugins.runs.journal import Event

_PACKAGES = ("streamt1-plugins", "torch", "diffusers", "transformers")


class RunEvents:
    """Makes the events of one `run`, from its start, or from where it resumes, to its end.

    `chunks`: how many chunks have an event.
    """

    def __init__(self, run: Run) -> None:
        """Starts the clock. `run` has started: it has beams."""
        self.run = run
        self.chunks = run.beams[0].history.index
        self._start = perf_counter()

    def started(self) -> Iterator[Event]:
        """Everything that leads to the same run again, and what the run starts with: a branch has a tree already."""
        run = self.run
        call, omitted = recordable(run.call)
        start = {
            "schema": SCHEMA,
            "recipe": run.recipe.model_dump(mode="json"),
            "recipe_name": run.recipe.origin.name,
            "prompt": run.prompt,
            "seed": run.seed,
            "call": call,
            "omitted": omitted,
            **_where(run.device),
            "generator_device": run.call["generator"].device.type,
            "chunks": run.session.num_chunks,
            "fps": run.session.fps,
            "versions": versions(),
            **({"picked": run.tree.picked} if run.tree.picked else {}),
        }
        yield _event("started", start)
        for index in range(self.chunks):
            yield from (self.candidate(node) for node in run.tree if node.chunk == index)
            yield self._chunk(index)

    def resumed(self) -> Iterator[Event]:
        """Which chunk the run continues with, and where."""
        yield _event("resumed", {"chunk": self.chunks, **_where(self.run.device), "versions": versions()})

    def candidate(self, node: Node) -> Event:
        """A candidate that was just scored."""
        return _event("candidate", node_record(node))

    def committed(self) -> Iterator[Event]:
        """The chunks that were committed since the last call: one, or none."""
        while self.chunks < self.run.beams[0].history.index:
            yield self._chunk(self.chunks)
            self.chunks += 1

    def returned(self) -> Event:
        """The search has just gone back."""
        self.chunks = self.run.beams[0].history.index
        judged, to = self.run.tree.returns[-1]
        return _event("returned", {"chunk": to, "judged": judged, **self._so_far()})

    def finished(self, error: BaseException | None) -> Event:
        """How the run ended."""
        problem = None if error is None else described(error)
        tree = self.run.tree.to_dict()
        ending = {"winner": tree["winner"], "final": tree["final"], "error": problem}
        return _event("finished", {**ending, **self._so_far()})

    def _chunk(self, index: int) -> Event:
        tree, frames = self.run.tree, self.run.beams[0].history.frames[index]
        size = {"frames": len(frames), "height": frames.shape[-2], "width": frames.shape[-1]}
        fates = {fate: [node.id for node in tree.chunk(index) if node.fate == fate] for fate in ("pruned", "invalid")}
        kept = [node.id for node in tree.kept(index)]
        return _event("chunk", {"chunk": index, **size, "kept": kept, **fates, **self._so_far()})

    def _so_far(self) -> dict[str, Any]:
        seconds = round(perf_counter() - self._start, 3)
        return {"notes": list(self.run.tree.notes), "cost": asdict(self.run.cost), "seconds": seconds}


def _event(name: str, fields: dict[str, Any]) -> Event:
    return {"event": name, "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"), **fields}


def _where(device: str) -> dict[str, str | None]:
    if not device.startswith("cuda"):
        return {"device": device, "device_name": None}
    from torch.cuda import get_device_name  # here, so that reading a run does not cost torch's import

    return {"device": device, "device_name": get_device_name(device)}


def recordable(call: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """(the arguments JSON can hold, the names of the others). The generator is in neither: its seed stands for it."""
    kept = {name: value for name, value in call.items() if name != "generator" and _is_plain(value)}
    return kept, [name for name in call if name != "generator" and name not in kept]


def _is_plain(value: Any) -> bool:
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError):
        return False


def versions() -> dict[str, str]:
    """Versions of Python and of the packages a result depends on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "unknown"
    return found
