"""What people read of a run: `recipe.yaml`, `tree.json` and `summary.json`, derived from the events of its journal."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Any, ClassVar

from streamt1_plugins.api.hookspecs import hookimpl
from streamt1_plugins.api.tree import Tree, node_record
from streamt1_plugins.runs import journal
from streamt1_plugins.runs.events import RunEvents
from streamt1_plugins.runs.files import RECIPE as RECIPE  # their readers look for them here
from streamt1_plugins.runs.files import SUMMARY as SUMMARY
from streamt1_plugins.runs.files import TREE as TREE
from streamt1_plugins.runs.files import Claim, finishing, to_json, warned, write_atomically, writing
from streamt1_plugins.runs.recorded import RecordedRun

if TYPE_CHECKING:
    from streamt1_plugins.api.candidate import Candidate
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.tree import Action
    from streamt1_plugins.api.types import Node, Revision
    from streamt1_plugins.runs.journal import Event


@dataclass(eq=False)
class Folder:
    """Keeps the record of a run in the folder `path`; `tree.json` is complete again after every chunk.

    path: the run folder, made when the run starts. A folder that already holds a run is refused.
    append: continue the record of the run that the folder holds.
    """

    needs_frames: ClassVar[bool] = False

    path: str = field(metadata={"acts": "write"})
    append: bool = False

    def __post_init__(self) -> None:
        self._claim: Claim | None = None
        self._made: RunEvents | None = None
        self._events: list[Event] = []
        self._damage: list[str] = []
        self._texts: dict[str, tuple[Node, str]] = {}

    @hookimpl(tryfirst=True)  # before another observer writes to the folder, which has to be empty
    def streamt1_run_started(self, run: Run) -> None:
        folder, self._texts = Path(self.path), {}
        self._claim = Claim(folder, None if self.append else RECIPE, owner=run)
        if not (folder / RECIPE).exists():
            with writing(f"The run folder {folder} cannot be used"):
                write_atomically(folder / RECIPE, run.recipe.to_yaml())
        made = RunEvents(run)
        if self.append and (folder / journal.JOURNAL).exists():
            lines = journal.read_lines(folder)
            self._events, self._damage = [*lines.events, *made.resumed()], lines.damage
        else:
            self._events, self._damage = list(made.started()), []
        self._made = made

    @hookimpl
    def streamt1_candidate_scored(self, candidate: Candidate) -> None:
        if self._made is not None:
            self._events.append(self._made.candidate(candidate))

    @hookimpl
    def streamt1_acted(self, action: Action) -> None:
        if self._made is not None:
            self._events.append(self._made.acted(action))

    @hookimpl
    def streamt1_chunk_selected(self) -> None:
        if self._made is None:
            return
        self._events += self._made.committed()
        with warned(f"{Path(self.path) / TREE} was not updated"):  # space may be back before the end
            write_atomically(Path(self.path) / TREE, self._tree_so_far(self._made.run.tree))

    @hookimpl
    def streamt1_revised(self, revision: Revision) -> None:
        if self._made is not None and revision.back_to is not None:
            self._events.append(self._made.returned())

    @hookimpl
    def streamt1_run_finished(self, error: BaseException | None) -> None:
        made, self._made = self._made, None
        try:
            if made is not None:  # else the run ended before it started: nothing here is ours
                self._events += [*made.committed(), made.finished(error)]
                with finishing(
                    f"The record of the run could not be brought up to date in {self.path}", Path(self.path)
                ):
                    write_atomically(Path(self.path) / SUMMARY, to_json(self._write_tree().summary()))
        finally:
            if self._claim is not None:
                self._claim.release()
            self._claim, self._texts = None, {}

    def _tree_so_far(self, tree: Tree) -> str:
        """The text of the tree. That of a node is made once: a long run has thousands of them."""
        self._texts = {
            name: old if (old := self._texts.get(name)) and old[0] is node else (node, _indented(node_record(node)))
            for name, node in tree.nodes.items()
        }
        rest = to_json(replace(tree, nodes={}).to_dict())
        nodes = ",\n".join(text for _, text in self._texts.values())
        return f"{rest.removesuffix(NO_NODES)}[\n{nodes}\n  ]\n}}\n" if nodes else rest

    def _write_tree(self) -> RecordedRun:
        recorded = RecordedRun(Path(self.path), self._events, self._damage)
        write_atomically(recorded.folder / TREE, to_json(recorded.tree().to_dict()))
        return recorded


NO_NODES = "[]\n}\n"
"""How the JSON of a tree without nodes ends."""


def _indented(record: dict[str, Any]) -> str:
    """The record of a node as it stands in tree.json."""
    return indent(to_json(record).rstrip(), " " * 4)
