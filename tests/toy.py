"""A toy autoregressive "pipeline" and its plugin: two latent numbers per frame, no network, microseconds per chunk."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch

from streamt1_plugins import Capabilities, Decoded, Draft, History, Outline, Reward, RewardOutput, hookimpl
from streamt1_plugins.api.routed_memory import FURTHER, PAPER
from streamt1_plugins.api.scenes import scenes_of
from streamt1_plugins.errors import InputError

SHAPE = (1, 2, 3, 2, 2)  # [N, C, F, h, w]


class ToyPipeline:
    """Stands in for a diffusers pipeline."""

    config: ClassVar[dict[str, Any]] = {}
    secret = "reached through the wrapper"


class ToySession:
    """Chunks of 3 latent frames; each latent frame is one picture."""

    def __init__(self, call: dict[str, Any], capabilities: Capabilities) -> None:
        self.capabilities = capabilities
        self.num_chunks = call.get("chunks", 4)
        self.fps = 8.0
        self.prompt = call["prompt"]
        self.scenes = scenes_of(call.get("schedule") or [], self.prompt)
        self.forwards = 0
        self.calls: Counter[str] = Counter()
        self.routes: list[str] = []
        self.closed = False
        self.generator = call["generator"]
        self._fail_at = call.get("fail_at")

    def root(self) -> History:
        return History(memory=(), decoder=0.0)

    def draw(self, history: History, generator: torch.Generator) -> torch.Tensor:
        frames = 2 if history.index == self.num_chunks - 1 and self.num_chunks == 5 else SHAPE[2]
        return torch.randn((1, 2, frames, 2, 2), generator=generator)

    def generate(self, history: History, noise: torch.Tensor, generators: Any) -> torch.Tensor:
        if history.index == self._fail_at:
            raise RuntimeError("the pipeline broke")
        self.calls["generate"] += 1
        self.forwards += len(noise)
        steps = torch.cat([torch.randn((1, 2, 1, 2, 2), generator=g) for g in generators])
        past = history.latents[-1].mean() if history.latents else torch.zeros(())
        return torch.tanh(noise + 0.3 * past + 0.1 * steps)

    def decode(self, history: History, latents: torch.Tensor) -> list[Decoded]:
        self.calls["decode"] += len(latents)
        frames = (
            latents.mean(1, keepdim=True).expand(-1, 3, -1, -1, -1).transpose(1, 2) + history.decoder * 0.1 + 1
        ) / 2
        return [Decoded(f.clamp(0, 1), float(z.mean())) for f, z in zip(frames, latents, strict=True)]

    def commit(self, history: History, latents: torch.Tensor, decoded: Decoded, route: str) -> History:
        self.calls["commit"] += 1
        self.routes.append(route)
        return History(
            history.index + 1,
            (*history.latents, latents),
            (*history.frames, decoded.frames),
            (*history.memory, route),
            decoded.state,
        )

    def finish(self, history: History) -> torch.Tensor:
        return torch.cat(history.frames)

    def close(self) -> None:
        self.closed = True


def overflowing(decode: Any, chunks: tuple[int, ...]) -> Any:
    """A session's `decode` that gives NaN in these chunks."""

    def broken(self: ToySession, history: History, latents: torch.Tensor) -> list[Decoded]:
        factor = float("nan") if history.index in chunks else 1.0
        return [Decoded(each.frames * factor, each.state) for each in decode(self, history, latents)]

    return broken


class PricedSession(ToySession):
    """A toy with an `outline`: `prices` forwards per candidate, chunk by chunk, and one for a clean pass."""

    prices: tuple[int, ...] = (1,)

    def outline(self) -> Outline:
        chunks = range(self.num_chunks)
        prices = tuple(self.prices[min(index, len(self.prices) - 1)] for index in chunks)
        return Outline(prices, (1,) * (self.num_chunks - 1) + (0,), latent_frames=3)

    def generate(self, history: History, noise: torch.Tensor, generators: Any) -> torch.Tensor:
        self.forwards += len(noise) * (self.outline().generate[history.index] - 1)
        return super().generate(history, noise, generators)

    def commit(self, history: History, *rest: Any) -> History:
        self.forwards += self.outline().commit[history.index]
        return super().commit(history, *rest)


class SteppingSession(ToySession):
    """Denoises in several steps, each of which draws, and can stop between two of them."""

    def __init__(self, call: dict[str, Any], capabilities: Capabilities, steps: tuple[int, ...]) -> None:
        super().__init__(call, capabilities)
        self._steps = steps

    def steps(self, history: History) -> int:
        return self._steps[min(history.index, len(self._steps) - 1)]

    def generate(self, history: History, noise: torch.Tensor, generators: Any) -> torch.Tensor:
        self.calls["generate"] += 1
        return self._denoised(history, noise, generators, range(self.steps(history)))

    def draft(self, history: History, noise: torch.Tensor, generators: Any, steps: int) -> list[Draft]:
        if history.index == self._fail_at:
            raise RuntimeError("the pipeline broke")
        self.calls["draft"] += 1
        return [Draft(row, steps) for row in self._denoised(history, noise, generators, range(steps)).split(1)]

    def finish_drafts(self, history: History, drafts: Any, generators: Any) -> torch.Tensor:
        self.calls["finish"] += 1
        latents = torch.cat([draft.latents for draft in drafts])
        return self._denoised(history, latents, generators, range(drafts[0].state, self.steps(history)))

    def _denoised(self, history: History, latents: torch.Tensor, generators: Any, steps: range) -> torch.Tensor:
        past = history.latents[-1].mean() if history.latents else torch.zeros(())
        for _ in steps:
            self.forwards += len(latents)
            drawn = torch.cat([torch.randn((1, 2, 1, 2, 2), generator=g) for g in generators])
            latents = torch.tanh(latents + 0.1 * past + 0.3 * drawn)
        return latents


class PreviewingSession(SteppingSession):
    """Has a preview decoder: its frames are rounder than those of `decode`, and follow from all chunks before.

    `preview_problem` and `short_by` come from the call: why there is none, and how many frames are missing.
    """

    def __init__(self, call: dict[str, Any], capabilities: Capabilities, steps: tuple[int, ...]) -> None:
        super().__init__(call, capabilities, steps)
        self.preview_problem = call.get("preview_problem")
        self._short_by = call.get("short_by", 0)

    def preview(self, latents: torch.Tensor, state: Any) -> list[Decoded]:
        self.calls["preview"] += len(latents)
        before = state or 0.0
        frames = (latents[:, :1].expand(-1, 3, -1, -1, -1).transpose(1, 2) + 0.2 * before + 1) / 2
        frames = (8 * frames[:, self._short_by :]).round() / 8
        means = latents.mean((1, 2, 3, 4)).tolist()
        return [Decoded(each.clamp(0, 1), 0.5 * before + mean) for each, mean in zip(frames, means, strict=True)]


class PredictingSession(PricedSession):
    """Predicts flows that follow the history, the level and whether there is a prompt."""

    prediction_problem = None

    def predict(self, history: History, noisy: torch.Tensor, sigma: float, *, prompted: bool = True) -> torch.Tensor:
        self.calls["predict"] += 1
        self.forwards += len(noisy)
        past = history.latents[-1].mean() if history.latents else torch.zeros(())
        return noisy * sigma - past + (0.5 if prompted else 0.0)


@dataclass
class ToyAdapter:
    gain: float = 1.0
    routed: bool = True
    max_batch: int | None = None
    decode: str = "carried"
    prices: tuple[int, ...] | None = None

    def open(self, pipe: Any, call: dict[str, Any], memory: Any) -> ToySession:
        if not call.get("prompt"):
            raise InputError("The prompt is empty.")
        routes = PAPER | FURTHER if self.routed else frozenset()
        kind = ToySession if self.prices is None else PricedSession
        session = kind(call, Capabilities(self.max_batch, routes, self.decode, "per_chunk", stochastic_steps=True))
        session.prices = self.prices
        return session

    def load(self, model: str) -> ToyPipeline:
        return ToyPipeline()


@dataclass
class OneThreadAdapter(ToyAdapter):
    def threads(self, pipe: Any, call: dict[str, Any]) -> int | None:
        return 1


@dataclass
class SteppingAdapter(ToyAdapter):
    steps: tuple[int, ...] = (6, 4)

    def open(self, pipe: Any, call: dict[str, Any], memory: Any) -> SteppingSession:
        return SteppingSession(call, super().open(pipe, call, memory).capabilities, self.steps)

    def outline(self, num_frames: int | None = None) -> Outline:
        chunks = 4 if num_frames is None else num_frames // 3
        steps = tuple(self.steps[min(index, len(self.steps) - 1)] for index in range(chunks))
        return Outline(steps, (0,) * chunks, latent_frames=3, steps=steps)


@dataclass
class PreviewingAdapter(SteppingAdapter):
    def open(self, pipe: Any, call: dict[str, Any], memory: Any) -> PreviewingSession:
        return PreviewingSession(call, ToyAdapter.open(self, pipe, call, memory).capabilities, self.steps)

    def outline(self, num_frames: int | None = None) -> Outline:
        return replace(super().outline(num_frames), previews=True)


@dataclass
class PredictingAdapter(ToyAdapter):
    def open(self, pipe: Any, call: dict[str, Any], memory: Any) -> PredictingSession:
        session = PredictingSession(call, super().open(pipe, call, memory).capabilities)
        session.prices = (2, 1)
        return session

    def outline(self, num_frames: int | None = None) -> Outline:
        session = PredictingSession({"prompt": "", "generator": None, "chunks": (num_frames or 12) // 3}, None)
        session.prices = (2, 1)
        return session.outline()


@dataclass
class Bright(Reward):
    """Mean of the frames."""

    batch_exact: ClassVar[bool] = True

    calls: list[Any] = field(default_factory=list)

    def score(self, inp: Any) -> RewardOutput:
        self.calls.append(inp)
        return RewardOutput(inp.video.mean((1, 2, 3, 4)))


@dataclass
class Picky(Reward):
    """Fails or gives NaN for chosen candidates of chosen chunks."""

    batch_exact: ClassVar[bool] = True

    chunk: int = 1
    ordinals: tuple[int, ...] = (0,)
    how: str = "nan"

    def score(self, inp: Any) -> RewardOutput:
        scores = inp.video.mean((1, 2, 3, 4)).clone()
        bad = [i for i, ids in enumerate(inp.frame_ids) if inp.chunk == self.chunk and self._is_bad(ids[-1][0])]
        if bad and self.how == "raise":
            raise ZeroDivisionError("no luck")
        if bad and self.how == "stop":
            raise KeyboardInterrupt
        scores[bad] = float("nan")
        return RewardOutput(scores)

    def _is_bad(self, node: str) -> bool:
        return int(node.split(".")[1]) in self.ordinals


@dataclass
class Scripted(Reward):
    """A chunk's level for even candidates, and `spreads` less for odd ones; the last entries repeat."""

    batch_exact: ClassVar[bool] = True

    levels: tuple[float, ...] = (0.0,)
    spreads: tuple[float, ...] = (1.0,)

    def score(self, inp: Any) -> RewardOutput:
        level, spread = (each[min(inp.chunk, len(each) - 1)] for each in (self.levels, self.spreads))
        ordinals = [int(ids[-1][0].split(".")[1]) for ids in inp.frame_ids]
        return RewardOutput(torch.tensor([level - ordinal % 2 * spread for ordinal in ordinals]))


@dataclass
class ShortOnly(Bright):
    horizons: ClassVar[tuple[str, ...]] = ("short",)


@dataclass
class Predicted(Reward):
    """How small the flow is that the model predicts for the chunk, half noised."""

    calls: list[Any] = field(default_factory=list)

    def denoiser_calls(self) -> int:
        return 2

    def score(self, inp: Any) -> RewardOutput:
        self.calls.append(inp)
        model = inp.denoiser
        noisy = (model.latents + model.noise(0)) / 2
        flows = [model.predict(noisy, 0.5), model.predict(noisy, 0.5, prompted=False)]
        return RewardOutput(-sum(flow.abs().mean((1, 2, 3, 4)) for flow in flows))


@dataclass
class Misshapen(Reward):
    def score(self, inp: Any) -> RewardOutput:
        return RewardOutput(inp.video.mean())


@hookimpl
def streamt1_register_adapters(register: Any) -> None:
    suggested = {"short": {"bright": {}}, "long": {"bright": {}}}
    register(
        "toy", pipelines=("ToyPipeline",), target="tests.toy:ToyAdapter", model="tests.toy:folder", rewards=suggested
    )
    register("toy-steps", pipelines=(), target="tests.toy:SteppingAdapter", rewards=suggested)
    register("toy-one-thread", pipelines=(), target="tests.toy:OneThreadAdapter", rewards=suggested)
    register("toy-previews", pipelines=(), target="tests.toy:PreviewingAdapter", rewards=suggested)
    register("toy-predicts", pipelines=(), target="tests.toy:PredictingAdapter", rewards=suggested)
    register("toy-bare", pipelines=(), target="tests.toy:ToyAdapter")


@hookimpl
def streamt1_register_rewards(register: Any) -> None:
    register("bright", target="tests.toy:Bright")
    register("picky", target="tests.toy:Picky")
    register("scripted", target="tests.toy:Scripted")
    register("short-only", target="tests.toy:ShortOnly")
    register("misshapen", target="tests.toy:Misshapen")
    register("predicted", target="tests.toy:Predicted")
    register("needs-extra", target="no_such_module:Reward", extra="streamt1-plugins[none]")


def folder() -> str:
    return "toy-folder"
