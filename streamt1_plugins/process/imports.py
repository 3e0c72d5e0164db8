"""Imports that cost less: made where a module is first used, and without the garbage collector."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class Deferred:
    """A module that is imported where one of its attributes is first read."""

    def __init__(self, module: str) -> None:
        self.__module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self.__module), name)

    def __repr__(self) -> str:
        return f"deferred({self.__module!r})"


def deferred(module: str) -> Any:
    """A stand-in for a module, which is imported where one of its attributes is first read.

    ``torch = deferred("torch")`` instead of ``import torch`` makes the module of an adapter or a reward cheap to
    import: `streamt1 recipes validate`, `recipes diff` and `plugins --details` read its options and declarations alone.
    """
    return Deferred(module)


@contextmanager
def uncollected() -> Iterator[None]:
    """Switch Python's garbage collector off inside, and give it back as it was.

    Importing torch, diffusers and transformers makes a million objects, all of which stay. Looking through them again
    and again is a quarter of what the imports cost.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
