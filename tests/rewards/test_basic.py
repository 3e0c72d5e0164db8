from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from streamt1_basic import metrics
from streamt1_basic.rewards import FAULTS, Basic, Drift, Dynamics, Exposure, Flicker, Seam, Sharpness
from streamt1_plugins.errors import RecipeError
from streamt1_plugins.plugins import build
from streamt1_plugins.plugins.discovery import discovery
from streamt1_plugins.testing import RewardContract
from tests.rewards import damage

if TYPE_CHECKING:
    from torch import Tensor

    from streamt1_plugins.api.reward import Reward

torch.set_num_threads(1)
DOCS = (Path(__file__).parents[2] / "docs" / "rewards.md").read_text(encoding="utf-8")
REWARDS: dict[str, Reward] = {**FAULTS, "basic": Basic()}


class TestFlicker(RewardContract):
    def make_reward(self) -> Reward:
        return Flicker()


class TestSeam(RewardContract):
    def make_reward(self) -> Reward:
        return Seam()


class TestDrift(RewardContract):
    def make_reward(self) -> Reward:
        return Drift()


class TestExposure(RewardContract):
    def make_reward(self) -> Reward:
        return Exposure()


class TestSharpness(RewardContract):
    def make_reward(self) -> Reward:
        return Sharpness()


class TestDynamics(RewardContract):
    def make_reward(self) -> Reward:
        return Dynamics()


class TestBasic(RewardContract):
    def make_reward(self) -> Reward:
        return Basic()


class TestBasicOnOddSizes(RewardContract):
    size = (50, 90)

    def make_reward(self) -> Reward:
        return Basic()


@pytest.fixture(scope="module", params=[damage.texture_pan, damage.moving_shapes], ids=["pan", "shapes"])
def good(request: pytest.FixtureRequest) -> Tensor:
    return request.param()


def score(name: str, video: Tensor) -> Tensor:
    return REWARDS[name].score(damage.long_input(video)).scores


@pytest.mark.parametrize("fault", damage.DAMAGES)
def test_basic_ranks_every_good_clip_above_the_damaged_one(good: Tensor, fault: str) -> None:
    assert (score("basic", good) > score("basic", damage.DAMAGES[fault](good)) + 0.1).all()


@pytest.mark.parametrize("fault", damage.DAMAGES)
def test_each_damage_is_caught_by_the_reward_meant_for_it(fault: str) -> None:
    good, name = damage.texture_pan(), damage.CAUGHT_BY[fault]
    before, after = score(name, good), score(name, damage.DAMAGES[fault](good))
    assert (after < 0.6).all()
    assert (after < before - 0.25).all()


@pytest.mark.parametrize("fault", damage.DAMAGES)
def test_basic_sees_the_damage_on_the_short_horizon_too(good: Tensor, fault: str) -> None:
    spoilt = damage.DAMAGES[fault](good)
    basic = REWARDS["basic"]
    clean = basic.score(damage.short_input(good, basic.lead_frames)).scores
    assert (clean > basic.score(damage.short_input(spoilt, basic.lead_frames)).scores + 0.05).all()


def test_an_empty_background_never_wins() -> None:
    empty = damage.empty_shapes()
    assert (score("dynamics", empty) < 0.05).all()
    assert (score("basic", damage.moving_shapes()) > score("basic", empty) + 0.5).all()
    alone = damage.short_input(empty)
    first = replace(alone, anchor=None, chunk=0)
    assert (Dynamics().score(first).scores < 0.05).all(), "even where there is no anchor to compare with"


def test_an_object_that_stands_still_in_decoder_noise_is_not_moving() -> None:
    still = damage.moving_shapes()[:, :1].expand(-1, damage.TOTAL, -1, -1, -1)
    noise = torch.rand(still.shape, generator=torch.Generator().manual_seed(0)) * 4 / 255
    assert (score("dynamics", (still + noise).clamp(0, 1)) < 0.3).all()


@pytest.mark.parametrize("name", ["seam", "drift", "sharpness"])
def test_the_first_chunk_is_neutral_where_there_is_nothing_to_compare_with(name: str) -> None:
    video = torch.rand(3, 9, 3, 64, 64)
    first = replace(damage.long_input(video), anchor=None, new_frames=slice(0, 9))
    assert REWARDS[name].score(first).scores.tolist() == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("name", REWARDS)
def test_scores_lie_between_zero_and_one(name: str) -> None:
    extremes = torch.stack([torch.zeros(damage.TOTAL, 3, 40, 56), torch.ones(damage.TOTAL, 3, 40, 56)])
    noise = torch.rand(2, damage.TOTAL, 3, 40, 56).round()
    scores = score(name, torch.cat([extremes, noise, noise.flip(1)]))
    assert ((scores >= 0) & (scores <= 1)).all()


@pytest.mark.parametrize("name", REWARDS)
def test_nan_pixels_invalidate_their_own_candidate_only(name: str) -> None:
    video = damage.moving_shapes(3)
    video[1, -5] = float("nan")
    assert score(name, video).isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("name", REWARDS)
def test_everything_is_computed_on_the_device_of_the_frames(name: str) -> None:
    """The meta device refuses to meet CPU tensors, as a GPU would."""
    assert score(name, torch.empty(2, damage.TOTAL, 3, 40, 56, device="meta")).device.type == "meta"


@pytest.mark.parametrize("name", REWARDS)
def test_half_precision_frames_are_welcome(name: str) -> None:
    video = damage.moving_shapes(2)
    assert torch.allclose(score(name, video), score(name, video.half()), atol=0.02)


def test_scores_hardly_depend_on_the_resolution() -> None:
    small, large = damage.texture_pan(4, (64, 64)), damage.texture_pan(4, (128, 128))
    assert torch.allclose(score("dynamics", small), score("dynamics", large), atol=0.1)


@pytest.mark.parametrize(("pixels", "frame_rate"), [(1, 16.0), (2, 16.0), (1, 8.0)])
def test_speed_is_in_frame_heights_per_second(pixels: int, frame_rate: float) -> None:
    """A wide ramp has edges everywhere and moves evenly, so its speed is known exactly."""
    ramp = torch.linspace(0, 1, 400).expand(3, 64, 400)
    video = torch.stack([ramp[..., pixels * t : pixels * t + 64] for t in range(8)])[None] * 80
    expected = pixels * frame_rate / 64
    assert float(metrics.speed(video, frame_rate)) == pytest.approx(expected, rel=0.15)


def test_steadiness_tells_progress_from_noise_and_from_to_and_fro() -> None:
    ramp = torch.linspace(0, 1, 9).view(1, 9, 1, 1, 1).expand(1, 9, 3, 8, 8)
    noise = torch.rand(1, 200, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    blinking = torch.tensor([0.0, 1.0]).repeat(5).view(1, 10, 1, 1, 1).expand(1, 10, 3, 8, 8)
    found = [float(metrics.steadiness(video)) for video in (ramp, noise, blinking, ramp[:, :1], ramp * 0)]
    assert found == pytest.approx([2, 1, 0, 2, 2], abs=0.15)


def test_second_difference_ignores_fades() -> None:
    fade = torch.linspace(0.2, 0.9, 10).view(1, 10, 1, 1, 1).expand(1, 10, 3, 8, 8)
    assert float(metrics.luma_second_difference(fade)) < 1e-6


def test_boundary_ratio_is_one_for_even_motion_and_large_for_a_cut() -> None:
    steps = torch.tensor([0.0, 0.1, 0.2, 0.7, 0.8, 0.9]).view(1, 6, 1, 1, 1).expand(1, 6, 3, 8, 8)
    assert float(metrics.boundary_ratio(steps, 3)) == pytest.approx(5, rel=0.1)
    assert float(metrics.boundary_ratio(steps[:, :3], 1)) == pytest.approx(1, rel=0.01)
    assert float(metrics.boundary_ratio(steps[:, :2], 1)) == 1, "no other pair to compare with"


def test_falling_is_half_at_half() -> None:
    assert metrics.falling(torch.tensor([0.0, 0.3, 3e3]), 0.3).tolist() == pytest.approx([1, 0.5, 0], abs=1e-6)


def test_all_are_registered_and_take_their_options() -> None:
    table = discovery().rewards
    for name in REWARDS:
        part = build.instance(table[name], {}, f"rewards.long.{name}")
        assert type(part).__name__.lower() == name
    assert build.instance(table["flicker"], {"half": 0.5}, "here") == Flicker(half=0.5)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("flicker", {"half": 0}, "greater than 0"),
        ("flicker", {"halve": 1}, "Did you mean 'half'"),
        ("basic", {"drift": -1}, "greater than or equal to 0"),
        ("basic", dict.fromkeys(FAULTS, 0), "at least one weight"),
    ],
)
def test_bad_options_are_explained(name: str, options: dict[str, float], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build.instance(discovery().rewards[name], options, f"rewards.long.{name}")


def test_a_weight_of_zero_leaves_the_fault_out() -> None:
    output = Basic(dynamics=0).score(damage.long_input(damage.moving_shapes(2)))
    assert set(output.parts) == set(FAULTS) - {"dynamics"}
    only = Basic(**{**dict.fromkeys(FAULTS, 0.0), "drift": 2.0}).score(damage.long_input(damage.moving_shapes(2)))
    assert torch.allclose(only.scores, score("drift", damage.moving_shapes(2)))


def test_the_table_in_the_docs_is_what_is_measured() -> None:
    good = damage.texture_pan()
    clips = {"untouched": good, **{fault: spoil(good) for fault, spoil in damage.DAMAGES.items()}}
    rows = [line.strip("| ").replace("*", "").split(" | ") for line in DOCS.splitlines() if line.startswith("| ")]
    table = {row[0]: [float(cell) for cell in row[1:]] for row in rows if row[0] in clips}
    assert table.keys() == clips.keys()
    for fault, clip in clips.items():
        measured = [float(score(name, clip).mean()) for name in REWARDS]
        assert table[fault] == pytest.approx(measured, abs=0.03), fault


class TestTheRewardInTheDocs(RewardContract):
    def make_reward(self) -> Reward:
        namespace: dict[str, Any] = {"__name__": "streamt1_warmth"}
        source = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)[0]
        exec(compile(source, "docs/rewards.md", "exec", dont_inherit=True), namespace)
        warmth: Reward = namespace["Warmth"](strength=2.0)
        return warmth
