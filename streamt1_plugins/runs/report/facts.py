"""The words and numbers around the tree."""

from __future__ import annotations

import json
import math
from statistics import fmean
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streamt1_plugins.runs.journal import Event
    from streamt1_plugins.runs.report.recorded import Shown

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


def last(events: Sequence[Event], name: str) -> Any:
    """The newest value of a field that several events carry."""
    return next((event[name] for event in reversed(events) if name in event), None)


def status(events: Sequence[Event]) -> str:
    """How the run ended, in a few words."""
    end = events[-1]
    if end["event"] != "finished":
        return "not finished"
    return f"stopped: {end['error']}" if end["error"] else "finished"


def tiles(shown: Shown) -> list[tuple[str, str, str]]:
    """(label, value, remark) of the few numbers that say the most."""
    done, of = int(shown.winner[-1].split(".")[0]) + 1 if shown.winner else 0, shown.events[0]["chunks"]
    nodes = [shown.tree.nodes[name] for name in shown.winner]
    scores = [node.score for node in nodes if node.readings and math.isfinite(node.score)]
    whole = shown.tree.final.get(shown.winner[-1]) if shown.winner else None
    video = f"{duration(sum(lengths(shown.events).values()))} of video"
    found = [("Chunks", str(done) if done == of else f"{done} of {of}", video)]
    found.append(("Candidates", str(len(shown.tree)), f"{len(shown.tree) / max(1, done):.2g} per chunk"))
    if scores:
        remark = "mean over its chunks" if whole is None else f"whole video {number(whole)}"
        found.append(("Winner's score", number(fmean(scores)), remark))
    found.append(("Time", duration(seconds(shown.events)), f"on {shown.events[0]['device']}"))
    cost = last(shown.events, "cost")
    if cost:
        found.append(("Forward passes", f"{cost['forwards']:,}".replace(",", "\u2009"), "context passes included"))
    return found


def lengths(events: Sequence[Event]) -> dict[int, float]:
    """Seconds of video by chunk."""
    return {event["chunk"]: event["frames"] / events[0]["fps"] for event in events if event["event"] == "chunk"}


def seconds(events: Sequence[Event]) -> float:
    """Wall time of all parts of a run: it starts to count again when it is resumed."""
    total = current = 0.0
    for event in events:
        if event["event"] == "resumed":
            total, current = total + current, 0.0
        current = event.get("seconds", current) if event["event"] in ("chunk", "finished") else current
    return total + current


def costs(events: Sequence[Event]) -> dict[str, Any]:
    """Counts, and seconds by stage with their share of the sum."""
    cost = last(events, "cost") or {"seconds": {}}
    spent = {_STAGES.get(name, name.capitalize()): value for name, value in cost["seconds"].items()}
    total = sum(spent.values()) or 1.0
    return {
        "counts": [(label, cost.get(name, 0)) for name, label in _COUNTS.items()],
        "stages": [(label, value, value / total) for label, value in spent.items()],
    }


def record(start: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What one needs to make the run again, besides the recipe."""
    call = {name: value for name, value in start["call"].items() if name != "prompt"}
    rows = [("Seed", str(start["seed"])), ("Device", str(start["device"])), ("Started", str(start["time"])[:19])]
    if call:
        rows.append(("Arguments", json.dumps(call, ensure_ascii=False)[1:-1]))
    return rows + [(name, version) for name, version in start["versions"].items()]
