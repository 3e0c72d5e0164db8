"""The observers of a wrapped pipeline: those that its caller gave and its recipe's, some made anew for every run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamt1_plugins.plugins import build
from streamt1_plugins.plugins.given import PerRun
from streamt1_plugins.process import progress
from streamt1_plugins.runs.observers.console import Console
from streamt1_plugins.runs.observers.folder import Folder
from streamt1_plugins.runs.observers.journal import Journal
from streamt1_plugins.runs.way_on import is_command

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamt1_plugins.config.schema import Recipe


@dataclass
class Observing:
    """The observers by name, built once; `given` are the caller's. Raises what `build.observers` raises."""

    recipe: Recipe
    given: Mapping[str, object]
    built: dict[str, Any] = field(init=False)
    _last: tuple[object, dict[str, Any]] = field(default=(None, {}), repr=False)

    def __post_init__(self) -> None:
        # Those given by the caller come first: what the recipe adds, such as wandb, may show the files they wrote.
        self.built = build.observers(self.recipe, self.given)
        self.given = dict(self.given)

    def of(self, owner: object, prompt: str) -> dict[str, Any]:
        """The observers of one run, the `owner`, with this prompt; those that are made per run are made once for it."""
        if not self._per_run:
            return self.built
        if self._last[0] is not owner:
            self._last = owner, build.observers(self.recipe, self.given, prompt)
        return self._last[1]

    def folder_of(self, owner: object, prompt: str) -> Path | None:
        """The folder that records a run, None where there is none."""
        found = self.of(owner, prompt).values()
        return next((Path(each.path) for each in found if isinstance(each, Folder | Journal)), None)

    def progress(self, pipe: Any) -> dict[str, Any]:
        """The bar of a search, unless its user has switched the pipeline's off, or another one is there."""
        shown = any(isinstance(each, Console) for each in self.built.values())
        is_wanted = self.recipe.search.is_wide and not shown and progress.is_wanted(pipe) and not is_command()
        return {"progress": Console()} if is_wanted else {}

    def refuse_several(self, what: str) -> None:
        """Raise `InputError` where observers write to one place and `what` makes several videos."""
        anew = {name for each in self._per_run for name in each.for_run(None)}
        build.refuse_single_places({name: each for name, each in self.built.items() if name not in anew}, what)

    @property
    def _per_run(self) -> list[PerRun]:
        return [each for each in self.given.values() if isinstance(each, PerRun)]
