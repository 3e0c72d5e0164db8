"""A recorded run as its page shows it."""

from __future__ import annotations
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
