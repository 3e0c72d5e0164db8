"""A group of candidates as a line of the data: a preference pair, or a group with advantages."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, get_args

from streamt1_plugins.api.scenes import scenes_of
from streamt1_plugins.export.groups import advantages

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamt1_plugins.api.types import Node
    from streamt1_plugins.export.groups import Group
    from streamt1_plugins.runs.recorded import RecordedRun

Kind = Literal["preferences", "groups"]
Content = Literal["latents", "frames", "none"]
KINDS: tuple[Kind, ...] = get_args(Kind)
CONTENTS: tuple[Content, ...] = get_args(Content)


def record(kind: Kind, name: str, recorded: RecordedRun, group: Group) -> dict[str, Any]:
    """The line of a group. `name`: what the run is called in the data.

    `history` is the id of the node that the candidates continue, with the run's name, and `path` all nodes up to it.
    """
    path = [node.id for node in group.history]
    common = {
        "run": name,
        "prompt": prompt_at(recorded, group.chunk),
        "seed": str(recorded.start["seed"]),
        "chunk": group.chunk,
        "history": f"{name}/{path[-1] if path else 'root'}",
        "path": path,
    }
    if kind == "preferences":
        margin = group.best.score - group.worst.score
        return {**common, "chosen": candidate(group.best), "rejected": candidate(group.worst), "margin": margin}
    found = zip(group.candidates, advantages(group.scores), strict=True)
    return {**common, "candidates": [{**candidate(node), "advantage": value} for node, value in found]}


def shown(kind: Kind, group: Group) -> tuple[Node, ...]:
    """The candidates of a group that its line has."""
    return (group.best, group.worst) if kind == "preferences" else group.candidates


def candidate(node: Node) -> dict[str, Any]:
    """A candidate as plain data. A seed is text, because it has 63 bits; numbers that are not finite are null."""
    readings = [
        {"reward": name, "horizon": horizon, "raw": _plain(each.raw), "value": _plain(each.value)}
        for horizon, named in node.readings.items()
        for name, each in named.items()
    ]
    scores = {name: _plain(getattr(node, name)) for name in ("score", "short", "long")}
    return {"id": node.id, "seed": str(node.seed), **scores, "kept": node.fate == "kept", "readings": readings}


def prompt_at(recorded: RecordedRun, chunk: int) -> str | None:
    """The prompt of a chunk, which a schedule may change."""
    prompt: str | None = recorded.start["prompt"]
    call: Mapping[str, Any] = recorded.call()
    scenes = scenes_of(call["schedule"], call.get("prompt")) if call.get("schedule") else ()
    return next((scene.prompt for scene in reversed(scenes) if scene.chunk <= chunk), prompt)


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
