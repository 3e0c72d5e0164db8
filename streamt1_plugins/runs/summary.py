"""The summary of a run, from its journal: what was run, where, at what cost and how it ended."""

from __future__ import annotations

import math
from dataclasses import asdict
from statistics import fmean
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamt1_plugins.runs.recorded import RecordedRun


def summary(run: RecordedRun) -> dict[str, Any]:
    """What `summary.json` holds, as plain data."""
    start, cost = run.start, asdict(run.cost())
    stages = {stage: round(value, 3) for stage, value in cost.pop("seconds").items()}
    return {
        "prompt": start["prompt"],
        "seed": start["seed"],
        "model": start["recipe"]["model"],
        "adapter": start["recipe"]["adapter"]["name"],
        "device": run.device,
        "versions": run.newest("versions"),
        "chunks": {"done": len(run.winner), "of": start["chunks"]},
        "video": video(run),
        "error": run.error,
        "winner": winner(run),
        "seconds": {"wall": round(run.seconds, 3)} | stages,
        "cost": cost,
        "notes": run.newest("notes") or [],
    }


def winner(run: RecordedRun) -> dict[str, Any]:
    """The best branch as far as the run got.

    `score`: mean over its scored chunks, null where nothing was measured. `whole_video`: where the recipe asks for it.
    """
    scores = [node.score for node in run.winner if node.readings and math.isfinite(node.score)]
    final = run.tree().final
    return {
        "path": [node.id for node in run.winner],
        "score": fmean(scores) if scores else None,
        "whole_video": final.get(run.winner[-1].id) if run.winner else None,
    }


def video(run: RecordedRun) -> dict[str, float | None]:
    """Size of the best branch's video as far as the run got; empty before the first chunk."""
    if not run.frames:
        return {}
    size = {"height": run.newest("height"), "width": run.newest("width")}  # None in journals of version 0.1
    return {"frames": sum(run.frames.values()), **size, "fps": run.start["fps"]}
