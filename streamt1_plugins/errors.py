"""The errors raised on purpose. Each message states what was wrong, what was expected and how to fix it."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from streamt1_plugins.text.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager
    from types import FrameType

MESSAGE, VALUE = 2000, 200
"""The most characters of a plugin's message, and of a plugin's value, that stand in an error."""


class StreamT1Error(Exception):
    """Base of every error this package raises on purpose."""


class RecipeError(StreamT1Error, ValueError):
    """A recipe (or one of its overrides) is not valid."""


class UnknownNameError(StreamT1Error, LookupError):
    """A recipe names an adapter, reward, policy or key that is not registered."""


class PluginError(StreamT1Error, RuntimeError):
    """A plugin did not load, collides with another one, or returned a wrong value from a hook."""


class ContractError(PluginError, RuntimeError):
    """A plugin broke its contract in a way that would falsify results: the run ends, whatever `on_error` is set to."""


class UnreachableError(PluginError, ConnectionError):
    """The process of a reward cannot be reached, so it can score no candidate at all."""


class UnsupportedPipelineError(StreamT1Error, TypeError):
    """No adapter drives this pipeline, or the pipeline is in a state the adapter cannot honour."""


class InputError(StreamT1Error, ValueError):
    """An argument of the wrapped pipeline's call is not usable."""


class ReadOnlyError(StreamT1Error, AttributeError):
    """An attribute of a wrapped pipeline was set that is the wrapper's, and fixed; the message has what to do."""


class TrustError(InputError, ValueError):
    """A recipe file or a run folder names programs, addresses or paths that the user has not agreed to."""


class OutputError(StreamT1Error, OSError):
    """A result could not be written; the message lists what was kept."""


class FolderInUseError(OutputError, BlockingIOError):
    """Another run or command is writing to the folder; the message names its process."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """The error for a name that is not registered, with the nearest one and a list of all that are."""
    names = sorted(known)
    listed = ", ".join(names) if names else "none"
    return UnknownNameError(f"Unknown {kind} {name!r}.{guess(name, names)} Known: {listed}.")


def guess(name: str, known: Iterable[str]) -> str:
    """`" Did you mean 'x'?"` for a name close to a known one, else an empty string."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def brief(text: str, most: int = MESSAGE) -> str:
    """The text, printable, the middle of a long one left out."""
    text = str.__str__(text)
    if len(text) > 2 * most:  # not at once above it: a text that was shortened stays as it is in a message around it
        text = f"{text[: most // 2]} [{len(text) - most} characters left out] {text[-(most // 2) :]}"
    return printable(text)


def message_of(error: BaseException) -> str:
    """The message of any exception, also of one whose message cannot be made, or cannot be printed."""
    return _text(str, error, MESSAGE)


def described(error: BaseException) -> str:
    """`Type: message` of any exception."""
    return f"{_type_name(error)}: {message_of(error)}".removesuffix(": ")


def shown(value: object) -> str:
    """The `repr` of any value, printable and not too long; its type where it has none."""
    return _text(repr, value, VALUE)


def _text(make: Callable[[Any], str], value: object, most: int) -> str:
    try:
        return brief(make(value), most)
    except BaseException as error:  # noqa: BLE001  (a plugin's method may raise anything)
        return f"<{_type_name(value)} without text: {_type_name(error)}>"


def _type_name(value: object) -> str:
    """The name of the value's class, past whatever its metaclass defines."""
    return brief(type.__dict__["__name__"].__get__(type(value)), VALUE)


def place_of(error: BaseException | None) -> str:
    """File and line where a plugin's code failed, empty where none of it was reached."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{printable(error.filename)}, line {error.lineno}"
    trace = BaseException.__dict__["__traceback__"].__get__(error) if error is not None else None
    found = ""
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__"))
        if module.partition(".")[0] not in _CALLERS:
            found = f"{printable(trace.tb_frame.f_code.co_filename)}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return found


_CALLERS = ("importlib", "pluggy", __name__.partition(".")[0])
"""The packages through which a plugin's code is called."""


def foreign_code(
    what: str, passes: type[BaseException] | tuple[type[BaseException], ...] = StreamT1Error
) -> AbstractContextManager[None]:
    """A context for a plugin's code: whatever it raises becomes a `PluginError` with `what` failed in the message.

    What passes unchanged: errors of the classes `passes`, and what the handler of a signal raises, as for Ctrl-C. Three
    never pass: `StopIteration` and `StopAsyncIteration`, which would silently end a generator of the caller, and
    `ContractError`, which is this package's to raise.

    The one broad `except` of the package: a plugin may fail in any way, and the message has to name the plugin.
    """
    return _ForeignCode(what, passes)


class _ForeignCode:
    """See `foreign_code`. A class: a generator would have `StopIteration` handed back to it by `contextlib`."""

    def __init__(self, what: str, passes: type[BaseException] | tuple[type[BaseException], ...]) -> None:
        self._what, self._passes = what, passes

    def __enter__(self) -> None:
        self._process = os.getpid()
        self._signals = _SignalWatch()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._signals.end()
        if os.getpid() != self._process:
            os._exit(error is not None)  # a copy that the plugin forked: the caller's work is not its to continue
        if error is None or error is self._signals.raised or (self._signals.seen and not isinstance(error, Exception)):
            return
        if isinstance(error, self._passes) and not isinstance(error, _NEVER_PASS) and not _is_imitation(error):
            return
        raise PluginError(f"{self._what} failed: {described(error)}") from error


def _is_imitation(error: BaseException) -> bool:
    """Whether the class is a plugin's, derived from one of this package: it may not even have a message."""
    return isinstance(error, StreamT1Error) and not type(error).__module__.startswith(__name__.partition(".")[0])


_NEVER_PASS = (StopIteration, StopAsyncIteration, ContractError)
_WATCHED = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM") if hasattr(signal, name)]


class _SignalWatch:
    """Notes whether a signal is handled from now until `end`, and what its handler `raised`: it is nobody's failure."""

    def __init__(self) -> None:
        self.seen = False
        self.raised: BaseException | None = None
        self._handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
        with suppress(ValueError):  # another thread than the main one: no handler runs there
            for number in _WATCHED:
                handler = signal.getsignal(number)
                if callable(handler):
                    self._handlers[number] = handler
                    signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.seen = True
        try:
            self._handlers[number](number, frame)
        finally:
            self.raised = sys.exc_info()[1]

    def end(self) -> None:
        for number, handler in self._handlers.items():
            if signal.getsignal(number) == self._note:  # else the code inside has set its own
                signal.signal(number, handler)


def is_installed(module: str) -> bool:
    """Whether a module can be found; it is not imported."""
    if module in sys.modules:
        return sys.modules[module] is not None  # None: switched off in this process
    return find_spec(module) is not None


def require(module: str, use: str, install: str) -> None:
    """Raise `PluginError`, with the command that installs it, where `use` needs a module that is not there."""
    if not is_installed(module):
        raise PluginError(f"{use} needs {module}: pip install {install}.")


@contextmanager
def needs_extra(extra: str, use: str) -> Iterator[None]:
    """Import libraries of an extra: where one is missing, `PluginError` has the command that installs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        library = str(error.name).partition(".")[0]
        raise PluginError(f"{use} needs {library}: pip install 'streamt1-plugins[{extra}]'.") from error
