"""The policy contract on sound policies, and on policies with one fault each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from streamt1_plugins import Proposal, chunk_noise, fresh_seed, hookimpl
from streamt1_plugins.testing import PolicyContract


@dataclass
class Mirrored:
    """Fresh noise and its mirror image: two proposals with one seed."""

    @hookimpl
    def streamt1_propose_noise(self, run: Any, chunk: Any, beam: Any, count: int) -> list[Proposal]:
        made = []
        for index in range(count):
            seed = fresh_seed(run.seed, chunk.index, beam.rank, index // 2)
            generator = torch.Generator().manual_seed(seed)
            noise = chunk_noise(run.session, beam.history, generator)
            made.append(Proposal(seed, noise if index % 2 else -noise, generator))
        return made


@dataclass
class DrawsGlobally(Mirrored):
    @hookimpl
    def streamt1_propose_noise(self, run: Any, chunk: Any, beam: Any, count: int) -> list[Proposal]:
        made = super().streamt1_propose_noise(run, chunk, beam, count)
        return [Proposal(each.seed, torch.randn(each.noise.shape), each.generator) for each in made]


@dataclass
class Remembers(Mirrored):
    """Noise that depends on what was proposed before."""

    def __post_init__(self) -> None:
        self.calls = 0

    @hookimpl
    def streamt1_propose_noise(self, run: Any, chunk: Any, beam: Any, count: int) -> list[Proposal]:
        self.calls += 1
        made = super().streamt1_propose_noise(run, chunk, beam, count)
        return [Proposal(each.seed, each.noise * (1 + 0.1 * self.calls), each.generator) for each in made]


@dataclass
class HasAnObject:
    what: Any = object

    @hookimpl
    def streamt1_propose_noise(self) -> list[Proposal]:
        return []


def contract(policy: type[Any]) -> PolicyContract:
    class Case(PolicyContract):
        kind = "noise"
        call = {"prompt": "a red circle", "num_frames": 33}  # noqa: RUF012

        def make_policy(self) -> Any:
            return policy()

    Case.setup_class()
    return Case()


@pytest.mark.slow
class TestMirrored(PolicyContract):
    kind = "noise"

    def make_policy(self) -> Mirrored:
        return Mirrored()


@pytest.mark.slow
def test_faults_are_found() -> None:
    case = contract(Remembers)
    with pytest.raises(AssertionError, match="made again from its seed"):
        case.test_every_candidate_can_be_made_again()
    case.make_policy = DrawsGlobally  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match="torch's global generator"):
        case.test_a_seed_gives_the_same_search()
    case.make_policy = HasAnObject  # type: ignore[method-assign]
    with pytest.raises(Exception, match="cannot be written to a recipe"):
        case.test_its_options_can_be_recorded()
    case.teardown_class()
