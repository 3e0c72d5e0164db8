"""Name tables: what a recipe may name, which plugin offers it, and where its code is. Imports happen on first use."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from streamt1_plugins.errors import PluginError, foreign_code, unknown_name

if TYPE_CHECKING:
    from streamt1_plugins.api.adapter import Capabilities
    from streamt1_plugins.api.register import Rewards, Target


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


E = TypeVar("E", bound=Entry)


def load_target(target: Target, what: str, extra: str | None = None) -> Any:
    """The class itself, or what ``"module:attr"`` imports. Raises `PluginError`, which names `what`, if that fails."""
    if not isinstance(target, str):
        return target
    module, _, attribute = target.partition(":")
    with foreign_code(f"Importing {module!r} for {what}"):
        try:
            found = import_module(module)
        except ImportError as error:
            hint = f" Install it with: pip install {extra!r}." if extra else ""
            missing = error.name or module
            raise PluginError(f"{what} needs {missing!r}, which cannot be imported ({error}).{hint}") from error
    try:
        return getattr(found, attribute)
    except AttributeError as error:
        raise PluginError(f"{what} points to {target!r}, but {module!r} has no {attribute!r}.") from error


class Table(dict[str, E]):
    """The registered names of one kind.

    Adding a taken name raises `PluginError` with both origins; reading an unknown one raises `UnknownNameError`.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def add(self, entry: E) -> None:
        if taken := self.get(entry.name):
            raise PluginError(
                f"Two plugins register the {self.kind} {entry.name!r}: {taken.origin} ({taken.path}) and "
                f"{entry.origin} ({entry.path}). Rename one, or skip one with STREAMT1_DISABLE_PLUGINS=<plugin name>."
            )
        self[entry.name] = entry

    def __missing__(self, name: str) -> E:
        raise unknown_name(self.kind, name, self)
