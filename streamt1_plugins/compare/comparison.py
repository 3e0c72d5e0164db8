"""What is compared: recipes, prompts, seeds and a judge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streamt1_plugins.config.schema import Recipe


@dataclass(frozen=True)
class Comparison:
    """What to compare: recipes by label, prompts, seeds, a judge (a reward by name), arguments of the calls."""

    recipes: Mapping[str, Recipe]
    prompts: Sequence[str]
    seeds: Sequence[int]
    judge: str
    model: str | None = None
    call: Mapping[str, Any] | None = None
    allow_circular: bool = False
