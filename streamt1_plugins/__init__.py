"""Test-time scaling for autoregressive diffusers video pipelines: ``pipe = streamt1_plugins.wrap(pipe)``.

The public interface is what `__init__.pyi` names, with `streamt1_plugins.errors` and `streamt1_plugins.testing`. Names
are imported on first use, so ``import streamt1_plugins`` loads neither torch nor diffusers.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import Any
from warnings import warn

from lazy_loader import attach_stub

from streamt1_plugins.text.printable import guard

__version__ = "0.2.0"

_exported, _, __all__ = attach_stub(__name__, __file__)

_RENAMED = {"keep": "record_to"}
"""Renamed in 0.2; version 0.3 drops the old names."""

_MODULES = ("errors", "replay", "testing")
"""Modules that are attributes before anything has imported them."""


guard(logging.getLogger("streamt1"))


def __getattr__(name: str) -> Any:
    if now := _RENAMED.get(name):
        message = f"{__name__}.{name} is now {__name__}.{now}. Version 0.3 drops the old name."
        warn(message, DeprecationWarning, stacklevel=2)
        return _exported(now)
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    return _exported(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
