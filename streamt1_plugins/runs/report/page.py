"""From a run folder to one HTML file that needs nothing else."""

from __future__ import annotations

from streamt1_plugins.runs.report.recorded import Shown

import base64
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamt1_plugins.runs import journal
from streamt1_plugins.config import load as recipes
from streamt1_plugins.runs.report import facts
from streamt1_plugins.runs.report import layout
from streamt1_plugins.runs.report import memory
from streamt1_plugins.runs.report import strips

if TYPE_CHECKING:
    from streamt1_plugins.api.types import MemoryRoute
    from streamt1_plugins.config.schema import Recipe
    from streamt1_plugins.api.tree import Tree

PAGE = "report.html"
_HERE = Path(__file__).parent


def write_page(folder: str | Path, out: str | Path | None = None) -> Path:
    """Write the page of the run in `folder` to `out`, by default ``report.html`` beside it; returns its path.

    Raises `InputError` where the folder holds no run, `OSError` where the page cannot be written.
    """
    path = Path(out) if out else Path(folder) / PAGE
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_text(render(folder), encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def render(folder: str | Path) -> str:
    """The page as text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": facts.number, "duration": facts.duration}
    html = environment.get_template("page.html.j2").render(context(Shown(Path(folder))))
    # Lone surrogates (a prompt typed in another encoding) cannot be written as UTF-8.
    return html.encode("utf-8", "replace").decode("utf-8")


def context(shown: Shown) -> dict[str, Any]:
    """Everything the template fills in."""
    found = strips.find(shown.folder)
    placed = layout.places(shown.tree, shown.winner)
    columns = max((place.column for place in placed.values()), default=-1) + 1
    return {
        "style": (_HERE / "page.css").read_text(encoding="utf-8"),
        "script": (_HERE / "page.js").read_text(encoding="utf-8"),
        "start": shown.events[0],
        "recipe": shown.recipe,
        "status": facts.status(shown.events),
        "tiles": facts.tiles(shown),
        "costs": facts.costs(shown.events),
        "record": facts.record(shown.events[0]),
        "notes": shown.tree.notes,
        "places": list(placed.values()),
        "columns": columns,
        "rows": max((place.row for place in placed.values()), default=-1) + 1,
        "edges": layout.edges(placed),
        "curves": layout.curves(shown.tree, shown.winner),
        "final": shown.tree.final,
        "held": shown.held,
        "sinks": max((memory.sink_count(held) for held in shown.held), default=0),
        "film": film(found),
        "lengths": facts.lengths(shown.events),
        "strips": {name: [strip.frames, _base64(strip.path)] for name, strip in found.items() if name in placed},
    }


def film(found: dict[str, strips.Strip]) -> dict[str, float | int]:
    """Shape of a frame (width by height) and how many of them fill a card."""
    if not found:
        return {"aspect": 1.0, "shown": 3}
    from PIL import Image

    strip = next(iter(found.values()))
    with Image.open(strip.path) as picture:
        aspect = picture.width / strip.frames / picture.height
    return {"aspect": round(aspect, 4), "shown": max(1, min(3, round(120 / (44 * aspect))))}


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
