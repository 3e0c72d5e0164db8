"""What the page shows of a take or a recorded run: plain data, as `tree.json` has it, and where pictures are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamt1_plugins import Tree
from streamt1_studio import files, shelf

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from streamt1_plugins import Candidate, Node, Run

SHOWN = ("id", "chunk", "parent", "seed", "short", "long", "score", "route", "fate", "rank", "problem", "rewards")
"""The fields of a node that the page shows; besides them, those that say who chose it."""


def live_view(run: Run, open_candidates: Sequence[Candidate]) -> dict[str, Any]:
    """What is to be seen of an open run whose chunk has these candidates."""
    beam = run.beams[0] if run.beams else None
    known = {each.id for each in run.tree}
    session, sinks = run.session, run.recipe.sinks
    return {
        "prompt": run.prompt,
        "seed": str(run.seed),
        "chunks": session.num_chunks,
        "done": beam.history.index if beam else 0,
        "fps": session.fps,
        "path": [node.id for node in beam.path] if beam else [],
        "candidates": [each.id for each in open_candidates],
        "nodes": [*_shown(run.tree), *_shown(each.node() for each in open_candidates if each.id not in known)],
        "memory": {"window": sinks.window_chunks, "sinks": sinks.sink_chunks},
        "routed": bool(session.capabilities.routes),
        "notes": list(run.tree.notes),
        "cost": run.cost.counts(),
    }


def _shown(nodes: Iterable[Node]) -> list[dict[str, Any]]:
    """The nodes as plain data, made by the tree that writes `tree.json`."""
    tree = Tree()
    for node in nodes:
        tree.add(node)
    return list(map(shown, tree.to_dict()["nodes"]))


def shown(node: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a node's record that the page shows. Seeds are text: they have 63 bits, and JavaScript 53."""
    return {**{name: node.get(name) for name in SHOWN}, "seed": str(node.get("seed"))}


def recorded_view(folder: Path, head: Mapping[str, Any]) -> dict[str, Any]:
    """What is to be seen of a recorded run."""
    tree, summary = files.read_json(folder / shelf.TREE), files.read_json(folder / shelf.SUMMARY)
    nodes = [shown(each) for each in tree.get("nodes", []) if isinstance(each, dict)]
    winner = tree.get("winner") or _best_path(nodes)
    view = {
        **head,
        "state": shelf.status(folder),
        "done": len({each["chunk"] for each in nodes}),
        "path": winner,
        "candidates": [],
        "nodes": nodes,
        "notes": tree.get("notes", []),
        "cost": summary.get("cost", {}),
        "files": [what for what, (name, _) in shelf.DOWNLOADS.items() if files.is_plain(folder / name)],
    }
    return with_pictures(view, folder)


def _best_path(nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    """The path to the newest node of rank 0."""
    known = {each["id"]: each for each in nodes}
    best = next((each for each in reversed(nodes) if each["rank"] == 0), None)
    path: list[str] = []
    while best is not None and best["id"] not in path:
        path.append(best["id"])
        best = known.get(best["parent"])
    return path[::-1]


def with_pictures(view: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The view, with the frames of each node's film strip, as far as they are drawn."""
    frames = {node: count for node, (count, _) in files.strips(folder).items()}
    nodes = [{**node, "frames": frames.get(str(node["id"]), 0)} for node in view.get("nodes", [])]
    done = [what for what, (name, _) in shelf.DOWNLOADS.items() if files.is_plain(folder / name)]
    return {**view, "nodes": nodes, "files": done}
