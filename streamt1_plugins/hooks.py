"""The typed face of the hooks and the only file that touches a pluggy manager.

`Discovery` lives once per process and fills name tables. `RunHooks` lives once per run and holds only the parts its
recipe names, so installing a plugin never changes a result.
"""

from __future__ import annotations

import logging
import os
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, cast

import pluggy

from streamt1_plugins import hookspecs
from streamt1_plugins.errors import PluginError, StreamT1Error, foreign_code
from streamt1_plugins.registry import AdapterEntry, Entry, PolicyKind, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import typer

    from streamt1_plugins.contracts import Beam, Candidate, Chunk, MemoryRoute, Proposal, Run

log = logging.getLogger("streamt1")

DECISIONS = (
    "streamt1_propose_noise",
    "streamt1_score",
    "streamt1_select",
    "streamt1_route_memory",
    "streamt1_width",
)
DISABLE = "STREAMT1_DISABLE_PLUGINS"
TRACE = "STREAMT1_TRACE_HOOKS"


def _new_manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    if os.environ.get(TRACE):
        manager.add_hookcall_monitoring(_trace_call, _trace_result)
    return manager


def _trace_call(hook: str, implementations: Sequence[pluggy.HookImpl], arguments: Any) -> None:
    names = ", ".join(i.plugin_name for i in implementations) or "nobody"
    log.warning("%s asks %s", hook, names)


def _trace_result(outcome: Any, hook: str, implementations: Any, arguments: Any) -> None:
    log.warning("%s -> %s", hook, "error" if outcome.exception else type(outcome.get_result()).__name__)


def _origin(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "an unknown distribution"


def _reject_shared_names(points: Iterable[EntryPoint]) -> None:
    """Pluggy would silently keep one of two distributions that use the same entry-point name."""
    seen: dict[str, EntryPoint] = {}
    for point in points:
        first = seen.setdefault(point.name, point)
        if first.value != point.value:
            raise PluginError(
                f"Two distributions offer a plugin named {point.name!r}: {_origin(first)} ({first.value}) and "
                f"{_origin(point)} ({point.value}). Uninstall one, or ask its author to rename the entry point."
            )


class Discovery:
    """The plugins of this process and the names they offer."""

    def __init__(self) -> None:
        self._manager = _new_manager()
        self.adapters: Table[AdapterEntry] = Table("adapter")
        self.rewards: Table[Entry] = Table("reward")
        self.policies: dict[PolicyKind, Table[Entry]] = {
            kind: Table(f"{kind} policy" if kind != "observer" else kind)
            for kind in ("width", "noise", "scoring", "selection", "memory", "observer")
        }
        self.plugins: dict[str, str] = {}
        self.disabled = tuple(name.strip() for name in os.environ.get(DISABLE, "").split(",") if name.strip())
        points = sorted(entry_points(group=hookspecs.PROJECT), key=lambda point: point.name)
        _reject_shared_names(point for point in points if point.name not in self.disabled)
        for point in points:
            if point.name not in self.disabled and point.name not in self.plugins:
                self._load(point)

    def _load(self, point: EntryPoint) -> None:
        origin = _origin(point)
        with foreign_code(f"Loading plugin {point.name!r} of {origin} ({DISABLE}={point.name} runs without it)"):
            self.add(point.load(), name=point.name, origin=origin)

    def add(self, plugin: object, *, name: str, origin: str) -> None:
        """Register one plugin and collect the names it offers. Raises `PluginError` on a taken name."""
        with foreign_code(f"Plugin {name!r} of {origin}"):
            self._manager.register(plugin, name=name)
        self._check_hook_names(plugin, name, origin)
        self.plugins[name] = origin
        self._collect(plugin, origin)

    def _check_hook_names(self, plugin: object, name: str, origin: str) -> None:
        try:
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            self._manager.unregister(plugin)  # or the next plugin would be blamed
            raise PluginError(f"Plugin {name!r} of {origin} implements a hook that does not exist: {error}") from error

    def _collect(self, plugin: object, origin: str) -> None:
        """Ask only this plugin, so that every name gets the right origin."""
        others = [p for p in self._manager.get_plugins() if p is not plugin]

        def adapter(name: str, *, target: str, **declared: Any) -> None:
            self.adapters.add(AdapterEntry(name, target, origin, **declared))

        def reward(name: str, *, target: str, extra: str | None = None) -> None:
            self.rewards.add(Entry(name, target, origin, extra))

        def policy(name: str, *, kind: PolicyKind, target: str) -> None:
            self.policies[kind].add(Entry(name, target, origin))

        for hook, register in (("adapters", adapter), ("rewards", reward), ("policies", policy)):
            self._manager.subset_hook_caller(f"streamt1_register_{hook}", others)(register=register)

    def add_commands(self, cli: typer.Typer) -> None:
        """Let plugins add subcommands."""
        self._manager.hook.streamt1_add_commands(cli=cli)


@cache
def discovery() -> Discovery:
    """The process's plugins, loaded on first use."""
    return Discovery()


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
        self._manager = _new_manager()
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
