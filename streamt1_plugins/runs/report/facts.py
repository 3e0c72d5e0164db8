"""The figures of the page: tiles, costs, and what a run was made with."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamt1_plugins.api.run import Cost
    from streamt1_plugins.api.tree import Tree
    from streamt1_plugins.runs.recorded import RecordedRun

MINUTE, HOUR = 60, 3600
_STAGES = {"generate": "Denoising", "decode": "Decoding", "reward": "Rewards", "commit": "Committing"}
_COUNTS = {
    "candidates": "Candidates",
    "forwards": "Forward passes",
    "latent_frames_decoded": "Latent frames decoded",
    "reward_calls": "Reward calls",
    "readings": "Candidates judged by a reward",
    "readings_saved": "Judgements saved by stages",
}


def number(value: float | None, digits: int = 3) -> str:
    """A number for a table: a dash where there is none."""
    return "\N{EN DASH}" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def duration(seconds: float) -> str:
    """`1.2 s`, `3 min 05 s`, `2 h 04 min`."""
    whole = round(seconds)
    if whole >= HOUR:
        return f"{whole // HOUR} h {whole % HOUR // MINUTE:02d} min"
    if whole >= MINUTE:
        return f"{whole // MINUTE} min {whole % MINUTE:02d} s"
    return f"{seconds:.1f} s"


def tiles(recorded: RecordedRun, tree: Tree) -> list[tuple[str, str, str]]:
    """(label, value, remark) of the numbers at the top of the page."""
    done, of = len(recorded.frames), recorded.start["chunks"]
    video = f"{duration(sum(lengths(recorded).values()))} of video"
    found = [("Chunks", str(done) if done == of else f"{done} of {of}", video)]
    found.append(("Candidates", str(len(tree)), f"{len(tree) / max(1, done):.2g} per chunk"))
    if recorded.score is not None:
        whole = recorded.whole_video
        remark = "mean over its chunks" if whole is None else f"whole video {number(whole)}"
        found.append(("Winner's score", number(recorded.score), remark))
    found.append(("Time", duration(recorded.seconds), f"on {recorded.start['device']}"))
    forwards = recorded.cost().forwards
    if forwards:
        found.append(("Forward passes", f"{forwards:,}".replace(",", "\u2009"), "context passes included"))
    return found


def lengths(recorded: RecordedRun) -> dict[int, float]:
    """Seconds of video by chunk."""
    return {chunk: frames / recorded.start["fps"] for chunk, frames in recorded.frames.items()}


def costs(cost: Cost) -> dict[str, Any]:
    """Counts, seconds by stage with their share of the sum, and milliseconds per candidate of each reward."""
    spent = {_STAGES.get(name, name.capitalize()): value for name, value in cost.seconds.items()}
    total = sum(spent.values()) or 1.0
    return {
        "counts": [(label, getattr(cost, name)) for name, label in _COUNTS.items()],
        "stages": [(label, value, value / total) for label, value in spent.items()],
        "rewards": [(name.replace(".", " ", 1), each["ms_per_candidate"]) for name, each in cost.judged().items()],
    }


def record(start: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is needed to make the run again, besides the recipe."""
    call = {name: value for name, value in start["call"].items() if name != "prompt"}
    rows = {"Seed": start["seed"], "Device": start["device"], "Started": start["time"][:19]}
    rows |= {"Arguments": json.dumps(call, ensure_ascii=False)[1:-1]} if call else {}
    return [(name, str(value)) for name, value in (rows | start["versions"]).items()]
