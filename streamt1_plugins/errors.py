"""The errors a user can meet. Each message says what was wrong, what was expected and how to put it right."""

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
    """A recipe names an adapter, reward, policy or key that nobody registered."""


class PluginError(StreamT1Error, RuntimeError):
    """A plugin did not load, collides with another one, or answered a hook wrongly."""


class ContractError(PluginError, RuntimeError):
    """A plugin broke a promise of its contract in a way that would spoil results; no policy forgives it."""


class UnreachableError(PluginError, ConnectionError):
    """A reward in another process does not answer, for whichever candidate it is asked."""


class UnsupportedPipelineError(StreamT1Error, TypeError):
    """No adapter drives this pipeline, or the pipeline is in a state the adapter cannot honour."""


class InputError(StreamT1Error, ValueError):
    """An argument of the wrapped pipeline's call is not usable."""


class OutputError(StreamT1Error, OSError):
    """A result could not be written; the message says what was kept."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """The error for a name nobody registered: guesses the nearest one and lists what exists."""
    names = sorted(known)
    listed = ", ".join(names) if names else "none"
    return UnknownNameError(f"Unknown {kind} {name!r}.{guess(name, names)} Known: {listed}.")


def guess(name: str, known: Iterable[str]) -> str:
    """`" Did you mean 'x'?"` for a name close to a known one, else an empty string."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


@contextmanager
def foreign_code(who: str) -> Iterator[None]:
    """Run a plugin's code: whatever it raises becomes a `PluginError` that names it.

    The one broad `except` of the package: a plugin may fail in any way, and the user must learn which one did.
    """
    try:
        yield
    except StreamT1Error:
        raise
    except Exception as error:
        raise PluginError(f"{who} failed: {type(error).__name__}: {error}") from error


@contextmanager
def needs_extra(extra: str, use: str) -> Iterator[None]:
    """Import libraries of an extra: where one is missing, `PluginError` has the command that installs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        library = str(error.name).partition(".")[0]
        raise PluginError(f"{use} needs {library}: pip install 'streamt1-plugins[{extra}]'.") from error
