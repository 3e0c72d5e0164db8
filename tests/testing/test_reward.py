"""The contract itself: a good reward passes all of it, every broken one fails the test meant for it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import pytest
import torch

from streamt1_plugins.api.reward import Reward, RewardInput, RewardOutput
from streamt1_plugins.testing import RewardContract

if TYPE_CHECKING:
    from torch import Tensor

ALL = [name for name, _ in inspect.getmembers(RewardContract, inspect.isfunction) if name.startswith("test_")]


def brightness(inp: RewardInput) -> Tensor:
    return inp.video.mean((1, 2, 3, 4))


@dataclass
class Good(Reward):
    def score(self, inp: RewardInput) -> RewardOutput:
        return RewardOutput(brightness(inp), {"brightness": brightness(inp)})


class TestGood(RewardContract):
    def make_reward(self) -> Reward:
        return Good()


class TestOneCandidate(TestGood):
    prompts = ("a lonely cloud",)


class TestShortOnly(RewardContract):
    def make_reward(self) -> Reward:
        class Short(Good):
            horizons = ("short",)

        return Short()


class GoodWithPrompt(Good):
    needs_prompt = True

    def score(self, inp: RewardInput) -> RewardOutput:
        lengths = torch.tensor([float(len(prompt)) for prompt in inp.prompts])
        return RewardOutput(brightness(inp) * lengths)


class TestGoodWithPrompt(RewardContract):
    def make_reward(self) -> Reward:
        return GoodWithPrompt()


class ChangesItsInput(Good):
    def score(self, inp: RewardInput) -> RewardOutput:
        inp.video.mul_(0.5)
        return super().score(inp)


class ChangesItsAnchor(Good):
    def score(self, inp: RewardInput) -> RewardOutput:
        if inp.anchor is not None:
            inp.anchor.zero_()
        return super().score(inp)


class LooksAtTheBatch(Good):
    def score(self, inp: RewardInput) -> RewardOutput:
        return RewardOutput(brightness(inp) - brightness(inp).mean())


class LooksAtThePlace(Good):
    def score(self, inp: RewardInput) -> RewardOutput:
        return RewardOutput(brightness(inp) + torch.arange(len(inp.prompts)))


class UsesGlobalRandomness(Good):
    def score(self, inp: RewardInput) -> RewardOutput:
        torch.rand(1)
        return super().score(inp)


class NeverTheSame(Good):
    calls: ClassVar[list[int]] = []

    def score(self, inp: RewardInput) -> RewardOutput:
        self.calls.append(1)
        return RewardOutput(brightness(inp) + len(self.calls))


class WrongShape(Good):
    def score(self, inp: RewardInput) -> RewardOutput:
        return RewardOutput(brightness(inp)[:, None])


class WrongPart(Good):
    def score(self, inp: RewardInput) -> RewardOutput:
        return RewardOutput(brightness(inp), {"mean": brightness(inp).mean()})


class WholeNumbers(Good):
    def score(self, inp: RewardInput) -> RewardOutput:
        return RewardOutput((brightness(inp) * 100).long())


class DividesByContrast(Good):
    def score(self, inp: RewardInput) -> RewardOutput:
        return RewardOutput(brightness(inp) / inp.video.std((1, 2, 3, 4)))


class NeedsTwoFrames(Good):
    def score(self, inp: RewardInput) -> RewardOutput:
        return RewardOutput(inp.video.diff(dim=1).abs().mean((1, 2, 3, 4)))


class NeedsEvenFrames(Good):
    def score(self, inp: RewardInput) -> RewardOutput:
        odd = inp.video.shape[1] % 2 == 1 and inp.video.shape[1] > 1
        return RewardOutput(brightness(inp) + (float("inf") if odd else 0.0))


class AlwaysNan(Good):
    def score(self, inp: RewardInput) -> RewardOutput:
        return RewardOutput(brightness(inp) * float("nan"))


class IgnoresThePrompt(Good):
    needs_prompt = True


class UnknownHorizon(Good):
    horizons = ("middle",)  # type: ignore[assignment]


@dataclass
class ForgetsToLoadAgain(Good):
    loads: list[str] = field(default_factory=list)

    def load(self, device: str) -> None:
        self.loads.append(device)

    def score(self, inp: RewardInput) -> RewardOutput:
        return RewardOutput(brightness(inp) * len(self.loads))


@dataclass
class RemembersByPlace(Good):
    seen: dict[int, Tensor] = field(default_factory=dict)

    def score(self, inp: RewardInput) -> RewardOutput:
        fresh = brightness(inp)
        return RewardOutput(torch.stack([self.seen.setdefault(row, fresh[row]) for row in range(len(fresh))]))

    def reset(self) -> None:
        self.seen.clear()


class KeepsItsWeights(Good):
    def load(self, device: str) -> None:
        self.model = torch.nn.Linear(1, 1)


class PredictsOnceMore(Good):
    def denoiser_calls(self) -> int:
        return 1

    def score(self, inp: RewardInput) -> RewardOutput:
        assert inp.denoiser is not None
        for _ in range(2):
            inp.denoiser.predict(inp.denoiser.latents, 0.5)
        return RewardOutput(brightness(inp))


BROKEN = {
    ChangesItsInput: "test_leaves_inputs_alone",
    ChangesItsAnchor: "test_leaves_inputs_alone",
    LooksAtTheBatch: "test_batch_does_not_matter",
    LooksAtThePlace: "test_order_of_candidates_does_not_matter",
    UsesGlobalRandomness: "test_leaves_random_state_alone",
    NeverTheSame: "test_is_deterministic",
    WrongShape: "test_gives_one_float_per_candidate",
    WrongPart: "test_gives_one_float_per_candidate",
    WholeNumbers: "test_gives_one_float_per_candidate",
    DividesByContrast: "test_constant_video_is_finite",
    NeedsTwoFrames: "test_one_frame_is_finite",
    NeedsEvenFrames: "test_odd_frame_count_is_finite",
    AlwaysNan: "test_scores_are_finite",
    IgnoresThePrompt: "test_reads_the_prompt_if_it_declares_so",
    UnknownHorizon: "test_declares_its_horizons",
    RemembersByPlace: "test_what_it_remembers_changes_nothing",
    KeepsItsWeights: "test_unload_frees_what_load_brought",
    ForgetsToLoadAgain: "test_works_again_after_unload",
    PredictsOnceMore: "test_predicts_as_often_as_it_declares",
}


def contract_of(broken: type[Reward]) -> RewardContract:
    class Contract(RewardContract):
        def make_reward(self) -> Reward:
            return broken()

    Contract.setup_class()
    return Contract()


@pytest.mark.parametrize(("broken", "test"), BROKEN.items(), ids=lambda value: getattr(value, "__name__", value))
def test_a_broken_reward_fails_the_test_meant_for_it(broken: type[Reward], test: str) -> None:
    with pytest.raises(AssertionError):
        getattr(contract_of(broken), test)()


def test_every_test_of_the_contract_has_a_reward_that_fails_it() -> None:
    assert set(ALL) == set(BROKEN.values())


def test_the_contract_alone_asks_for_a_reward() -> None:
    with pytest.raises(NotImplementedError):
        RewardContract().make_reward()


def test_take_keeps_rows_together() -> None:
    inp = TestGood().make_input(lead=4)
    assert inp.take(range(4)) is inp
    taken = inp.take([2, 0])
    assert taken.prompts == (inp.prompts[2], inp.prompts[0])
    assert torch.equal(taken.video, inp.video[[2, 0]])
    assert taken.anchor is not None
    assert inp.anchor is not None
    assert torch.equal(taken.anchor, inp.anchor[[2, 0]])
    assert taken.frame_ids == (inp.frame_ids[2], inp.frame_ids[0])
    assert replace(inp, anchor=None, frame_ids=()).take([1]).anchor is None
