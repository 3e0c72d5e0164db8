"""The `early` section of a recipe: whether candidates are looked at before they are finished."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from streamt1_plugins.errors import RecipeError
from streamt1_plugins.reward_settings import Section


class EarlySettings(Section):
    """Early pruning: the first stage of rewards judges a preview of every candidate, and only the best are finished.

    steps: denoising steps done before the look, 0 for no look; chunks of no more steps than that are made whole.
    keep: the share of a chunk's candidates that is finished, never fewer than `search.top_k`.
    """

    steps: Annotated[int, Field(ge=0)] = 0
    keep: Annotated[float, Field(gt=0, le=1)] = 0.5


def cannot_draft(adapter: str | None) -> RecipeError:
    """The error for a recipe that wants an early look from an adapter that only makes whole candidates."""
    return RecipeError(
        f"early.steps: the adapter {adapter!r} cannot stop between two denoising steps, so there is nothing to look "
        "at early. Switch it off with early.steps=0."
    )
