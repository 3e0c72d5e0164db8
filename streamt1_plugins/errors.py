"""The errors raised on purpose. Each message states what was wrong, what was expected and how to fix it."""

from __future__ import annotations

from contextlib import contextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


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


class TrustError(InputError):
    """A recipe file or a run folder names programs, addresses or paths that the user has not agreed to."""


class OutputError(StreamT1Error, OSError):
    """A result could not be written; the message lists what was kept."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """The error for a name that is not registered, with the nearest one and a list of all that are."""
    names = sorted(known)
    listed = ", ".join(names) if names else "none"
    return UnknownNameError(f"Unknown {kind} {name!r}.{guess(name, names)} Known: {listed}.")


def guess(name: str, known: Iterable[str]) -> str:
    """`" Did you mean 'x'?"` for a name close to a known one, else an empty string."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


@contextmanager
def foreign_code(what: str) -> Iterator[None]:
    """A context for a plugin's code: whatever it raises becomes a `PluginError` with `what` failed in the message.

    The one broad `except` of the package: a plugin may fail in any way, and the message has to name the plugin.
    """
    try:
        yield
    except StreamT1Error:
        raise
    except Exception as error:
        raise PluginError(f"{what} failed: {type(error).__name__}: {error}") from error


@contextmanager
def needs_extra(extra: str, use: str) -> Iterator[None]:
    """Import libraries of an extra: where one is missing, `PluginError` has the command that installs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        library = str(error.name).partition(".")[0]
        raise PluginError(f"{use} needs {library}: pip install 'streamt1-plugins[{extra}]'.") from error
