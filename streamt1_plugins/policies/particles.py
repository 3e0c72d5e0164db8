"""Particles: survivors are drawn by weight, and a beam drawn m times branches like m beams (Feynman-Kac steering).

The decisions follow from the recorded tree, the run's seed and the chunk alone, so a resumed run and every process make
the same ones.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from streamt1_plugins.api.hookspecs import hookimpl
from streamt1_plugins.policies.random_pick import uniform
from streamt1_plugins.policies.selection import top_k

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from streamt1_plugins.api.candidate import Beam, Candidate
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.tree import Tree
    from streamt1_plugins.api.types import Chunk, Node

LARGEST = 1e100  # scores beyond it would leave no number to compare


def normalised(logs: Sequence[float]) -> list[float]:
    """Weights that sum to 1 from their logarithms."""
    largest = max(logs)
    weights = [math.exp(each - largest) for each in logs]
    return [each / sum(weights) for each in weights]


def effective_size(weights: Sequence[float]) -> float:
    """``1 / sum(w^2)`` of weights that sum to 1: how many equal ones they are worth, from 1 to all of them."""
    return 1 / sum(weight**2 for weight in weights)


def counted(weights: Sequence[float], points: Sequence[float]) -> list[int]:
    """How many of the points in [0, 1) fall on each weight, the weights laid end to end."""
    ends = list(accumulate(weights))
    places = [bisect_right(ends, point * ends[-1]) for point in points]
    return [places.count(index) for index in range(len(weights))]


def systematic(weights: Sequence[float], draws: int, points: Sequence[float]) -> list[int]:
    """How often each is drawn: a comb of `draws` teeth with one random offset, ``(u + i) / draws``.

    Each is drawn ``draws * w`` times, rounded down or up (Carpenter et al. 1999).
    """
    return counted(weights, [(points[0] + index) / draws for index in range(draws)])


def residual(weights: Sequence[float], draws: int, points: Sequence[float]) -> list[int]:
    """How often each is drawn: ``floor(draws * w)`` times for sure, what is left over independently by the rest.

    (Liu and Chen 1998.)
    """
    sure = [math.floor(draws * weight) for weight in weights]
    left = draws - sum(sure)
    if not left:
        return sure
    rest = [max(0.0, draws * weight - whole) for weight, whole in zip(weights, sure, strict=True)]
    return [whole + more for whole, more in zip(sure, counted(rest, points[:left]), strict=True)]


SCHEMES = {"systematic": systematic, "residual": residual}


@dataclass(frozen=True)
class Drawn:
    """What the draw of a chunk left: how many particles each survivor stands for, and the log weights they carry on."""

    copies: Mapping[str, int] = field(default_factory=dict)
    logs: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Smc:
    """Sequential Monte Carlo: `search.top_k` particles, resampled by how much their score rose.

    A candidate of chunk t with score r_t weighs ``exp(lambda_t r_t - lambda_(t-1) r_(t-1))`` times as much as its
    parent, the difference potential of Feynman-Kac steering (arXiv 2501.06848), ``exp(lambda (r_t - r_(t-1)))`` without
    tempering. Survivors are those that `top_k` draws with replacement hit. One that is hit m times survives once and
    stands for m particles: it branches into m times the candidates that the width policy gives a beam, so every chunk
    is as wide as without this policy, and may have fewer clean passes.

    strength: lambda, in units of the score; 0 draws blindly, large values keep the best alone. temper: `linear` lets
    lambda grow over the video, ``strength (t + 1) / T`` in chunk t of T, so that early chunks, whose scores tell little
    of the whole, prune less; `none` has it constant. resample: where a chunk has as many candidates as particles
    (`search.candidates: 1`), it is resampled once the effective sample size falls below this share of them, and all of
    them survive with their weights until then; wider chunks are always drawn from. scheme: `systematic`, or `residual`,
    which draws what is left over independently. After the last chunk the best scores survive.
    """

    needs_frames: ClassVar[bool] = False
    compares_chunks: ClassVar[bool] = True
    multiplies_width: ClassVar[bool] = True

    strength: Annotated[float, Field(ge=0, le=1e6)] = 4.0
    temper: Literal["linear", "none"] = "linear"
    resample: Annotated[float, Field(ge=0, le=1)] = 0.75
    scheme: Literal["systematic", "residual"] = "systematic"

    @hookimpl
    def streamt1_select(self, run: Run, chunk: Chunk, candidates: Sequence[Candidate]) -> list[Candidate]:
        if chunk.is_last:
            return top_k(candidates, run.recipe.search.top_k)
        copies = self._drawn(run, chunk.index, chunk.count, candidates, self._before(run, chunk)).copies
        survivors = [candidate for candidate in candidates if candidate.id in copies]
        return top_k(survivors, len(survivors))

    @hookimpl(wrapper=True)
    def streamt1_width(self, run: Run, chunk: Chunk, beam: Beam) -> Generator[None, int, int]:
        width = yield
        return width if beam.last is None else width * self._shares(run, chunk)[beam.last.id]

    def _shares(self, run: Run, chunk: Chunk) -> Mapping[str, int]:
        """How many particles every beam stands for, even where the beams are others than those that were drawn.

        They are where a run was branched by hand, and where the chunk before had no valid candidate.
        """
        names, copies = [beam.path[-1].id for beam in run.beams], self._before(run, chunk).copies
        if set(names) == set(copies):
            return copies
        each, more = divmod(run.recipe.search.top_k, len(names))
        return {name: max(1, each + (rank < more)) for rank, name in enumerate(names)}

    def _before(self, run: Run, chunk: Chunk) -> Drawn:
        """What the draws of all chunks before this one left."""
        drawn, levels = Drawn(), _levels(run.tree)
        for index in sorted(index for index in levels if index < chunk.index):
            drawn = self._drawn(run, index, chunk.count, levels[index], drawn)
        return drawn

    def _drawn(self, run: Run, index: int, count: int, nodes: Sequence[Node], before: Drawn) -> Drawn:
        """What a draw from the candidates of chunk `index` leaves."""
        particles = run.recipe.search.top_k
        logs = {node.id: self._log(run.tree, node, index, count, before) for node in nodes}
        weights = normalised(list(logs.values()))
        if len(nodes) == particles and effective_size(weights) >= self.resample * particles:
            return Drawn(dict.fromkeys(logs, 1), logs)
        points = [uniform(run.seed, index, number) for number in range(particles)]
        counts = zip(logs, SCHEMES[self.scheme](weights, particles, points), strict=True)
        return Drawn({name: copies for name, copies in counts if copies})

    def _log(self, tree: Tree, node: Node, index: int, count: int, before: Drawn) -> float:
        """The logarithm of a candidate's weight since the last draw."""
        parent = tree.nodes.get(node.parent or "")
        earlier = 0.0 if parent is None else self._strength(index - 1, count) * _level(parent)
        return before.logs.get(node.parent or "", 0.0) + self._strength(index, count) * _level(node) - earlier

    def _strength(self, index: int, count: int) -> float:
        """Lambda of a chunk."""
        return self.strength * ((index + 1) / count if self.temper == "linear" else 1.0)


def _level(node: Node) -> float:
    """A score to compare with others; 0 for a survivor that has none because every candidate of its chunk failed."""
    return max(-LARGEST, min(LARGEST, node.score)) if math.isfinite(node.score) else 0.0


def _levels(tree: Tree) -> Mapping[int, list[Node]]:
    """The candidates that each chunk's selection was offered, in order; none up to the one that was picked by hand."""
    picked = tree.nodes[tree.picked].chunk if tree.picked in tree.nodes else -1
    levels: defaultdict[int, list[Node]] = defaultdict(list)
    for node in tree:
        if node.chunk > picked and node.is_eligible and node.fate in ("kept", "pruned"):
            levels[node.chunk].append(node)
    return {index: sorted(nodes, key=lambda node: node.ordinal) for index, nodes in levels.items()}
