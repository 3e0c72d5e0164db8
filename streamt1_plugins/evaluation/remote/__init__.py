"""Rewards in an environment of their own: an HTTP protocol, its server, and a reward that calls the server."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from streamt1_plugins.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def serve_extra() -> Iterator[None]:
    """Import libraries of the extra `serve`: where one is missing, `PluginError` has the command that installs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        library = str(error.name).partition(".")[0]
        raise PluginError(
            f"A reward in another process needs {library}: pip install 'streamt1-plugins[serve]'."
        ) from error
