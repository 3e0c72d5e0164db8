"""From a run folder to one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamt1_plugins import journal
from streamt1_plugins import recipe as recipes
from streamt1_plugins.report import facts, layout, memory, strips

if TYPE_CHECKING:
    from streamt1_plugins.contracts import MemoryRoute
    from streamt1_plugins.recipe import Recipe
    from streamt1_plugins.tree import Tree

PAGE = "report.html"
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Shown:
    """A run as the page shows it: read from its folder."""

    folder: Path

    @cached_property
    def events(self) -> list[journal.Event]:
        return journal.read(self.folder)

    @cached_property
    def tree(self) -> Tree:
        return journal.tree_of(self.events)

    @cached_property
    def recipe(self) -> Recipe:
        return recipes.load(self.events[0]["recipe"])

    @cached_property
    def winner(self) -> tuple[str, ...]:
        """The winning path; of a run that is not finished, the best branch so far."""
        leaders = [node for node in self.tree if node.rank == 0]
        if self.tree.winner or not leaders:
            return self.tree.winner
        return tuple(node.id for node in self.tree.path(leaders[-1].id))

    @cached_property
    def held(self) -> list[memory.Held]:
        """The memory along the winning path; empty where the memory was not routed."""
        if not any(node.route for node in self.tree):
            return []
        nodes = [self.tree.nodes[name] for name in self.winner]
        given = nodes[0].chunk if nodes else 0  # chunks the call continued came first
        routes: list[MemoryRoute | None] = [*[None] * given, *(node.route for node in nodes)]
        return memory.timeline(routes, self.recipe.sinks)


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
