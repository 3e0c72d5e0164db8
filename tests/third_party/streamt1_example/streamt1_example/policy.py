from dataclasses import dataclass

from streamt1_plugins import hookimpl


@dataclass(frozen=True)
class Family:
    """The best candidate of every parent survives, so that branches stay different."""

    @hookimpl
    def streamt1_select(self, run, candidates):
        best = {}
        for candidate in sorted(candidates, key=lambda candidate: -candidate.score):
            best.setdefault(candidate.parent or candidate.id, candidate)
        return list(best.values())[: run.recipe.search.top_k]
