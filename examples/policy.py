"""A selection policy in one file. It keeps branches different: the survivors of a chunk have different parents.

    streamt1 --plugin examples/policy.py generate "a red circle" -o selection=family

In Python, pass an object: streamt1_plugins.load("tinyworld", policies={"selection": Family()}).

Width, noise, scoring and memory policies have one hook each too (docs/hooks.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamt1_plugins import Candidate, RegisterPolicy, Run, hookimpl


@dataclass(frozen=True)
class Family:
    """At most `each` survivors per parent, if others can take their places. The fields are options of a recipe."""

    each: int = 1

    @hookimpl
    def streamt1_select(self, run: Run, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The candidates that survive, best first. A hook takes any subset of its arguments, by name."""
        best = sorted(candidates, key=lambda candidate: -candidate.score)
        families: dict[str, list[Candidate]] = {}
        for candidate in best:
            families.setdefault(candidate.parent or candidate.id, []).append(candidate)
        chosen = [candidate for family in families.values() for candidate in family[: self.each]]
        rest = [candidate for candidate in best if candidate not in chosen]
        return [*chosen, *rest][: run.recipe.search.top_k]


@hookimpl
def streamt1_register_policies(register: RegisterPolicy) -> None:
    register("family", kind="selection", target=Family)
