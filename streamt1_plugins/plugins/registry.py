"""Name tables: what a recipe may name, who offers it, and where its code is. Nothing is imported until it is used."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from streamt1_plugins.errors import PluginError, foreign_code, unknown_name

if TYPE_CHECKING:
    from streamt1_plugins.api.adapter import Capabilities
    from streamt1_plugins.api.register import Rewards


@dataclass(frozen=True, slots=True)
class Entry:
    """One registered name: `target` is "module:attr", `origin` the distribution that offers it."""

    name: str
    target: str
    origin: str
    extra: str | None = None

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


E_co = TypeVar("E_co", bound=Entry)


def load_target(target: str, who: str, extra: str | None = None) -> Any:
    """Import ``"module:attr"``; every failure becomes a `PluginError` that says who asked for what."""
    module, _, attribute = target.partition(":")
    with foreign_code(f"Importing {module!r} for {who}"):
        try:
            found = import_module(module)
        except ImportError as error:
            hint = f" Install it with: pip install {extra!r}." if extra else ""
            missing = error.name or module
            raise PluginError(f"{who} needs {missing!r}, which cannot be imported ({error}).{hint}") from error
    try:
        return getattr(found, attribute)
    except AttributeError as error:
        raise PluginError(f"{who} points to {target!r}, but {module!r} has no {attribute!r}.") from error


@dataclass
class Table(Generic[E_co]):
    """Names of one kind. Adding a taken name is an error that names both origins; so is asking for an unknown one."""

    kind: str
    entries: dict[str, E_co] = field(default_factory=dict)

    def add(self, entry: E_co) -> None:
        taken = self.entries.get(entry.name)
        if taken is not None:
            raise PluginError(
                f"Two plugins register the {self.kind} {entry.name!r}: {taken.origin} ({taken.target}) and "
                f"{entry.origin} ({entry.target}). Rename one, or skip one with STREAMT1_DISABLE_PLUGINS=<plugin name>."
            )
        self.entries[entry.name] = entry

    def __getitem__(self, name: str) -> E_co:
        if name not in self.entries:
            raise unknown_name(self.kind, name, self.entries)
        return self.entries[name]

    def __contains__(self, name: str) -> bool:
        return name in self.entries
