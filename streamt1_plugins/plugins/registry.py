"""Name tables: what a recipe may name, which plugin offers it, and where its code is. Imports happen on first use."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from streamt1_plugins.errors import VALUE, PluginError, brief, foreign_code, message_of, unknown_name
from streamt1_plugins.process.imports import uncollected
from streamt1_plugins.process.state import process_kept

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamt1_plugins.api.adapter import Capabilities
    from streamt1_plugins.api.register import Rewards, Target, Vocabulary


@dataclass(frozen=True, slots=True)
class Entry:
    """One registered name: `target` is "module:attr" or a class, `origin` the distribution or file that offers it."""

    name: str
    target: Target
    origin: str
    extra: str | None = None

    @property
    def path(self) -> str:
        """Where the code is, as "module:attr"."""
        target = self.target
        return target if isinstance(target, str) else f"{target.__module__}:{target.__qualname__}"

    def load(self) -> Any:
        """Import the target. Raises `PluginError` naming the origin and, where there is one, the extra to install."""
        return load_target(self.target, f"{self.name!r} of {self.origin}", self.extra)


@dataclass(frozen=True, slots=True)
class AdapterEntry(Entry):
    """What an adapter declared of itself, see `RegisterAdapter`."""

    pipelines: tuple[str, ...] = ()
    model: str | None = None
    explicit: str | None = None
    rewards: Rewards | None = None
    capabilities: Capabilities | None = None
    vocabulary: Vocabulary | None = None


E = TypeVar("E", bound=Entry)


def load_target(target: Target, what: str, extra: str | None = None) -> Any:
    """The class itself, or what ``"module:attr"`` imports. Raises `PluginError`, which names `what`, if that fails."""
    if not isinstance(target, str):
        return target
    module, _, attribute = target.partition(":")
    try:
        with process_kept(), uncollected(), foreign_code(f"Importing {module!r} for {what}", passes=ImportError):
            found = import_module(module)
    except ImportError as error:
        hint = f" Install it with: pip install {extra!r}." if extra else ""
        missing, reason = error.name or module, message_of(error)
        raise PluginError(f"{what} needs {missing!r}, which cannot be imported ({reason}).{hint}") from error
    try:
        with foreign_code(f"Reading {target!r} for {what}", passes=AttributeError):
            return getattr(found, attribute)
    except AttributeError as error:
        raise PluginError(f"{what} points to {target!r}, but {module!r} has no {attribute!r}.") from error


@dataclass(frozen=True, slots=True)
class BrokenPlugin:
    """A plugin that did not load, or its commands: `reason` and `place` (file and line) of the failure.

    `entry` is what its entry point, or the environment variable, names.
    """

    name: str
    origin: str
    reason: str
    place: str = ""
    entry: str = ""


SHOWN = 3  # plugins in one message


def hint(broken: Sequence[BrokenPlugin]) -> str:
    """Where a name is unknown: a sentence about the plugins that did not load and may have it, empty without any."""
    if not broken:
        return ""
    first = ", ".join(f"{each.name!r} of {each.origin} ({brief(each.reason, VALUE)})" for each in broken[:SHOWN])
    rest = f" and {len(broken) - SHOWN} more" if len(broken) > SHOWN else ""
    them = "A plugin that did not load" if len(broken) == 1 else "One of the plugins that did not load"
    return f" {them} may have it: {first}{rest}. See `streamt1 plugins`."


class Table(dict[str, E]):
    """The registered names of one kind.

    Adding a taken name raises `PluginError` with both origins; reading an unknown one raises `UnknownNameError`, which
    has the plugins that are `broken`. A name that two plugins offer is an error where it is read.
    """

    def __init__(self, kind: str, broken: Sequence[BrokenPlugin] = ()) -> None:
        super().__init__()
        self.kind = kind
        self.contested: dict[str, list[E]] = {}
        self._broken = broken

    def add(self, entry: E) -> None:
        """Add a name. Raises `PluginError` where it is taken."""
        self.refuse_taken(entry)
        self[entry.name] = entry

    def refuse_taken(self, entry: E) -> None:
        """Raise `PluginError`, naming both plugins, where the entry's name is taken."""
        if taken := super().get(entry.name):
            raise self._clash(taken, entry)

    def offer(self, entry: E) -> None:
        """Add a name; one that is taken is nobody's from now on."""
        taken = super().setdefault(entry.name, entry)
        if taken is not entry:
            self.contested.setdefault(entry.name, [taken]).append(entry)

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self else default  # noqa: SIM401  (this is what it would call)

    def __getitem__(self, name: str) -> E:
        if name in self.contested:
            raise self._clash(*self.contested[name][:2])
        return super().__getitem__(name)

    def __missing__(self, name: str) -> E:
        error = unknown_name(self.kind, name, self)
        raise type(error)(f"{error}{hint(self._broken)}")

    def _clash(self, taken: E, entry: E) -> PluginError:
        return PluginError(
            f"Two plugins register the {self.kind} {entry.name!r}: {taken.origin} ({taken.path}) and "
            f"{entry.origin} ({entry.path}). Rename one, or skip one with STREAMT1_DISABLE_PLUGINS=<plugin name>."
        )
