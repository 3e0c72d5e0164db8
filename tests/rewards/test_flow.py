"""Optical-flow smoothness on damaged clips."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("cv2")

from streamt1_basic.flow import Flow, acceleration
from streamt1_plugins.testing import RewardContract
from tests.rewards import damage


class TestFlow(RewardContract):
    def make_reward(self) -> Flow:
        return Flow()


@pytest.mark.parametrize("fault", ["jump", "shuffled"])
def test_uneven_motion_scores_lower(fault: str) -> None:
    good = damage.texture_pan()
    even, uneven = (Flow().score(damage.long_input(each)).scores for each in (good, damage.DAMAGES[fault](good)))
    assert (even > uneven + 0.1).all()


def test_uniform_motion_has_no_acceleration() -> None:
    torch.manual_seed(0)
    texture = torch.nn.functional.interpolate(torch.rand(1, 3, 16, 48), size=(128, 384), mode="bicubic").clamp(0, 1)[0]
    frames = torch.stack([texture[:, :, 2 * i : 2 * i + 128] for i in range(9)])
    shuffled = frames[[0, 4, 2, 7, 1, 6, 3, 8, 5]]
    assert acceleration(frames, 16.0) < 0.1 * acceleration(shuffled, 16.0)


def test_acceleration_does_not_depend_on_the_resolution_above_the_working_size() -> None:
    torch.manual_seed(0)
    texture = torch.nn.functional.interpolate(torch.rand(1, 3, 16, 48), size=(512, 1536), mode="bicubic").clamp(0, 1)[0]
    large = torch.stack([texture[:, :, 8 * i * i : 8 * i * i + 512] for i in range(7)])
    small = torch.nn.functional.interpolate(large, size=(256, 256), mode="area")
    assert acceleration(large, 16.0) == pytest.approx(acceleration(small, 16.0), rel=0.1)


def test_two_frames_are_neutral() -> None:
    assert acceleration(torch.rand(2, 3, 64, 64), 16.0) == 0.0
