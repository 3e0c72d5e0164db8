"""The pipeline's own progress bars: silent while a search shows one bar for all candidates, and as before after it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG = "_progress_bar_config"
"""Where diffusers keeps what `set_progress_bar_config` was given."""


def is_wanted(pipe: Any) -> bool:
    """Whether the pipeline's user has left its progress bars on."""
    config = getattr(pipe, CONFIG, None)
    return not (isinstance(config, dict) and config.get("disable"))


@contextmanager
def silenced(pipe: Any) -> Iterator[None]:
    """Switch the pipeline's own bars off inside. What is set meanwhile stays."""
    if not hasattr(pipe, "progress_bar"):
        yield
        return
    before = vars(pipe).get(CONFIG)
    quiet = {**before, "disable": True} if isinstance(before, dict) else {"disable": True}
    setattr(pipe, CONFIG, quiet)
    try:
        yield
    finally:
        if vars(pipe).get(CONFIG) is quiet:
            _restore(pipe, before)


def _restore(pipe: Any, before: Any) -> None:
    if before is None:
        delattr(pipe, CONFIG)
    else:
        setattr(pipe, CONFIG, before)
