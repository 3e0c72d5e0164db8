"""Tests for rewards to inherit: everything that the search relies on.

class TestMine(RewardContract):
    def make_reward(self) -> Reward:
        return Mine()
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, ClassVar

import torch

from streamt1_plugins.api.reward import RewardInput, RewardOutput

if TYPE_CHECKING:
    from torch import Tensor

    from streamt1_plugins.api.reward import Reward
    from streamt1_plugins.api.types import Horizon


@dataclass
class StandIn:
    """A `Denoiser` in the place of a video model: small pictures as latents, and a flow that follows the prompt."""

    inp: RewardInput
    calls: int = 0

    def __post_init__(self) -> None:
        video = torch.nn.functional.adaptive_avg_pool3d(self.inp.video.transpose(1, 2), (None, 8, 8)) * 2 - 1
        start = self.inp.new_frames.start
        self.latents: Tensor = video[:, :, self.inp.new_frames].clone()
        self.before: Tensor | None = video[:, :, start - 1 : start].clone() if start else None

    def noise(self, draw: int) -> Tensor:
        stream = torch.Generator().manual_seed(draw)
        return torch.randn(self.latents.shape[1:], generator=stream).to(self.latents).expand_as(self.latents)

    def predict(self, noisy: Tensor, sigma: float, *, prompted: bool = True) -> Tensor:
        self.calls += 1
        lengths = noisy.new_tensor([len(prompt) / 100 for prompt in self.inp.prompts]).view(-1, 1, 1, 1, 1)
        return noisy * sigma + (lengths if prompted else 0.0)

    def take(self, rows: Sequence[int]) -> StandIn:
        return StandIn(replace(self.inp, denoiser=None).take(rows))


class RewardContract:
    """Everything that the search relies on. Calls are as in a run: loaded once, under ``torch.inference_mode``.

    tolerance: how far scores of the same candidate may differ between batches (0 for bit-exact rewards).
    device: where it is tested. size: height and width of the test frames. prompts: the candidates' prompts.
    """

    tolerance: ClassVar[float] = 1e-5
    device: ClassVar[str] = "cpu"
    size: ClassVar[tuple[int, int]] = (64, 64)
    prompts: ClassVar[tuple[str, ...]] = ("a red circle moving right", "a blue square", "two cats, playing", "a sunset")
    reward: Reward

    def make_reward(self) -> Reward:
        """A fresh reward, not loaded."""
        raise NotImplementedError

    def make_input(self, frames: int = 12, lead: int = 0) -> RewardInput:
        """Four candidates of blurred noise that brightens: `frames` new frames after `lead` earlier ones.

        With a `lead` it is a long-horizon input, anchor included; without, the first chunk.
        """
        count, total = len(self.prompts), lead + frames
        generator = torch.Generator().manual_seed(0)
        coarse = torch.rand(count * total, 3, 8, 8, generator=generator)
        video = torch.nn.functional.interpolate(coarse, self.size, mode="bilinear").view(count, total, 3, *self.size)
        video = (video * torch.linspace(0.5, 1, count).view(-1, 1, 1, 1, 1)).to(self.device)
        ids = tuple(tuple((f"{row:03d}.00", frame) for frame in range(total)) for row in range(count))
        anchor = video[:, :lead].clone() if lead else None
        return RewardInput(video, self.prompts, 16.0, int(lead > 0), 7, slice(lead, total), anchor, ids)

    @classmethod
    def setup_class(cls) -> None:
        cls.reward = cls().make_reward()
        cls.reward.load(cls.device)

    @classmethod
    def teardown_class(cls) -> None:
        cls.reward.unload()

    def output(self, inp: RewardInput) -> RewardOutput:
        """Score as the first thing of a run: with nothing remembered."""
        self.reward.reset()
        return self.next_output(inp)

    def next_output(self, inp: RewardInput) -> RewardOutput:
        """Score as the search does, remembering what was seen before."""
        if self.reward.denoiser_calls() and inp.denoiser is None:
            inp = replace(inp, denoiser=StandIn(inp))
        with torch.inference_mode():
            return self.reward.score(inp)

    def scores(self, inp: RewardInput) -> Tensor:
        return self.output(inp).scores.detach().cpu()

    def inputs(self) -> list[RewardInput]:
        """Every kind of input the reward declares: the horizons, the short one also with `lead_frames`."""
        leads: dict[Horizon, tuple[int, ...]] = {"short": (0, self.reward.lead_frames), "long": (12,)}
        kinds = sorted({lead for horizon in self.reward.horizons for lead in leads[horizon]})
        return [self.make_input(lead=lead) for lead in kinds]

    def check_close(self, found: Tensor, expected: Tensor, what: str) -> None:
        worst = float((found - expected).abs().max())
        assert worst <= self.tolerance, f"{what}: scores differ by {worst:.3g}, tolerance {self.tolerance:.3g}"

    def check_finite(self, inp: RewardInput, what: str) -> None:
        scores = self.scores(inp)
        assert bool(scores.isfinite().all()), f"{what}: scores are {scores.tolist()}"

    def test_declares_its_horizons(self) -> None:
        horizons = self.reward.horizons
        assert horizons, "declare at least one horizon"
        assert set(horizons) <= {"short", "long"}, f"unknown horizon in {horizons}"

    def test_gives_one_float_per_candidate(self) -> None:
        for inp in self.inputs():
            output, count = self.output(inp), len(inp.prompts)
            named = {"scores": output.scores, **{f"parts[{name!r}]": part for name, part in output.parts.items()}}
            for name, values in named.items():
                assert tuple(values.shape) == (count,), f"{name} has shape {tuple(values.shape)}, expected ({count},)"
                assert values.is_floating_point(), f"{name} has dtype {values.dtype}, expected a float"

    def test_scores_are_finite(self) -> None:
        for inp in self.inputs():
            self.check_finite(inp, "a plain video")

    def test_one_frame_is_finite(self) -> None:
        self.check_finite(self.make_input(frames=1), "T = 1")
        self.check_finite(self.make_input(frames=1, lead=1), "one new frame after one earlier frame")

    def test_odd_frame_count_is_finite(self) -> None:
        self.check_finite(self.make_input(frames=7), "T = 7")

    def test_constant_video_is_finite(self) -> None:
        for inp in self.inputs():
            for level in (0.0, 0.5, 1.0):
                anchor = None if inp.anchor is None else torch.full_like(inp.anchor, level)
                still = replace(inp, video=torch.full_like(inp.video, level), anchor=anchor)
                self.check_finite(still, f"a video of {level} everywhere")

    def test_order_of_candidates_does_not_matter(self) -> None:
        for inp in self.inputs():
            order = [*range(1, len(inp.prompts)), 0]
            self.check_close(self.scores(inp.take(order)), self.scores(inp)[order], "candidates in another order")

    def test_batch_does_not_matter(self) -> None:
        for inp in self.inputs():
            alone = torch.cat([self.scores(inp.take([row])) for row in range(len(inp.prompts))])
            together = self.scores(inp)
            self.check_close(together, alone, "all candidates at once against one by one")
            if self.reward.batch_exact:
                difference = float((together - alone).abs().max())
                assert torch.equal(together, alone), f"batch_exact, yet a batch changes scores by {difference:.3g}"

    def test_is_deterministic(self) -> None:
        for inp in self.inputs() if self.reward.deterministic else ():
            assert torch.equal(self.scores(inp), self.scores(inp)), "the same input scored twice gave two results"

    def test_leaves_inputs_alone(self) -> None:
        for inp in self.inputs():
            copies = {name: value.clone() for name, value in _tensors(inp).items()}
            self.scores(inp)
            for name, value in _tensors(inp).items():
                assert torch.equal(value, copies[name]), f"score() changed {name} in place"

    def test_predicts_as_often_as_it_declares(self) -> None:
        for inp in self.inputs() if self.reward.denoiser_calls() else ():
            model = StandIn(inp)
            copies = model.latents.clone(), None if model.before is None else model.before.clone()
            self.output(replace(inp, denoiser=model))
            declared = self.reward.denoiser_calls()
            assert model.calls == declared, f"score() made {model.calls} predictions, denoiser_calls() is {declared}"
            assert torch.equal(model.latents, copies[0]), "score() changed the latents in place"
            if model.before is not None and copies[1] is not None:
                assert torch.equal(model.before, copies[1]), "score() changed the frame before in place"

    def test_leaves_random_state_alone(self) -> None:
        for inp in self.inputs():
            before = torch.get_rng_state()
            self.scores(inp)
            assert torch.equal(before, torch.get_rng_state()), "score() used torch's global random generator"

    def test_reads_the_prompt_if_it_declares_so(self) -> None:
        if self.reward.needs_prompt:
            inp = self.make_input()
            other = replace(inp, prompts=(*inp.prompts[1:], inp.prompts[0]))
            assert not torch.equal(self.scores(inp), self.scores(other)), "needs_prompt, yet prompts change nothing"

    def test_what_it_remembers_changes_nothing(self) -> None:
        for inp in self.inputs():
            fresh = self.scores(inp)
            self.output(inp.take([len(inp.prompts) - 1]))
            again = self.next_output(inp).scores.detach().cpu()
            self.check_close(again, fresh, "after one of the candidates was seen before")

    def test_unload_frees_what_load_brought(self) -> None:
        self.scores(self.make_input())
        kinds = (torch.Tensor, torch.nn.Module)
        brought = {key: weakref.ref(value) for key, value in vars(self.reward).items() if isinstance(value, kinds)}
        self.reward.unload()
        gc.collect()
        kept = [key for key, value in brought.items() if value() is not None]
        self.reward.load(self.device)
        assert not kept, f"unload() keeps {', '.join(kept)}"

    def test_works_again_after_unload(self) -> None:
        inp = self.inputs()[0]
        before = self.scores(inp)
        self.reward.unload()
        self.reward.unload()  # a run that fails early may unload twice
        self.reward.load(self.device)
        self.check_close(self.scores(inp), before, "after unload and load")


def _tensors(inp: RewardInput) -> dict[str, Tensor]:
    values = {field.name: getattr(inp, field.name) for field in fields(inp)}
    return {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}
