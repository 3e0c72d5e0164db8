"""A folder that holds everything a run leaves: `recipe.yaml`, `tree.json`, `summary.json`."""

from __future__ import annotations

from streamt1_plugins.runs.files import check_writable, to_json, write_atomically

import json
import logging
import math
import os
import platform
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import TYPE_CHECKING, Any

from streamt1_plugins.errors import OutputError
from streamt1_plugins.api.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamt1_plugins.api.types import Node
    from streamt1_plugins.api.run import Run

log = logging.getLogger("streamt1")

RECIPE, TREE, SUMMARY = "recipe.yaml", "tree.json", "summary.json"
_PACKAGES = ("streamt1-plugins", "torch", "diffusers", "transformers")


@dataclass(eq=False)
class Folder:
    """Keeps the record of a run in the folder `path`; `tree.json` is complete again after every chunk.

    path: the run folder, made when the run starts. A folder that already holds a run is refused.
    """

    path: str

    def __post_init__(self) -> None:
        self._start: float | None = None

    @hookimpl
    def streamt1_run_started(self, run: Run) -> None:
        folder = Path(self.path)
        check_writable(folder)
        if (folder / RECIPE).exists() and not run.resumed:
            raise OutputError(f"The folder {self.path} already holds a run. Choose another one.")
        with _reported(f"The run folder {self.path} cannot be used"):
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / RECIPE, run.recipe.to_yaml())
        self._start = perf_counter()

    @hookimpl
    def streamt1_chunk_selected(self, run: Run) -> None:
        try:
            write_atomically(Path(self.path) / TREE, to_json(run.tree.to_dict()))
        except OSError as error:
            # Space may be back before the end, and only the end's failure loses anything.
            log.warning("%s was not updated: %s", Path(self.path) / TREE, error)

    @hookimpl
    def streamt1_run_finished(self, run: Run, error: BaseException | None) -> None:
        if self._start is None:  # the run ended before it started: nothing here is ours
            return
        seconds, self._start = perf_counter() - self._start, None
        lost = f"The record of the run could not be brought up to date in {self.path}"
        with _reported(lost):
            write_atomically(Path(self.path) / TREE, to_json(run.tree.to_dict()))
            write_atomically(Path(self.path) / SUMMARY, to_json(summary(run, seconds, error)))


def summary(run: Run, seconds: float, error: BaseException | None = None) -> dict[str, Any]:
    """What was run, where, at what cost and how it ended, as plain data. `seconds`: from start to end of the search."""
    cost = run.cost
    return {
        "prompt": run.prompt,
        "seed": run.seed,
        "model": run.recipe.model,
        "adapter": run.recipe.adapter.name,
        "device": device(run),
        "versions": versions(),
        "chunks": {"done": len(best_path(run)), "of": run.session.num_chunks},
        "video": measures(run),
        "error": None if error is None else f"{type(error).__name__}: {error}".removesuffix(": "),
        "winner": winner(run),
        "seconds": {"wall": round(seconds, 3)} | {stage: round(value, 3) for stage, value in cost.seconds.items()},
        "cost": {
            "candidates": cost.candidates,
            "forwards": cost.forwards,
            "latent_frames_decoded": cost.latent_frames_decoded,
            "reward_calls": cost.reward_calls,
            "readings": cost.readings,
            "readings_saved": cost.readings_saved,
        },
        "notes": list(run.tree.notes),
    }


def best_path(run: Run) -> tuple[Node, ...]:
    """The chosen nodes of the best branch, as far as the run got."""
    return run.beams[0].path if run.beams else ()


def winner(run: Run) -> dict[str, Any]:
    """The best branch as far as the run got.

    `score`: mean over its scored chunks, null where nothing was measured. `whole_video`: where the recipe asks for it.
    """
    path = best_path(run)
    scores = [node.score for node in path if node.readings and math.isfinite(node.score)]
    return {
        "path": [node.id for node in path],
        "score": fmean(scores) if scores else None,
        "whole_video": run.tree.final.get(path[-1].id) if path else None,
    }


def measures(run: Run) -> dict[str, float]:
    """Size of the best branch's video as far as the run got; empty before the first chunk."""
    chunks = run.beams[0].history.frames if run.beams else ()
    if not chunks:
        return {}
    height, width = chunks[0].shape[-2:]
    return {"frames": sum(len(chunk) for chunk in chunks), "height": height, "width": width, "fps": run.session.fps}


def device(run: Run) -> str | None:
    """Where the latents live, with the name of the GPU; None before the first chunk is committed."""
    latents = run.beams[0].history.latents if run.beams else ()
    if not latents:
        return None
    where = latents[0].device
    if where.type != "cuda":
        return str(where)
    from torch.cuda import get_device_name  # here, so that the helpers of this file do not cost torch's import

    return f"{where} ({get_device_name(where)})"


def versions() -> dict[str, str]:
    """Versions of Python and of the packages a result depends on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "unknown"
    return found


@contextmanager
def _reported(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{what}: {error.strerror or error}.") from error
