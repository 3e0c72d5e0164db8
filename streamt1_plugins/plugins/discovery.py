"""The plugins of this process, and the tables of the names that they register.

Plugins are found by their entry points and in STREAMT1_PLUGINS. They only fill tables: what takes part in a run is
named by its recipe, so installing a plugin never changes a result. One that does not load is listed as broken.
"""

from __future__ import annotations

import inspect
import os
import sys
from contextlib import contextmanager, redirect_stdout
from functools import cache
from importlib.metadata import EntryPoint, distributions, entry_points
from typing import TYPE_CHECKING, Any, get_args

from streamt1_plugins.api import hookspecs
from streamt1_plugins.api.register import PolicyKind
from streamt1_plugins.errors import PluginError, foreign_code, place_of
from streamt1_plugins.plugins.implementations import new_manager, register
from streamt1_plugins.plugins.named import PLUGINS, load_plugin, named
from streamt1_plugins.plugins.offers import offers_of
from streamt1_plugins.plugins.registry import AdapterEntry, BrokenPlugin, Entry, Table
from streamt1_plugins.process.state import process_kept

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from importlib.metadata import Distribution

    import pluggy
    import typer

    from streamt1_plugins.plugins.offers import Offers
    from streamt1_plugins.process.state import Changes

DISABLE = "STREAMT1_DISABLE_PLUGINS"
STRICT = "STREAMT1_STRICT"
OURS = "streamt1-plugins"
UNNAMED = "an unknown distribution"


def is_strict() -> bool:
    """Whether a broken plugin is an error of every command: with ``STREAMT1_STRICT=1`` or `streamt1 --strict`."""
    return os.environ.get(STRICT, "").strip().lower() not in ("", "0", "false", "no", "off")


class Discovery:
    """The plugins of this process and the names they offer.

    `plugins` has their origins by name; `broken` those that did not load; `changed` what a plugin's import changed in
    the process, by name of the plugin, and was put back.
    """

    def __init__(self) -> None:
        self.broken: list[BrokenPlugin] = []
        self.adapters: Table[AdapterEntry] = Table("adapter", self.broken)
        self.rewards: Table[Entry] = Table("reward", self.broken)
        self.policies: dict[PolicyKind, Table[Entry]] = {
            kind: Table(f"{kind} policy" if kind != "observer" else kind, self.broken) for kind in get_args(PolicyKind)
        }
        self.changed: dict[str, list[str]] = {}
        self.plugins: dict[str, str] = {}
        self._managers: dict[str, pluggy.PluginManager] = {}
        self._objects: list[object] = []
        self.disabled = tuple(name.strip() for name in os.environ.get(DISABLE, "").split(",") if name.strip())
        for point in self._entry_points():
            self._load(point)
        for source in named():
            self._load_named(source)

    @property
    def tables(self) -> tuple[Table[Any], ...]:
        """All name tables."""
        return (self.adapters, self.rewards, *self.policies.values())

    def add_named(self, sources: Iterable[str]) -> None:
        """Register plugins by file or module, unless they are registered already.

        Raises `PluginError` for a file or module that does not load, that implements no hook, or that offers a name
        which is taken.
        """
        for source in sources:
            self._add_named(source, strict=True)

    def add(self, plugin: object, *, name: str, origin: str) -> None:
        """Register one plugin and its names. Raises `PluginError` where it is broken or one of them is taken."""
        self._add(plugin, name, origin, strict=True)

    def add_commands(self, cli: typer.Typer, name: str | None = None) -> None:
        """Let plugins, or the one called `name`, add subcommands. Raises `PluginError`, naming the plugin."""
        for each in self.plugins if name is None else [name]:
            with _isolated(), foreign_code(_called(each, self.plugins[each]), passes=()):
                self._managers[each].hook.streamt1_add_commands(cli=cli)

    def mark_broken(self, name: str, origin: str, error: PluginError, entry: str = "") -> None:
        """List a plugin, or its commands, as broken because of `error`."""
        reason = str(error).removeprefix(_called(name, origin)).removeprefix(" failed").lstrip(": ")
        self.broken.append(BrokenPlugin(name, origin, reason, place_of(error.__cause__), entry))

    def refuse_broken(self) -> None:
        """Raise `PluginError` where a plugin did not load, or where two offer the same name."""
        for each in self.broken:
            where = f" ({each.place})" if each.place else ""
            off = f"{DISABLE}={each.name} runs without it"
            raise PluginError(f"{_called(each.name, each.origin)} ({off}) is broken: {each.reason}{where}")
        for table in self.tables:
            for name in table.contested:
                table[name]  # raises

    def _load(self, point: EntryPoint) -> None:
        """Register an installed plugin, or list it as broken."""
        origin = _origin(point)
        try:
            with _isolated() as changes, foreign_code(_called(point.name, origin), passes=()):
                plugin = point.load()
            self._note(point.name, changes)
            self._add(plugin, point.name, origin)
        except PluginError as error:
            self.mark_broken(point.name, origin, error, point.value)

    def _load_named(self, source: str) -> None:
        """Register a plugin that the environment names, or list it as broken."""
        try:
            self._add_named(source)
        except PluginError as error:
            self.mark_broken(source, PLUGINS, error, source)

    def _add_named(self, source: str, *, strict: bool = False) -> None:
        with _isolated() as changes:
            plugin = load_plugin(source)
        name, origin = plugin.__name__, str(plugin.__file__ or plugin.__name__)
        if name in self.disabled or any(each is plugin for each in self._objects):
            return
        if name in self.plugins:
            raise PluginError(f"{origin}: there is a plugin {name!r} already, of {self.plugins[name]}. Rename one.")
        self._note(name, changes)
        self._add(plugin, name, origin, strict=strict)

    def _note(self, name: str, changes: Changes) -> None:
        if changes.settings:
            self.changed[name] = changes.settings

    def _add(self, plugin: object, name: str, origin: str, *, strict: bool = False) -> None:
        """Register one plugin. `strict`: a name that is taken is an error at once, not only where it is read."""
        what, manager = _called(name, origin), new_manager()
        if inspect.isclass(plugin):
            raise PluginError(f"{what} is a class; its entry point has to name a module, or an object of the class.")
        try:
            hooks = register(manager, plugin, name)
        except PluginError as error:
            raise PluginError(f"{what} {error}") from error.__cause__
        if not hooks:
            raise PluginError(
                f"{what} implements no hook, so it is no plugin. Decorate a function such as "
                "streamt1_register_rewards(register) with @streamt1_plugins.hookimpl."
            )
        with _isolated():
            offers = offers_of(manager, what, origin)
        self._take(offers, strict)
        self.plugins[name] = origin
        self._managers[name] = manager
        self._objects.append(plugin)

    def _take(self, offers: Offers, strict: bool) -> None:
        tables: list[tuple[Table[Any], Entry]] = [(self.adapters, entry) for entry in offers.adapters]
        tables += [(self.rewards, entry) for entry in offers.rewards]
        tables += [(self.policies[kind], entry) for kind, entry in offers.policies]
        for table, entry in tables if strict else ():
            table.refuse_taken(entry)
        for table, entry in tables:
            table.offer(entry)

    def _entry_points(self) -> list[EntryPoint]:
        """The plugins that are installed, each name once; a second one of a name is broken."""
        try:
            with foreign_code("Reading the entry points", passes=()):
                found = list(entry_points(group=hookspecs.PROJECT))
        except PluginError:  # the metadata of one distribution is damaged: read each on its own
            found = [point for each in distributions() for point in self._entry_points_of(each)]
        kept: dict[str, EntryPoint] = {}
        for point in sorted(found, key=lambda point: point.name):
            first = kept.setdefault(point.name, point)
            if first.value != point.value:
                self._note_twins(kept, first, point)
        return [point for point in kept.values() if point.name not in self.disabled]

    def _entry_points_of(self, distribution: Distribution) -> list[EntryPoint]:
        try:
            with foreign_code("Reading the entry points", passes=()):
                return [point for point in distribution.entry_points if point.group == hookspecs.PROJECT]
        except PluginError as error:
            self.mark_broken("?", str(getattr(distribution, "_path", UNNAMED)), error)
            return []

    def _note_twins(self, kept: dict[str, EntryPoint], *twins: EntryPoint) -> None:
        """Of two distributions with one name for a plugin, keep one: this package's own, or the first by name."""
        first, second = sorted(twins, key=lambda point: (_origin(point) != OURS, _origin(point), point.value))
        kept[first.name] = first
        if first.name not in self.disabled:
            both = f"{_origin(first)} ({first.value}) and {_origin(second)} ({second.value})"
            why = (
                f"Two distributions offer a plugin named {first.name!r}: {both}. The first one is used: uninstall one."
            )
            self.mark_broken(second.name, _origin(second), PluginError(why), second.value)


def _called(name: str, origin: str) -> str:
    return f"Plugin {name!r} of {origin}"


def _origin(point: EntryPoint) -> str:
    """The distribution of an entry point, whose metadata may be damaged."""
    try:
        with foreign_code("Reading the name", passes=()):
            return str((point.dist and point.dist.name) or UNNAMED)
    except PluginError:
        return UNNAMED


@contextmanager
def _isolated() -> Iterator[Changes]:
    """For a plugin's import: what it changes in the process is put back, and what it prints goes to standard error."""
    with process_kept() as changes, redirect_stdout(sys.stderr):
        yield changes


@cache
def _found() -> Discovery:
    return Discovery()


def discovery() -> Discovery:
    """The process's plugins, loaded on first use. In strict mode, `PluginError` where one of them is broken."""
    found = _found()
    if is_strict():
        found.refuse_broken()
    return found
