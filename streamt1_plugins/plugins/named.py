"""Plugins named by file or module instead of installed: `streamt1 --plugin FILE`, ``STREAMT1_PLUGINS=FILE``."""

from __future__ import annotations

import os
import re
import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from streamt1_plugins.errors import PluginError, foreign_code, place_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType

Loaded = TypeVar("Loaded")

PLUGINS = "STREAMT1_PLUGINS"
"""The environment variable with the named plugins; processes that this one starts inherit it."""


def named() -> list[str]:
    """The plugins that the environment variable names, each once."""
    parts = re.split(f"[,{os.pathsep}]", os.environ.get(PLUGINS, ""))
    return list(dict.fromkeys(part.strip() for part in parts if part.strip()))


def add_names(sources: Iterable[str]) -> None:
    """Add plugins to the environment variable, files by their absolute path."""
    found = [*named(), *(str(Path(each).absolute()) if is_file(each) else each for each in sources)]
    os.environ[PLUGINS] = os.pathsep.join(dict.fromkeys(found))


def is_file(source: str) -> bool:
    """Whether a named plugin is a file; otherwise it is a module."""
    return source.endswith(".py") or Path(source).name != source


def load_plugin(source: str) -> ModuleType:
    """The module of a named plugin, imported under its own name. Raises `PluginError` naming the file or module."""
    if is_file(source):
        return _load_file(Path(source).absolute())
    try:
        return _called(f"Loading the plugin {source!r}", lambda: import_module(source))
    except PluginError as error:
        if isinstance(error.__cause__, ModuleNotFoundError) and error.__cause__.name == source.partition(".")[0]:
            raise PluginError(
                f"The plugin {source!r} is no module that can be imported. Give a file as FILE.py."
            ) from error
        raise


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise PluginError(f"The plugin file {path} does not exist.")
    name = path.stem
    if not name.isidentifier():
        raise PluginError(f"{path}: {name!r} cannot be the name of a module. Use letters, digits and underscores.")
    loaded = sys.modules.get(name)
    if loaded is not None and _is_from(getattr(loaded, "__file__", None), path):
        return loaded
    _refuse_taken_name(name, path)
    return _executed(name, path)


def _refuse_taken_name(name: str, path: Path) -> None:
    """A file named json.py would be imported in place of the library by whatever needs that later."""
    found = find_spec(name) if name not in sys.modules else None
    if name in sys.modules or (found is not None and not _is_from(found.origin, path)):
        other = getattr(sys.modules.get(name), "__file__", None) or (found and found.origin) or "built in"
        raise PluginError(f"{path}: there is a module {name!r} already ({other}). Rename the file.")


def _is_from(origin: str | None, path: Path) -> bool:
    return origin is not None and Path(origin).exists() and Path(origin).samefile(path)


def _executed(name: str, path: Path) -> ModuleType:
    spec = spec_from_file_location(name, path)
    if spec is None or (loader := spec.loader) is None:
        raise PluginError(f"{path} is no Python file.")
    module = sys.modules[name] = module_from_spec(spec)
    try:
        _called(f"Loading the plugin file {path}", lambda: loader.exec_module(module))
    except BaseException:  # an interruption too: half a module must not be found later
        sys.modules.pop(name, None)
        raise
    return module


def _called(what: str, load: Callable[[], Loaded]) -> Loaded:
    """What `load` returns. Raises `PluginError` with `what` and the line that failed."""
    try:
        with foreign_code(what, passes=()):
            return load()
    except PluginError as error:
        place = place_of(error.__cause__)
        raise PluginError(f"{error} ({place})" if place else str(error)) from error.__cause__
