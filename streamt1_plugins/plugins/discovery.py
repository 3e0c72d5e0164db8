"""The plugins of this process, and the tables of the names that they register.

Plugins are found by their entry points and in STREAMT1_PLUGINS. They only fill tables: what takes part in a run is
named by its recipe, so installing a plugin never changes a result.
"""

from __future__ import annotations

import logging
import os
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, get_args

import pluggy

from streamt1_plugins.api import hookspecs
from streamt1_plugins.api.register import PolicyKind
from streamt1_plugins.errors import PluginError, foreign_code
from streamt1_plugins.plugins.named import load_plugin, named
from streamt1_plugins.plugins.registry import AdapterEntry, Entry, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import typer

    from streamt1_plugins.api.register import Target

log = logging.getLogger("streamt1")

DISABLE = "STREAMT1_DISABLE_PLUGINS"
TRACE = "STREAMT1_TRACE_HOOKS"


def new_manager() -> pluggy.PluginManager:
    """A pluggy manager with the hooks' specifications; with STREAMT1_TRACE_HOOKS set it logs every call."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    if os.environ.get(TRACE):
        manager.add_hookcall_monitoring(_trace_call, _trace_result)
    return manager


def _trace_call(hook: str, implementations: Sequence[pluggy.HookImpl], arguments: Any) -> None:
    names = ", ".join(i.plugin_name for i in implementations) or "no part"
    log.warning("%s calls %s", hook, names)


def _trace_result(outcome: Any, hook: str, implementations: Any, arguments: Any) -> None:
    log.warning("%s -> %s", hook, "error" if outcome.exception else type(outcome.get_result()).__name__)


def _origin(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "an unknown distribution"


def _by_name(points: Iterable[EntryPoint]) -> dict[str, EntryPoint]:
    """The entry points by name. Raises `PluginError` where two distributions share a name."""
    seen: dict[str, EntryPoint] = {}
    for point in points:
        first = seen.setdefault(point.name, point)
        if first.value != point.value:
            raise PluginError(
                f"Two distributions offer a plugin named {point.name!r}: {_origin(first)} ({first.value}) and "
                f"{_origin(point)} ({point.value}). Uninstall one, or ask its author to rename the entry point."
            )
    return seen


class Discovery:
    """The plugins of this process and the names they offer."""

    def __init__(self) -> None:
        self._manager = new_manager()
        self.adapters: Table[AdapterEntry] = Table("adapter")
        self.rewards: Table[Entry] = Table("reward")
        self.policies: dict[PolicyKind, Table[Entry]] = {
            kind: Table(f"{kind} policy" if kind != "observer" else kind) for kind in get_args(PolicyKind)
        }
        self.plugins: dict[str, str] = {}
        self.disabled = tuple(name.strip() for name in os.environ.get(DISABLE, "").split(",") if name.strip())
        found = sorted(entry_points(group=hookspecs.PROJECT), key=lambda point: point.name)
        for point in _by_name(point for point in found if point.name not in self.disabled).values():
            self._load(point)
        self.add_named(named())

    def add_named(self, sources: Iterable[str]) -> None:
        """Register plugins by file or module, unless they are registered already.

        Raises `PluginError` for a file or module that does not load, or that implements no hook.
        """
        for source in sources:
            plugin = load_plugin(source)
            name, origin = plugin.__name__, str(plugin.__file__ or plugin.__name__)
            if name in self.disabled or self._manager.is_registered(plugin):
                continue
            if name in self.plugins:
                raise PluginError(f"{origin}: there is a plugin {name!r} already, of {self.plugins[name]}. Rename one.")
            self.add(plugin, name=name, origin=origin)
            if not self._manager.get_hookcallers(plugin):
                raise PluginError(
                    f"{origin} implements no hook, so it is no plugin. Decorate a function such as "
                    "streamt1_register_rewards(register) with @streamt1_plugins.hookimpl."
                )

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
        """Call the discovery hooks of this plugin alone, so that every name gets the right origin."""
        others = [p for p in self._manager.get_plugins() if p is not plugin]

        def adapter(name: str, *, target: Target, **declared: Any) -> None:
            self.adapters.add(AdapterEntry(name, target, origin, **declared))

        def reward(name: str, *, target: Target, extra: str | None = None) -> None:
            self.rewards.add(Entry(name, target, origin, extra))

        def policy(name: str, *, kind: PolicyKind, target: Target) -> None:
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
