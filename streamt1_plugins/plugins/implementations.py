"""The hook implementations of one object, for pluggy: checked, and each named where it fails."""

from __future__ import annotations

import functools
import inspect
import logging
import os
from typing import TYPE_CHECKING, Any

import pluggy

from streamt1_plugins.api import hookspecs
from streamt1_plugins.errors import PluginError, StreamT1Error, foreign_code, guess, message_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

log = logging.getLogger("streamt1")

TRACE = "STREAMT1_TRACE_HOOKS"
MARK = f"{hookspecs.PROJECT}_impl"
ENDS = (StreamT1Error, KeyboardInterrupt)
"""What a part may raise to end the run: an error with a message for the user, or as Ctrl-C does."""

WHEN = {"streamt1_run_finished": "at the end of the run"}
CANDIDATES = {"candidate", "candidates", "pruned"}
"""Arguments of hooks that hold candidates before they survive, or that do not."""
HOOKS = tuple(name for name in dir(hookspecs) if name.startswith(f"{hookspecs.PROJECT}_"))


def new_manager() -> pluggy.PluginManager:
    """A pluggy manager with the hooks' specifications; with STREAMT1_TRACE_HOOKS set it logs every call."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    if os.environ.get(TRACE):
        manager.add_hookcall_monitoring(_trace_call, _trace_result)
    return manager


def _trace_call(hook: str, implementations: Sequence[pluggy.HookImpl], arguments: Any) -> None:
    names = ", ".join(i.plugin_name for i in implementations) or "no part"
    log.warning("%s calls %s", hook, names)


def _trace_result(outcome: Any, hook: str, implementations: Any, arguments: Any) -> None:
    log.warning("%s -> %s", hook, "error" if outcome.exception else type(outcome.get_result()).__name__)


def register(manager: pluggy.PluginManager, plugin: object, name: str, *, guarded: bool = False) -> list[str]:
    """Register what `plugin` implements; returns the names of its hooks.

    Raises `PluginError`, to be put after the plugin's name, for a hook that does not exist or has unknown arguments.
    `guarded`: whatever an implementation raises is a `PluginError` too, which has `name` and the hook.
    """
    try:
        with foreign_code("Reading the hooks", passes=()):
            found = _implementations(plugin)
    except PluginError as error:
        raise PluginError(f"cannot be read: {error}") from error.__cause__
    for attribute, function in found.items():
        options = getattr(function, MARK)
        hook = options.get("specname") or attribute
        if hook not in HOOKS and not options.get("optionalhook"):
            raise PluginError(f"implements a hook that does not exist: {hook!r}.{guess(hook, HOOKS)}")
    if guarded:
        found = {
            each: _guarded(function, f"{name!r} {WHEN.get(each, f'in {each}')}") for each, function in found.items()
        }
    try:
        manager.register(_Implementations(found), name=name)
        manager.check_pending()
    except (pluggy.PluginValidationError, ValueError, TypeError) as error:
        raise PluginError(f"implements a hook wrongly: {message_of(error)}") from error
    return list(found)


def implements(plugin: object, hook: str) -> bool:
    """Whether an object has an implementation of the hook."""
    return _is_marked(plugin, hook)


def reads_frames(plugin: object) -> bool:
    """Whether an object may read the frames of candidates before they survive.

    It takes such candidates, and does not declare ``needs_frames = False``.
    """
    if inspect.getattr_static(plugin, "needs_frames", True) is False:
        return False
    return any(CANDIDATES & inspect.signature(each).parameters.keys() for each in _implementations(plugin).values())


def has_hooks(plugin: object) -> bool:
    """Whether an object implements any hook."""
    return any(_is_marked(plugin, name) for name in dir(plugin))


def _implementations(plugin: object) -> dict[str, Any]:
    """The marked functions of an object by name, read without calling its properties."""
    return {name: getattr(plugin, name) for name in dir(plugin) if _is_marked(plugin, name)}


def _is_marked(plugin: object, name: str) -> bool:
    function = inspect.getattr_static(plugin, name, None)
    return isinstance(getattr(getattr(function, "__func__", function), MARK, None), dict)


def _guarded(function: Callable[..., Any], what: str) -> Callable[..., Any]:
    """The function, whose failures are named. A wrapper of a hook is a generator, and has to stay one for pluggy."""
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def wrapper(*arguments: Any) -> Generator[Any, Any, Any]:
            with foreign_code(what, passes=(*ENDS, GeneratorExit)):
                return (yield from function(*arguments))

        return wrapper

    @functools.wraps(function)
    def implementation(*arguments: Any) -> Any:
        with foreign_code(what, passes=ENDS):
            return function(*arguments)

    return implementation


class _Implementations:
    """Holds the functions as attributes: what pluggy compares and hashes is this object, never a plugin's."""

    def __init__(self, functions: dict[str, Any]) -> None:
        vars(self).update(functions)
