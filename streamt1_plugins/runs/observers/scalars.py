"""The numbers of a chunk, for programs that draw curves."""

from __future__ import annotations

import math
from collections import Counter
from statistics import fmean, pstdev
from typing import TYPE_CHECKING

from streamt1_plugins.api.types import HORIZONS
from streamt1_plugins.runs.report.memory import sink_count, timeline

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.types import Chunk, Node


def chunk_scalars(run: Run, chunk: Chunk) -> dict[str, float]:
    """Scores, survivors, routes, sinks and readings of a chunk that was just committed, by name."""
    nodes = run.tree.chunk(chunk.index)
    kept = [node for node in nodes if node.fate == "kept"]
    found: dict[str, float] = {
        "chunk": chunk.index,
        "count/candidates": len(nodes),
        "count/kept": len(kept),
        "count/invalid": sum(not node.is_valid for node in nodes),
        "seconds/candidates": sum(node.seconds for node in nodes),
        **{f"seconds/{stage}": seconds for stage, seconds in run.cost.seconds.items()},
        **_scores(nodes),
        **_readings(kept),
    }
    if run.session.capabilities.routes:
        found |= {f"route/{route}": count for route, count in Counter(node.route or "discard" for node in kept).items()}
        found["count/sinks"] = _sinks(run)
    return found


def _scores(nodes: Iterable[Node]) -> dict[str, float]:
    """Empty where no candidate has a reading: without a reading a score is only a placeholder."""
    scores = [node.score for node in nodes if node.readings and math.isfinite(node.score)]
    if not scores:
        return {}
    return {"score/best": max(scores), "score/mean": fmean(scores), "score/spread": pstdev(scores)}


def _readings(kept: list[Node]) -> dict[str, float]:
    """Raw readings of the best survivor."""
    best = min(kept, key=lambda node: node.rank or 0, default=None)
    if best is None:
        return {}
    return {
        f"{horizon}/{name}": reading.raw
        for horizon in HORIZONS
        for name, reading in best.readings.get(horizon, {}).items()
        if math.isfinite(reading.raw)
    }


def _sinks(run: Run) -> int:
    """Sinks of the best branch now. Chunks that the call continues came before the path and are routed to nowhere."""
    best = run.beams[0]
    given = best.history.index - len(best.path)
    routes = [*[None] * given, *(node.route for node in best.path), None]
    return sink_count(timeline(routes, run.recipe.sinks)[-1])
