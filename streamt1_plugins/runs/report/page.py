"""The page of a run, made from its folder: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamt1_plugins.runs.files import PAGE as PAGE  # its readers look for it here
from streamt1_plugins.runs.files import write_atomically
from streamt1_plugins.runs.recorded import RecordedRun
from streamt1_plugins.runs.report import facts, layout, memory, scores, strips

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamt1_plugins.api.tree import Tree

MOST_HELD = 2000
"""Chunks whose memory a page shows: every chunk may list all chunks before it."""
_HERE = Path(__file__).parent


def write_page(folder: str | Path, out: str | Path | None = None) -> Path:
    """Write the page of the run in `folder` to `out`, by default ``report.html`` beside it; returns its path.

    Raises `InputError` where the folder holds no run, `OSError` where the page cannot be written.
    """
    path = Path(out) if out else Path(folder) / PAGE
    write_atomically(path, render(folder))
    return path


def render(folder: str | Path) -> str:
    """The page as text."""
    filters = {"duration": facts.duration, "ordinal": facts.ordinal}
    return fill(_HERE, context(RecordedRun.read(folder)), filters)


def fill(folder: Path, values: Mapping[str, Any], filters: Mapping[str, Any]) -> str:
    """The template ``page.html.j2`` of a folder with its variables filled in, as text that UTF-8 can hold."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined)
    environment.trim_blocks = environment.lstrip_blocks = True
    environment.filters |= {"number": facts.number, **filters}
    html = environment.get_template("page.html.j2").render(values)
    return html.encode("utf-8", "replace").decode("utf-8")  # a prompt in another encoding may hold lone surrogates


def script_hash(script: str) -> str:
    """What a page's security policy has to list for this script alone to run."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def context(recorded: RecordedRun) -> dict[str, Any]:
    """Every value the template fills in."""
    tree, script = recorded.tree(), (_HERE / "page.js").read_text(encoding="utf-8")
    found = strips.pictures(recorded.folder, tree.nodes)
    return {
        "style": (_HERE / "page.css").read_text(encoding="utf-8"),
        "script": script,
        "script_hash": script_hash(script),
        "start": recorded.start,
        "recipe": recorded.recipe,
        "status": recorded.status,
        "notes": recorded.notes,
        "picked": tree.picked,
        "by_hand": tree.by_hand,
        "actions": [each.text for each in tree.actions],
        "final": tree.final,
        **_facts(recorded, tree),
        **_drawn(recorded, tree),
        "film": film(found),
        "strips": {
            name: [picture.frames, base64.b64encode(picture.content).decode()] for name, picture in found.items()
        },
    }


def _facts(recorded: RecordedRun, tree: Tree) -> dict[str, Any]:
    """What the tables hold."""
    yaml, replaced = facts.recipe_as_run(recorded)
    return {
        "tiles": facts.tiles(recorded, tree),
        "costs": facts.costs(recorded, tree),
        "record": facts.record(recorded),
        "arguments": facts.arguments(recorded.start),
        "yaml": yaml,
        "replaced": replaced,
        "lengths": facts.lengths(recorded),
    }


def _drawn(recorded: RecordedRun, tree: Tree) -> dict[str, Any]:
    """The tree, the curves and the memory."""
    winner = [node.id for node in recorded.winner]
    cells, scale, remembered = layout.cells(tree, winner), scores.scale(tree), held(recorded, tree)
    zero, rewards = scores.is_standardised(recorded.recipe), scores.readings(recorded.recipe, tree)
    return {
        "cells": list(cells.values()),
        "columns": max((cell.column for cell in cells.values()), default=-1) + 1,
        "rows": max((cell.row for cell in cells.values()), default=-1) + 1,
        "edges": layout.edges(cells),
        "shown": scores.shown(tree, scale),
        "scale": scale,
        "tones": scores.TONES,
        "digits": layout.digits((node.score for node in tree), least=3),
        "meaning": scores.meaning(recorded.recipe),
        "curves": layout.curves(tree, winner, scores.score, zero=zero),
        "rewards": rewards,
        "raws": [(*pair, drawn) for pair in rewards if (drawn := layout.curves(tree, winner, scores.raw(*pair)))],
        "held": remembered,
        "sinks": max(map(memory.sink_count, remembered), default=0),
    }


def held(recorded: RecordedRun, tree: Tree) -> list[memory.Held]:
    """The memory along the winning path; empty where it was not routed, and where it is longer than a page can show."""
    routes = memory.routes_of(recorded.winner)
    if len(routes) > MOST_HELD or not any(node.route for node in tree):
        return []
    return memory.timeline(routes, recorded.recipe.sinks)


def film(found: dict[str, strips.Picture]) -> dict[str, float | int]:
    """Shape of a frame (width by height) and how many of them fill a card."""
    aspect = next((picture.aspect for picture in found.values()), None)
    if aspect is None:
        return {"aspect": 1.0, "shown": 3}
    return {"aspect": round(aspect, 4), "shown": max(1, min(3, round(120 / (44 * aspect))))}
