"""The hooks of one run, answered only by the parts that its recipe names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pluggy

from streamt1_plugins.api import hookspecs
from streamt1_plugins.errors import PluginError, StreamT1Error, foreign_code
from streamt1_plugins.plugins.discovery import log, new_manager

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamt1_plugins.api.candidate import Beam, Candidate
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.types import Chunk, MemoryRoute, Proposal


DECISIONS = (
    "streamt1_propose_noise",
    "streamt1_score",
    "streamt1_select",
    "streamt1_route_memory",
    "streamt1_width",
)


class _Part:
    """A part's hooks as pluggy sees them: told apart by identity, so that equal and unhashable parts are fine too."""

    def __init__(self, part: object) -> None:
        self._shown = repr(part)
        for name in dir(part):
            if name.startswith(f"{hookspecs.PROJECT}_"):
                setattr(self, name, getattr(part, name))

    def __repr__(self) -> str:
        return self._shown


def decides(part: object) -> bool:
    """Whether a part answers a decision, or wraps one: the search then needs it wherever it runs."""
    return any(hasattr(part, hook) for hook in DECISIONS)


class RunHooks:
    """The hooks of one run, answered only by the parts its recipe names."""

    def __init__(self, parts: Iterable[tuple[str, object]]) -> None:
        """`parts`: (name shown in errors, object with hook implementations)."""
        self._manager = new_manager()
        for name, part in parts:
            try:
                self._manager.register(_Part(part), name=name)
                self._manager.check_pending()
            except (pluggy.PluginValidationError, ValueError) as error:
                raise PluginError(f"{name!r} cannot take part in the run: {error}") from error
        for hook in DECISIONS:
            self._reject_rivals(hook)

    def width(self, run: Run, chunk: Chunk, beam: Beam) -> int:
        """Raises `PluginError` for a width that is no number of candidates."""
        width = self._decide(DECISIONS[4], run=run, chunk=chunk, beam=beam)
        if not isinstance(width, int) or width < 1:
            raise PluginError(f"streamt1_width answered {width!r}; a beam needs one candidate or more.")
        return width

    def propose_noise(self, run: Run, chunk: Chunk, beam: Beam, count: int) -> Sequence[Proposal]:
        return cast("Sequence[Proposal]", self._decide(DECISIONS[0], run=run, chunk=chunk, beam=beam, count=count))

    def score(self, run: Run, chunk: Chunk, candidate: Candidate) -> float:
        return float(self._decide(DECISIONS[1], run=run, chunk=chunk, candidate=candidate))

    def select(self, run: Run, chunk: Chunk, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        return cast("Sequence[Candidate]", self._decide(DECISIONS[2], run=run, chunk=chunk, candidates=candidates))

    def route_memory(self, run: Run, chunk: Chunk, candidate: Candidate) -> MemoryRoute:
        return cast("MemoryRoute", self._decide(DECISIONS[3], run=run, chunk=chunk, candidate=candidate))

    def run_started(self, run: Run) -> None:
        self._manager.hook.streamt1_run_started(run=run)

    def candidate_scored(self, run: Run, chunk: Chunk, candidate: Candidate) -> None:
        self._manager.hook.streamt1_candidate_scored(run=run, chunk=chunk, candidate=candidate)

    def chunk_selected(self, run: Run, chunk: Chunk, kept: Sequence[Candidate], pruned: Sequence[Candidate]) -> None:
        self._manager.hook.streamt1_chunk_selected(run=run, chunk=chunk, kept=kept, pruned=pruned)

    def run_finished(self, run: Run, error: BaseException | None) -> None:
        """Tell every part, also when one of them fails: what the others keep must not depend on a full disk.

        Raises the first failure of a part; after an `error` it only logs them, so that the error is what the user sees.
        """
        failures: list[StreamT1Error] = []
        for name, part in self._manager.list_name_plugin():
            others = [other for other in self._manager.get_plugins() if other is not part]
            try:
                with foreign_code(f"{name!r} at the end of the run"):
                    self._manager.subset_hook_caller("streamt1_run_finished", others)(run=run, error=error)
            except StreamT1Error as failure:
                failures.append(failure)
        if failures and error is None:
            raise failures[0]
        for hidden in failures:
            log.warning("%s", hidden)

    def _decide(self, hook: str, **arguments: object) -> Any:
        answer = getattr(self._manager.hook, hook)(**arguments)
        if answer is None:
            asked = ", ".join(sorted(name for name, _ in self._manager.list_name_plugin())) or "none"
            raise PluginError(f"No part of this run answered {hook}. Parts asked: {asked}.")
        return answer

    def _reject_rivals(self, hook: str) -> None:
        implementations = getattr(self._manager.hook, hook).get_hookimpls()
        rivals = [i.plugin_name for i in implementations if not (i.wrapper or i.hookwrapper)]
        if len(rivals) > 1:
            raise PluginError(f"{hook} has {len(rivals)} answers in this run ({', '.join(rivals)}). Name one only.")
