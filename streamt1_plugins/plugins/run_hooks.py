"""The hooks of one run, implemented only by the plugins that its recipe names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from streamt1_plugins.api.candidate import Candidate
from streamt1_plugins.api.types import Proposal, Revision
from streamt1_plugins.errors import PluginError, StreamT1Error, foreign_code, shown
from streamt1_plugins.plugins.implementations import implements, log, new_manager, reads_frames, register
from streamt1_plugins.runs.files import WAY_ON

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamt1_plugins.api.candidate import Beam
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.tree import Action
    from streamt1_plugins.api.types import Chunk, MemoryRoute


Item = TypeVar("Item")

DECISIONS = (
    "streamt1_width",
    "streamt1_propose_noise",
    "streamt1_score",
    "streamt1_revise",
    "streamt1_select",
    "streamt1_route_memory",
)
"""Hooks with exactly one answer in a run; of `streamt1_revise` it may be None, and none is needed."""


def decides(plugin: object) -> bool:
    """Whether a plugin answers a decision, or wraps one: every process of a search then needs it."""
    return any(implements(plugin, hook) for hook in DECISIONS)


class RunHooks:
    """The hooks of one run, typed. Only the plugins given here implement them."""

    def __init__(self, run: Run, plugins: Iterable[tuple[str, object]]) -> None:
        """`plugins`: (name shown in errors, object with hook implementations).

        Raises `PluginError` for a hook that does not exist, and for two answers to one decision.
        """
        self._run = run
        self._manager = new_manager()
        self.reads_frames = False
        """Whether a plugin of this run may read the frames of candidates before they survive."""
        for name, plugin in plugins:
            try:
                register(self._manager, plugin, name, guarded=True)
            except PluginError as error:
                raise PluginError(f"{name!r} cannot take part in the run: it {error}") from error.__cause__
            self.reads_frames = self.reads_frames or reads_frames(plugin)
        for hook in DECISIONS:
            self._reject_rivals(hook)

    def width(self, chunk: Chunk, beam: Beam, least: int = 1) -> int:
        """How many candidates a beam branches into. Raises `PluginError` for an answer that is no such number."""
        width = self._decide("streamt1_width", chunk=chunk, beam=beam)
        if not isinstance(width, int) or width < least:
            raise self._refused("streamt1_width", width, f"a whole number of candidates, at least {least}")
        return width

    def propose_noise(self, chunk: Chunk, beam: Beam, count: int) -> Sequence[Proposal]:
        """The noise proposals of a beam, about `count` of them."""
        found = self._decide("streamt1_propose_noise", chunk=chunk, beam=beam, count=count)
        return self._listed("streamt1_propose_noise", found, Proposal)

    def score(self, chunk: Chunk, candidate: Candidate) -> float:
        """The score of an evaluated candidate; higher is better."""
        found = self._decide("streamt1_score", chunk=chunk, candidate=candidate)
        try:
            with foreign_code("Reading a number", passes=()):
                return float(found)
        except PluginError as error:
            raise self._refused("streamt1_score", found, "a number") from error.__cause__

    @property
    def can_revise(self) -> bool:
        """Whether a plugin of this run answers `streamt1_revise`."""
        return bool(self._manager.hook.streamt1_revise.get_hookimpls())

    def revise(self, chunk: Chunk, candidates: Sequence[Candidate]) -> Revision | None:
        """What becomes of a chunk instead of its selection, None for the selection."""
        answer = self._manager.hook.streamt1_revise(run=self._run, chunk=chunk, candidates=candidates)
        if answer is not None and not isinstance(answer, Revision):
            raise self._refused("streamt1_revise", answer, "a `Revision` or None")
        return answer

    def select(self, chunk: Chunk, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """The candidates that survive, best first."""
        return self._listed(
            "streamt1_select", self._decide("streamt1_select", chunk=chunk, candidates=candidates), Candidate
        )

    def route_memory(self, chunk: Chunk, candidate: Candidate) -> MemoryRoute:
        """What the candidate's context becomes when it leaves the memory window."""
        route = self._decide("streamt1_route_memory", chunk=chunk, candidate=candidate)
        if not isinstance(route, str):
            raise self._refused("streamt1_route_memory", route, "the name of a route")
        return route

    def run_started(self) -> None:
        self._manager.hook.streamt1_run_started(run=self._run)

    def candidate_scored(self, chunk: Chunk, candidate: Candidate) -> None:
        self._run.background.check()
        self._manager.hook.streamt1_candidate_scored(run=self._run, chunk=chunk, candidate=candidate)

    def revised(self, chunk: Chunk, revision: Revision, candidates: Sequence[Candidate]) -> None:
        self._run.background.check()
        self._manager.hook.streamt1_revised(run=self._run, chunk=chunk, revision=revision, candidates=candidates)

    def chunk_selected(self, chunk: Chunk, kept: Sequence[Candidate], pruned: Sequence[Candidate]) -> None:
        self._run.background.check()
        self._manager.hook.streamt1_chunk_selected(run=self._run, chunk=chunk, kept=kept, pruned=pruned)

    def acted(self, action: Action) -> None:
        self._run.background.check()
        self._manager.hook.streamt1_acted(run=self._run, action=action)

    def run_finished(self, error: BaseException | None) -> None:
        """Inform every plugin, even when one of them fails: what the others save must not depend on a full disk.

        Raises the failures of plugins as one error; after an `error` they are only logged, so that users see the error.
        """
        failures = self._left_undone()
        for name, plugin in self._manager.list_name_plugin():
            others = [other for other in self._manager.get_plugins() if other is not plugin]
            try:
                with foreign_code(f"{name!r} at the end of the run"):
                    self._manager.subset_hook_caller("streamt1_run_finished", others)(run=self._run, error=error)
            except StreamT1Error as failure:
                failures.append(failure)
        failures += self._left_undone()
        if failures and error is None:
            raise _joined(failures)
        for hidden in failures:
            log.warning("%s", hidden)

    def _left_undone(self) -> list[StreamT1Error]:
        """Wait for the run's background jobs; the errors of those that failed."""
        background, failures = self._run.background, list[StreamT1Error]()
        background.wait()
        while True:
            try:
                background.check()
            except StreamT1Error as failure:
                failures.append(failure)
            else:
                return failures

    def _decide(self, hook: str, **arguments: object) -> Any:
        answer = getattr(self._manager.hook, hook)(run=self._run, **arguments)
        if answer is None:
            called = ", ".join(sorted(name for name, _ in self._manager.list_name_plugin())) or "none"
            raise PluginError(f"No plugin of this run answered {hook}. Its plugins: {called}.")
        return answer

    def _listed(self, hook: str, answer: Any, kind: type[Item]) -> list[Item]:
        """The answer as a list of `kind`."""
        try:
            with foreign_code("Reading a list", passes=()):
                found = list(answer)
        except PluginError as error:
            raise self._refused(hook, answer, f"a list of `{kind.__name__}`") from error.__cause__
        for each in found:
            if not isinstance(each, kind):
                raise self._refused(hook, each, f"a list of `{kind.__name__}`")
        return found

    def _refused(self, hook: str, answer: object, expected: str) -> PluginError:
        """The error for an answer that cannot be used, with the parts that gave it."""
        names = ", ".join(each.plugin_name for each in getattr(self._manager.hook, hook).get_hookimpls())
        return PluginError(f"{hook} returned {shown(answer)}; expected {expected}. It is answered by {names}.")

    def _reject_rivals(self, hook: str) -> None:
        implementations = getattr(self._manager.hook, hook).get_hookimpls()
        rivals = [i.plugin_name for i in implementations if not (i.wrapper or i.hookwrapper)]
        if len(rivals) > 1:
            raise PluginError(f"{hook} has {len(rivals)} answers in this run ({', '.join(rivals)}). Name one only.")


def _joined(failures: Sequence[StreamT1Error]) -> StreamT1Error:
    """The first of several errors with the messages of all; what to do about a full disk stands at the end, once."""
    if len(failures) == 1:
        return failures[0]
    parts = [str(failure).partition(WAY_ON) for failure in failures]
    way_on = next((mark + folder for _, mark, folder in parts if mark), "")
    return type(failures[0])(" ".join([*(problem.strip() for problem, *_ in parts), way_on]).strip())
