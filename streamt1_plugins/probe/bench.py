"""A bench: an open run whose candidates are made and judged one beam at a time, outside of any search."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

import torch

from streamt1_plugins.api.candidate import Beam
from streamt1_plugins.api.noise import chunk_noise
from streamt1_plugins.api.types import Proposal
from streamt1_plugins.search.expand import Branch
from streamt1_plugins.search.out_of_memory import explained
from streamt1_plugins.search.previews import settled

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from torch import Generator, Tensor

    from streamt1_plugins.api.adapter import Session
    from streamt1_plugins.api.candidate import Candidate
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.types import Chunk
    from streamt1_plugins.pipeline import StreamPipeline
    from streamt1_plugins.search.loop import Search

SCORE = "score"
"""The name of the search's own score, beside the raw readings of rewards (``short.basic``)."""

Values = dict[str, list[float]]
"""Raw readings and scores of candidates, in their order, by name; NaN for a candidate that could not be judged."""


class Noise(NamedTuple):
    """The noise of one candidate, and the generator that made it, from which a session may draw more."""

    value: Tensor
    generator: Generator


@dataclass
class Bench:
    """An open run, its search, and candidates that no policy proposed."""

    run: Run
    search: Search
    _ordinals: Iterator[int] = field(default_factory=count)

    @property
    def session(self) -> Session:
        return self.run.session

    def root(self) -> Beam:
        """The beam before the first chunk."""
        return Beam(self.session.root())

    def noise(self, beam: Beam, seed: int) -> Noise:
        """Fresh noise of the next chunk from a seed."""
        generator = torch.Generator().manual_seed(seed)
        return Noise(chunk_noise(self.session, beam.history, generator), generator)

    def made(self, chunk: Chunk, beam: Beam, noises: Sequence[Noise]) -> list[Candidate]:
        """The candidates of these noises, denoised and decoded."""
        self.run.beams, self.run.chunk = (beam,), chunk
        # Every candidate of the run has a number of its own: rewards keep what they computed of a frame by it.
        branches = [Branch(next(self._ordinals), beam, Proposal(self.run.seed, *noise)) for noise in noises]
        found = self.search.expander.expand(chunk, branches)
        return [self.search.offload.onload(each) for each in found]

    def judged(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The candidates of one chunk with readings and scores; the score is NaN for those that cannot be judged."""
        chunk = self.run.chunk
        assert chunk is not None
        hooks, evaluator = self.search.hooks, self.search.evaluator
        found = evaluator.evaluate(list(candidates), lambda each: hooks.score(chunk, each))
        return [replace(each, score=hooks.score(chunk, each) if each.is_eligible else math.nan) for each in found]

    def read_again(self, candidates: Sequence[Candidate]) -> Values:
        """Second readings of candidates: rewards keep nothing that they remember of the first ones."""
        for bound in self.search.evaluator.pool.bound:
            bound.reward.reset()
        return values(self.judged(candidates))


def values(judged: Sequence[Candidate]) -> Values:
    """The raw readings and the scores of judged candidates; nothing where no reward judges."""
    names = {(horizon, name): None for each in judged for horizon, named in each.readings.items() for name in named}
    found = {
        f"{horizon}.{name}": [
            each.readings[horizon][name].raw if name in each.readings.get(horizon, {}) else math.nan for each in judged
        ]
        for horizon, name in names
    }
    return {**found, SCORE: [each.score for each in judged]} if found else {}


@contextmanager
def opened(pipe: StreamPipeline, prompt: str, seed: int, call: Mapping[str, Any]) -> Iterator[Bench]:
    """A bench for one prompt, with its rewards loaded; closed at the end."""
    run = pipe.begin(prompt=prompt, generator=torch.Generator().manual_seed(seed), **call)
    run.recipe = settled(run.recipe, False)  # the frames of the video are what rewards are probed on
    try:
        search = pipe.search(run)
        with explained(run):
            search.evaluator.pool.start(run)
            try:
                yield Bench(run, search)
            finally:
                search.evaluator.pool.finish()
    finally:
        run.close()
