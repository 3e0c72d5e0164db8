"""What the page shows of a take or a recorded run: plain data, as `tree.json` has it, and where pictures are."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from streamt1_plugins import Tree
from streamt1_studio import files, records, shelf

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from streamt1_plugins import Node, Take
    from streamt1_studio.pictures import Picture

NONE: Mapping[str, Picture] = MappingProxyType({})

SHOWN = ("id", "chunk", "parent", "seed", "short", "long", "score", "route", "fate", "rank", "problem", "rewards")
"""The fields of a node that the page shows; besides them, those that say who chose it."""


def live_view(take: Take) -> dict[str, Any]:
    """What is to be seen of an open take."""
    run, beam = take.run, take.run.beams[0]
    known, sinks = {each.id for each in run.tree}, run.recipe.sinks
    waiting = [each.node() for each in take.candidates if each.id not in known]
    path = [node.id for node in beam.path]
    by_hand = [node.id for node in beam.path if run.tree.chosen_by(node.chunk) == "person"]
    return {
        "prompt": take.scenes[0].prompt,
        "scenes": [scene.entry() for scene in take.scenes],
        "seed": str(run.seed),
        "chunks": take.chunks,
        "done": beam.history.index,
        "fps": run.session.fps,
        "length": _length(take),
        "path": path,
        "candidates": [each.id for each in take.candidates],
        "choice": list(take.choice) if take.candidates else [],
        "nodes": _signed([*_shown(run.tree), *_shown(waiting)], path, by_hand),
        "memory": {"window": sinks.window_chunks, "sinks": sinks.sink_chunks},
        "notes": list(run.tree.notes),
        "cost": run.cost.counts(),
    }


def _length(take: Take) -> int:
    """The frames of the newest chunk."""
    frames = [each.decoded.frames for each in take.candidates] or take.run.beams[0].history.frames[-1:]
    return max(map(len, frames), default=0)


def _signed(nodes: Sequence[dict[str, Any]], path: Collection[str], by_hand: Collection[str]) -> list[dict[str, Any]]:
    """The nodes, those of the path with who chose them."""
    return [
        {**node, "by": "person" if node["id"] in by_hand else "policy" if node["id"] in path else None}
        for node in nodes
    ]


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
    tree = records.read(records.RecordedTree, folder / records.TREE)
    summary = records.read(records.RecordedSummary, folder / records.SUMMARY)
    nodes = [shown(each.model_dump()) for each in tree.nodes]
    view = {
        **head,
        "state": summary.status,
        "done": len({node.chunk for node in tree.nodes if node.fate}),
        "path": tree.path,
        "candidates": [],
        "nodes": _signed(nodes, tree.path, tree.by_hand.intersection(tree.path)),
        "notes": tree.notes,
        "cost": summary.cost,
    }
    return with_pictures(view, folder)


def with_pictures(view: Mapping[str, Any], folder: Path, waiting: Mapping[str, Picture] = NONE) -> dict[str, Any]:
    """The view, with the frames of each node's film strip, as far as it is drawn, and the files of the folder.

    waiting: strips of candidates that are not recorded yet. A node has `waits` where its strip is one of them: the
    recorded one may differ.
    """
    frames = {node: count for node, (count, _) in files.strips(folder).items()}
    frames |= {node: count for node, (count, _) in waiting.items()}
    nodes = [
        {**node, "frames": frames.get(str(node["id"]), 0), "waits": node["id"] in waiting}
        for node in view.get("nodes", [])
    ]
    there = [what for what, (name, _) in shelf.DOWNLOADS.items() if files.is_plain(folder / name)]
    return {**view, "nodes": nodes, "files": there}
