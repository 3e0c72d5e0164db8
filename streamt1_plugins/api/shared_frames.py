"""What several rewards make of the same frames, such as a resized copy: made once for all of them."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from streamt1_plugins.api.image_reward import MEBIBYTE, TensorCache

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from torch import Tensor

LIMIT = 128 * MEBIBYTE


class _Sharing:
    """What was made of the frames of some inputs. The inputs stay alive with it, so their addresses name them."""

    def __init__(self) -> None:
        self._inputs: dict[int, Tensor] = {}
        self._made: TensorCache[Hashable] = TensorCache(LIMIT)

    def admit(self, video: Tensor) -> None:
        self._inputs[video.untyped_storage().data_ptr()] = video

    def once(self, frames: Tensor, what: Hashable, make: Callable[[Tensor], Tensor]) -> Tensor:
        place = frames.untyped_storage().data_ptr()
        if place not in self._inputs:  # a reward's own tensor: another one may have its address later
            return make(frames)
        key = (what, place, frames.storage_offset(), frames.shape, frames.stride(), frames.dtype)
        found = self._made.get(key)
        if found is None:
            found = make(frames)
            self._made.put(key, found)
        return found


_current: ContextVar[_Sharing | None] = ContextVar("streamt1_sharing", default=None)


@contextmanager
def sharing() -> Iterator[None]:
    """A context in which `once` remembers; the search opens one for each set of candidates that it has judged."""
    token = _current.set(_Sharing())
    try:
        yield
    finally:
        _current.reset(token)


def admit(video: Tensor) -> None:
    """Let `once` remember what is made of parts of `video`, which nothing changes, until the context ends."""
    found = _current.get()
    if found is not None and not video.is_meta:
        found.admit(video)


def once(frames: Tensor, what: Hashable, make: Callable[[Tensor], Tensor]) -> Tensor:
    """``make(frames)``, made once for all rewards of a search that give the same frames and the same `what`.

    frames: part of a reward's input, as a view (a slice); of anything else nothing is remembered. what: names the
    function and its options. The result belongs to all of them: it must not be changed in place.
    """
    found = _current.get()
    return make(frames) if found is None else found.once(frames, what, make)
