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
from streamt1_plugins.runs.journal import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.types import Node
    from streamt1_plugins.runs.journal import Event

_ALWAYS_NEW = ("generator",)
_PACKAGES = ("streamt1-plugins", "torch", "diffusers", "transformers")


class RunEvents:
    """Makes the events of one run, from its start, or from where it resumes, to its end."""

    def __init__(self, run: Run) -> None:
        """Starts the clock. `run` has started: it has beams."""
        self._run = run
        self._start = perf_counter()
        self._chunks = run.beams[0].history.index

    @property
    def chunks(self) -> int:
        """How many chunks have an event."""
        return self._chunks

    def started(self) -> Iterator[Event]:
        """Everything that leads to the same run again, and what the run starts with: a branch has a tree already."""
        yield _event("started", started(self._run))
        for index in range(self._chunks):
            for node in self._run.tree.chunk(index):
                yield self.candidate(node)
            yield self._chunk(index)

    def resumed(self) -> Iterator[Event]:
        """Which chunk the run continues with, and where."""
        yield _event("resumed", {"chunk": self._chunks, **_where(self._run), "versions": versions()})

    def candidate(self, node: Node) -> Event:
        """A candidate that was just scored."""
        return _event("candidate", node_record(node))

    def committed(self) -> Iterator[Event]:
        """The chunks that were committed since the last call: one, or none."""
        while self._chunks < self._run.beams[0].history.index:
            yield self._chunk(self._chunks)
            self._chunks += 1

    def finished(self, error: BaseException | None) -> Event:
        """How the run ended."""
        problem = None if error is None else f"{type(error).__name__}: {error}".removesuffix(": ")
        tree = self._run.tree.to_dict()
        ending = {"winner": tree["winner"], "final": tree["final"], "error": problem}
        return _event("finished", {**ending, **self._so_far()})

    def _chunk(self, index: int) -> Event:
        nodes = self._run.tree.chunk(index)
        kept = sorted((node for node in nodes if node.fate == "kept"), key=lambda node: node.rank or 0)
        fates = {fate: [node.id for node in nodes if node.fate == fate] for fate in ("pruned", "invalid")}
        frames = self._run.beams[0].history.frames[index]
        size = {"frames": len(frames), "height": frames.shape[-2], "width": frames.shape[-1]}
        return _event("chunk", {"chunk": index, **size, "kept": [node.id for node in kept], **fates, **self._so_far()})

    def _so_far(self) -> dict[str, Any]:
        seconds = round(perf_counter() - self._start, 3)
        return {"notes": list(self._run.tree.notes), "cost": asdict(self._run.cost), "seconds": seconds}


def _event(name: str, fields: dict[str, Any]) -> Event:
    return {"event": name, "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"), **fields}


def started(run: Run) -> dict[str, Any]:
    """Everything that leads to the same run again."""
    call, omitted = recordable(run.call)
    return {
        "schema": SCHEMA,
        "recipe": run.recipe.model_dump(mode="json"),
        "prompt": run.prompt,
        "seed": run.seed,
        "call": call,
        "omitted": omitted,
        **_where(run),
        "generator_device": run.call["generator"].device.type,
        "chunks": run.session.num_chunks,
        "fps": run.session.fps,
        "versions": versions(),
    }


def _where(run: Run) -> dict[str, str | None]:
    return {"device": run.device, "device_name": _gpu(run.device)}


def _gpu(device: str) -> str | None:
    if not device.startswith("cuda"):
        return None
    from torch.cuda import get_device_name  # here, so that reading a run does not cost torch's import

    return get_device_name(device)


def recordable(call: Any) -> tuple[dict[str, Any], list[str]]:
    """(the arguments JSON can hold, the names of the others). The generator is in neither: its seed stands for it."""
    kept: dict[str, Any] = {}
    omitted: list[str] = []
    for name, value in call.items():
        if name in _ALWAYS_NEW:
            continue
        if _is_plain(value):
            kept[name] = value
        else:
            omitted.append(name)
    return kept, omitted


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
