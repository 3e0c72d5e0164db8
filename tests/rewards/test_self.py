"""The self-score: its formulas on numbers, its contract, and what it is for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.errors import PluginError, RecipeError
from streamt1_plugins.plugins import build
from streamt1_plugins.plugins.discovery import discovery
from streamt1_plugins.testing import RewardContract
from streamt1_plugins.testing.reward import StandIn
from streamt1_self.reward import STILL, SelfScore, motion, renoised, residual, weighted


class TestSelfScore(RewardContract):
    def make_reward(self) -> SelfScore:
        return SelfScore(draws=2)


class TestPublished(RewardContract):
    def make_reward(self) -> SelfScore:
        return SelfScore(against="nothing")


def test_a_level_mixes_the_chunk_with_noise() -> None:
    one, two = torch.ones(1), torch.full((1,), 2.0)
    assert renoised(one, two, 0.25).item() == 0.75 + 0.5
    assert torch.equal(renoised(one, two, 1.0), two)


def test_the_residual_is_that_of_the_flow() -> None:
    clean, noise = torch.full((1, 2, 1, 1, 1), 1.0), torch.full((1, 2, 1, 1, 1), 4.0)
    assert residual(noise - clean, clean, noise).item() == 0
    flow = noise - clean + torch.tensor([1.0, 3.0]).view(1, 2, 1, 1, 1)
    assert residual(flow, clean, noise).item() == (1 + 9) / 2


def test_motion_is_the_change_from_frame_to_frame() -> None:
    clean = torch.tensor([0.0, 3.0, 3.0]).view(1, 1, 3, 1, 1).expand(1, 4, 3, 1, 1)
    assert motion(clean, clean[:, :, :1] + 1).flatten().tolist() == [1, 3, 0]
    assert motion(clean, None).flatten().tolist() == [3, 3, 0]
    assert motion(clean[:, :, :1], None).flatten().tolist() == [1]


def test_what_does_not_move_counts_as_nothing() -> None:
    values = torch.ones(3, 1, 1, 2)
    moving = torch.tensor([[0.0, 0.0], [STILL, STILL], [0.0, 1.0]]).view(3, 1, 1, 2)
    assert weighted(values, moving).tolist() == pytest.approx([0, 0.5, 0.5 / (0.5 + STILL)])


def test_the_score_is_the_mean_over_levels_and_draws() -> None:
    inp = TestSelfScore().make_input(lead=12)
    score = lambda **options: SelfScore(**options).score(replace(inp, denoiser=StandIn(inp))).scores  # noqa: E731
    levels = torch.stack([score(levels=(each,)) for each in (0.2, 0.4)]).mean(0)
    torch.testing.assert_close(score(), levels)
    assert not torch.equal(score(draws=2), levels)
    assert not torch.equal(score(against="nothing"), levels)


@pytest.mark.parametrize(
    ("options", "calls"), [({}, 4), ({"draws": 3, "levels": (0.5,)}, 6), ({"against": "nothing"}, 2)]
)
def test_the_cost_follows_from_the_options(options: dict[str, Any], calls: int) -> None:
    assert SelfScore(**options).denoiser_calls() == calls


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": []}, "levels"),
        ({"levels": [0.0]}, "levels"),
        ({"levels": [1.5]}, "levels"),
        ({"draws": 0}, "draws"),
        ({"against": "nobody"}, "against"),
        ({"level": [0.5]}, "levels"),
    ],
)
def test_unusable_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build.instance(discovery().rewards["self"], options, "rewards.long.self")


def test_a_video_alone_cannot_be_judged() -> None:
    with pytest.raises(PluginError, match="no `denoiser`"):
        SelfScore().score(TestSelfScore().make_input())


def test_a_frozen_chunk_loses() -> None:
    """On the bundled model: the second chunk of a moving video, and the last frame before it held in its place."""
    scores: dict[str, float] = {}

    class Both(SelfScore):
        def score(self, inp: Any) -> Any:
            found, held = super().score(inp), inp.denoiser.take([0])
            if inp.chunk:
                held.latents = held.before.expand_as(held.latents).clone()
                scores["moving"] = found.scores.item()
                scores["frozen"] = super().score(replace(inp, denoiser=held)).scores.item()
                published = SelfScore(against="nothing").score(replace(inp, denoiser=held))
                scores["frozen, published"] = published.scores.item()
            return found

    rewards = {"replace": True, "long": {"mine": {}}}
    recipe = {"extends": "plain", "adapter": {"steps": [2, 2]}, "rewards": rewards}
    pipe = streamt1.load("tinyworld", recipe=recipe, rewards={"mine": Both(levels=(0.4,))})
    prompt, generator = "a red circle moving right on a blue background", torch.Generator().manual_seed(1)
    pipe(prompt, num_frames=21, generator=generator, output_type="latent")
    assert scores["frozen"] == scores["frozen, published"] == 0
    assert scores["moving"] > 0.005
