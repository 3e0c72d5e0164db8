"""The numbers of a chunk, for programs that draw curves, and the base of the observers that log to them."""

from __future__ import annotations

import logging
import math
from collections import Counter
from contextlib import contextmanager, suppress
from statistics import fmean, pstdev
from time import perf_counter
from typing import TYPE_CHECKING, Any

from streamt1_plugins.api.types import HORIZONS
from streamt1_plugins.errors import InputError, PluginError, StreamT1Error, foreign_code
from streamt1_plugins.runs.events import recordable
from streamt1_plugins.runs.report.memory import routes_of, sink_count, timeline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.types import Chunk

log = logging.getLogger("streamt1")


def run_config(run: Run) -> dict[str, Any]:
    """What a run is made with: its recipe, with the sizes that the call replaced, and the call itself."""
    recipe, call = run.recipe.model_dump(mode="json"), recordable(run.call)[0]
    sizes = {name: call[name] for name in recipe["video"] if call.get(name) is not None}
    recipe["video"] |= sizes
    recipe["adapter"] |= {name: size for name, size in sizes.items() if name in recipe["adapter"]}
    return {
        **recipe,
        "recipe_name": run.recipe.origin.name,
        "prompt": run.prompt,
        "seed": run.seed,
        "chunks": run.session.num_chunks,
        "call": {name: value for name, value in call.items() if name != "prompt"},
    }


def made_video(run: Run) -> dict[str, Any]:
    """The frames that the best branch has, their size and rate; empty before its first chunk."""
    chunks = run.beams[0].history.frames if run.beams else ()
    if not chunks:
        return {}
    height, width = chunks[0].shape[-2:]
    return {"num_frames": sum(map(len, chunks)), "height": height, "width": width, "fps": run.session.fps}


class Dashboard:
    """Base of observers that log a run to another program, and must not cost the run.

    `_log` is what takes the numbers: None before the start, and after the first failure, which is one warning. It is
    then finished, as at the end of the run.
    """

    def __post_init__(self) -> None:
        self._log: Any = None
        self._failed: Any = None
        self._clock = perf_counter()

    @contextmanager
    def _guarded(self, program: str, *, failed: bool = True, finish: bool = True) -> Iterator[None]:
        """A context for code of `program`. `failed`: how to mark the log where it fails.

        `finish`: whether to finish the log at once; a background job leaves that to `_finish_failed`.
        """
        try:
            with foreign_code(program):
                yield
        except (PluginError, InputError) as error:
            log.warning("%s. The run continues without it.", str(error).rstrip("."))
            if not finish:
                self._failed, self._log = self._log, None
                return
            with suppress(StreamT1Error), foreign_code(program):  # the first failure is the one to name
                self._finish(failed=failed)

    def _finish_failed(self, program: str) -> None:
        """Finish the log that failed in a background job, if one did: programs end where they were started."""
        if self._failed is not None:
            self._log, self._failed = self._failed, None
            with suppress(StreamT1Error), foreign_code(program):
                self._finish(failed=True)

    def _finish(self, *, failed: bool) -> None:
        """End what takes the numbers, if anything does; once, even where that fails."""
        ended, self._log = self._log, None
        if ended is not None:
            self._end(ended, failed)

    def _end(self, ended: Any, failed: bool) -> None:
        """End what took the numbers; `failed`: mark it so."""
        raise NotImplementedError

    def _lap(self) -> float:
        """Seconds since the last call."""
        before, self._clock = self._clock, perf_counter()
        return self._clock - before


def step_of(run: Run, chunk: Chunk) -> int:
    """A number for a chunk that never falls: its index, and the chunks that the search has gone back before it."""
    return chunk.index + sum(judged - to for judged, to in run.tree.returns)


def chunk_scalars(run: Run, chunk: Chunk) -> dict[str, float]:
    """Scores, survivors, routes, sinks and readings of a chunk that was just committed, by name."""
    nodes, kept, scores = run.tree.chunk(chunk.index), run.tree.kept(chunk.index), run.tree.scores(chunk.index)
    found: dict[str, float] = {
        "chunk": chunk.index,
        "count/candidates": len(nodes),
        "count/kept": len(kept),
        "count/invalid": sum(not node.is_valid for node in nodes),
        **({"count/returns": len(run.tree.returns)} if run.tree.returns else {}),
        "seconds/candidates": sum(node.seconds for node in nodes),
        **{f"seconds/{stage}": seconds for stage, seconds in run.cost.seconds.items()},
    }
    if scores:
        found |= {"score/best": max(scores), "score/mean": fmean(scores), "score/spread": pstdev(scores)}
    found |= {
        f"{horizon}/{name}": reading.raw
        for horizon in HORIZONS
        for best in kept[:1]
        for name, reading in best.readings.get(horizon, {}).items()
        if math.isfinite(reading.raw)
    }
    if run.session.capabilities.routes:
        found |= {f"route/{route}": count for route, count in Counter(node.route or "discard" for node in kept).items()}
        routes = [*routes_of(run.beams[0].path), None]  # with a chunk to come, which looks back at what is there now
        found["count/sinks"] = sink_count(timeline(routes, run.recipe.sinks)[-1])
    return found
