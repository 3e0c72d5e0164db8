"""Commands without the bars that diffusers and transformers show while they load the parts of a folder."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

SWITCHES = ("diffusers.utils.logging", "transformers.utils.logging")
"""The modules that switch the bars of their libraries."""


@contextmanager
def without_loading_bars() -> Iterator[None]:
    """Hide the libraries' bars for loading a folder, which would break into ours; downloads keep theirs.

    A library that is not imported yet hides its bars once it is: a command that loads no model imports neither.
    """
    hidden: list[Any] = []

    def hide(library: Any) -> None:
        if library._tqdm_active:
            hidden.append(library)
            _leaving_downloads(library.disable_progress_bar)

    for name in SWITCHES:
        if name in sys.modules:
            hide(sys.modules[name])
    later = _Imported(hide)
    sys.meta_path.insert(0, later)
    try:
        yield
    finally:
        sys.meta_path.remove(later)
        for library in hidden:
            _leaving_downloads(library.enable_progress_bar)


class _Imported(MetaPathFinder):
    """Calls a function with each of the `SWITCHES`, once it is imported."""

    def __init__(self, found: Callable[[ModuleType], None]) -> None:
        self._found = found

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target) if fullname in SWITCHES else None
        if spec is not None and spec.loader is not None:
            self._follow(spec.loader)
        return spec

    def _follow(self, loader: Any) -> None:
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module  # the loader stays with the module, as its own class made it
            execute(module)
            self._found(module)

        loader.exec_module = exec_module


def _leaving_downloads(switch: Callable[[], None]) -> None:
    """Call `switch`, and give the bars of downloads back, which transformers switches too."""
    from huggingface_hub import utils

    before = "disable" if utils.are_progress_bars_disabled() else "enable"  # type: ignore[attr-defined]
    switch()
    getattr(utils, f"{before}_progress_bars")()
