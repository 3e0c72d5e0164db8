"""Shares one copy of a network among the rewards that use it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamt1_backbones.sources import DType


@dataclass(frozen=True)
class Source:
    """The weights of a network, their dtype and device. extra: a second file that replaces weights, if any."""

    model: str
    revision: str | None
    dtype: DType
    device: str
    extra: str | None = None


T = TypeVar("T")


class Shared(Generic[T]):
    """Networks by `Source`: each is loaded once, and freed when no reward refers to it any more."""

    def __init__(self, load: Callable[[Source], T]) -> None:
        self._load = load
        self._loaded: WeakValueDictionary[Source, T] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._loaded)

    def get(self, source: Source) -> T:
        """The network of `source`, loaded at the first call."""
        found = self._loaded.get(source)
        if found is None:
            found = self._load(source)
            self._loaded[source] = found
        return found
