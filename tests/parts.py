"""Parts of a run that answer hooks, for tests of hooks and plugins."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.api.types import Proposal
from streamt1_plugins.plugins.discovery import Discovery
from tests.third_party.fresh import fresh_discovery, plugin
from tests.toy import ToyPipeline

hookimpl = streamt1.hookimpl


def run(*overrides: str, observers: dict[str, object] | None = None, **call: Any) -> streamt1.StreamPipeline:
    pipe = streamt1.wrap(ToyPipeline(), "stream-t1", overrides=overrides, observers=observers)
    pipe.video = pipe("a prompt", **call)
    return pipe


@dataclass
class Five:
    """Five proposals per beam, seeds counted down from `start`."""

    start: int = 900

    @hookimpl
    def streamt1_propose_noise(self, run: Any, chunk: Any, beam: Any) -> list[Proposal]:
        seeds = [self.start - 100 * chunk.index - 10 * beam.rank - i for i in range(5)]
        draws = [torch.Generator().manual_seed(seed) for seed in seeds]
        return [Proposal(s, run.session.draw(beam.history, g), g) for s, g in zip(seeds, draws, strict=True)]


@dataclass
class Growing:
    """One candidate more per beam with every chunk; `start` of them at first."""

    start: Any = 1

    @hookimpl
    def streamt1_width(self, chunk: Any) -> Any:
        return self.start + chunk.index if chunk.index else self.start


@dataclass
class Darkest:
    @hookimpl
    def streamt1_score(self, candidate: Any) -> float:
        return -float(candidate.decoded.frames.mean())


@dataclass
class Last:
    @hookimpl
    def streamt1_select(self, candidates: list[Any]) -> list[Any]:
        return candidates[-1:]


@dataclass
class Alternate:
    @hookimpl
    def streamt1_route_memory(self, chunk: Any) -> str:
        return "append" if chunk.index % 2 else "ema"


@hookimpl
def declare_parts(register: Any) -> None:
    register("mine", kind="width", target="tests.parts:Growing")
    for kind, target in {"noise": "Five", "scoring": "Darkest", "selection": "Last", "memory": "Alternate"}.items():
        register("mine", kind=kind, target=f"tests.parts:{target}")


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> Discovery:
    return fresh_discovery(monkeypatch, mine=plugin(streamt1_register_policies=declare_parts))


@dataclass
class Diary:
    """An unhashable part, like any plain dataclass, that writes down the events."""

    lines: list[Any] = field(default_factory=list)

    @hookimpl
    def streamt1_run_started(self, run: Any) -> None:
        self.lines.append(("started", len(run.tree), run.session.forwards))

    @hookimpl
    def streamt1_candidate_scored(self, run: Any, chunk: Any, candidate: Any) -> None:
        self.lines.append(("scored", candidate.id, candidate.score, tuple(candidate.decoded.frames.shape)))

    @hookimpl
    def streamt1_chunk_selected(self, run: Any, chunk: Any, kept: Any, pruned: Any) -> None:
        committed = [beam.path[-1].id for beam in run.beams]
        self.lines.append(("selected", chunk.index, [c.id for c in kept], [c.id for c in pruned], committed))

    @hookimpl
    def streamt1_run_finished(self, run: Any, error: Any) -> None:
        self.lines.append(("finished", run.tree.winner, error))

    def of(self, kind: str) -> list[Any]:
        return [line for line in self.lines if line[0] == kind]


class Misspelt:
    @hookimpl
    def streamt1_selekt(self, candidates: Any) -> Any: ...
