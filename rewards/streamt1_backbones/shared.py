"""One copy of a network for all rewards that use it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamt1_backbones.sources import DType


@dataclass(frozen=True)
class Source:
    """Which weights, in which form, where. extra: a second file that changes them, if any."""

    model: str
    revision: str | None
    dtype: DType
    device: str
    extra: str | None = None


T = TypeVar("T")


class Shared(Generic[T]):
    """Loads each `Source` once; it is freed when the last reward that holds it lets go."""

    def __init__(self, load: Callable[[Source], T]) -> None:
        self._load = load
        self._held: WeakValueDictionary[Source, T] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, source: Source) -> T:
        """The network of `source`; whoever asks first waits for it to be loaded."""
        found = self._held.get(source)
        if found is None:
            found = self._load(source)
            self._held[source] = found
        return found
