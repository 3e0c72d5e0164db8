"""Toy models built to have each property that a probe measures, or to lack it; microseconds per chunk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar

import torch

from streamt1_plugins import (
    Capabilities,
    Decoded,
    History,
    MemoryPlan,
    Reward,
    RewardOutput,
    StreamPipeline,
    hookimpl,
    wrap,
)
from streamt1_plugins.api.noise import draws_of
from streamt1_plugins.config import load as recipes
from streamt1_plugins.probe.measure import Measurement, ProbeOptions
from streamt1_plugins.probe.run import Probe, searching

SHAPE = (1, 2, 3, 2, 2)
NUMBERS = 24
SCALE = 20.0


class ModelPipeline:
    """Stands in for a diffusers pipeline."""

    config: ClassVar[dict[str, Any]] = {}


@dataclass
class Model:
    """An adapter whose chunks are normal numbers with a quality that a reward can read: their mean, of spread 1.

    shares: of a chunk's variance by draw. turning: what is good noise in one chunk is neither good nor bad in the next.
    carry: the share of a chunk's quality that the next one keeps. anchor: what every appended chunk that left the
    window adds to the quality; averaging adds ``1 - ema_decay`` of it. further: routes beyond the paper, with what
    they add of it. drift: lost quality per chunk.
    """

    shares: tuple[float, ...] = (1.0,)
    turning: bool = False
    carry: float = 0.0
    anchor: float = 0.0
    further: Mapping[str, float] = field(default_factory=dict)
    drift: float = 0.0
    routed: bool = True
    hidden: float = 0.0
    chunks: int = 6
    max_batch: int | None = None

    def open(self, pipe: Any, call: dict[str, Any], memory: MemoryPlan) -> Any:
        kind = ModelSession if len(self.shares) == 1 else DrawnSession
        return kind(self, call, memory)

    def load(self, model: str) -> ModelPipeline:
        return ModelPipeline()


@dataclass
class ModelSession:
    model: Model
    call: dict[str, Any]
    plan: MemoryPlan
    fps: float = 8.0
    forwards: int = 0
    closed: bool = False

    def __post_init__(self) -> None:
        routes = frozenset({"discard", "ema", "append", *self.model.further} if self.model.routed else ())
        hidden = bool(self.model.hidden)
        self.capabilities = Capabilities(self.model.max_batch, routes, "carried", "per_chunk", stochastic_steps=hidden)
        self.prompt, self.generator, self.num_chunks = self.call["prompt"], self.call["generator"], self.model.chunks

    def root(self) -> History:
        return History(memory=())

    def draw(self, history: History, generator: torch.Generator) -> torch.Tensor:
        return torch.randn(SHAPE, generator=generator)

    def generate(self, history: History, noise: torch.Tensor, generators: Any) -> torch.Tensor:
        self.forwards += len(noise)
        own = sum(draw * share**0.5 for draw, share in zip(draws_of(noise).unbind(1), self.model.shares, strict=True))
        if self.model.hidden:
            steps = torch.cat([torch.randn(SHAPE, generator=each) for each in generators])
            own = own * (1 - self.model.hidden) ** 0.5 + steps * self.model.hidden**0.5
        return own * pattern(self.model, history.index) + (self._kept(history) - self.model.drift * history.index)

    def _kept(self, history: History) -> float:
        """What is added to every number of the next chunk."""
        if not history.latents:
            return 0.0
        before = float(history.latents[-1].mean()) - (self._anchored(history.memory[:-1]))
        return self.model.carry * before + self._anchored(history.memory)

    def _anchored(self, routes: tuple[str, ...]) -> float:
        left = routes[self.plan.sink_chunks : len(routes) - self.plan.window_chunks + 1]
        parts = {"append": 1.0, "ema": 1 - self.plan.ema_decay, "discard": 0.0, **self.model.further}
        return self.model.anchor * sum(parts[route] for route in left) / NUMBERS**0.5

    def decode(self, history: History, latents: torch.Tensor) -> list[Decoded]:
        frames = (latents.mean(1, keepdim=True).expand(-1, 3, -1, -1, -1).transpose(1, 2) / SCALE) + 0.5
        return [Decoded(each) for each in frames]

    def commit(self, history: History, latents: torch.Tensor, decoded: Decoded, route: Any) -> History:
        return replace(
            history,
            index=history.index + 1,
            latents=(*history.latents, latents),
            frames=(*history.frames, decoded.frames),
            memory=(*history.memory, route),
        )

    def finish(self, history: History) -> torch.Tensor:
        return torch.cat(history.frames)

    def close(self) -> None:
        self.closed = True


class DrawnSession(ModelSession):
    """Hands out every draw of its sampler."""

    def draws(self, history: History) -> int:
        return len(self.model.shares)

    def redraw(self, history: History, generator: torch.Generator) -> torch.Tensor:
        return torch.randn(SHAPE, generator=generator)


def pattern(model: Model, chunk: int) -> torch.Tensor:
    """Signs of a chunk's numbers: those of successive chunks of a turning model are orthogonal."""
    signs = torch.ones(SHAPE)
    if model.turning and chunk % 2:
        signs.view(-1)[::2] = -1
    return signs


@dataclass
class Quality(Reward):
    """The quality of the new frames, with an error of its own in every reading; weight 0 leaves the error alone."""

    horizons: ClassVar[tuple[str, ...]] = ("short",)
    batch_exact: ClassVar[bool] = True

    weight: float = 1.0
    error: float = 0.0
    levels: int = 0

    def __post_init__(self) -> None:
        self._stream = torch.Generator().manual_seed(5)

    def score(self, inp: Any) -> RewardOutput:
        found = (inp.video[:, inp.new_frames].mean((1, 2, 3, 4)) - 0.5) * SCALE * NUMBERS**0.5 * self.weight
        if self.levels:
            found = (found > 0).float()
        return RewardOutput(found + torch.randn(found.shape, generator=self._stream) * self.error)


@hookimpl
def streamt1_register_adapters(register: Any) -> None:
    suggested = {"short": {"quality": {"calibration": "running"}}}
    register("probed", pipelines=("ModelPipeline",), target="tests.probe.models:Model", rewards=suggested)


@hookimpl
def streamt1_register_rewards(register: Any) -> None:
    register("quality", target="tests.probe.models:Quality")


def wrapped(model: Model, recipe: Any = "stream-t1", overrides: Any = (), **rewards: Reward) -> StreamPipeline:
    """A toy model under a recipe; rewards are objects of the short horizon, by default the quality itself."""
    data = recipes.load(recipe, overrides).to_data()
    data["adapter"] = {"name": "probed", **json.loads(json.dumps(asdict(model)))}
    data["rewards"]["replace"] = True  # else the adapter's own would count beside them
    return wrap(ModelPipeline(), data, rewards=rewards)


def measurement(
    model: Model, prompt: str = "a", *, options: ProbeOptions | None = None, **rewards: Reward
) -> Measurement:
    return Probe(searching(wrapped(model, **rewards)), [prompt], {}, options or ProbeOptions()).measurement(prompt)
