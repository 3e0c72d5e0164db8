"""Noise levels: warped lists, uniform steps, and the two formulas of a step."""

from __future__ import annotations

import pytest
import torch

from streamt1_wan.schedule import flow_to_x0, listed, nearest_sigma, renoise, sigma_table, uniform, warped_timesteps


def test_paper_timesteps() -> None:
    schedule = listed((1000, 750, 500, 250), 5.0)
    torch.testing.assert_close(schedule.timesteps, torch.tensor([1000.0, 937.5, 2500 / 3, 625.0]))
    torch.testing.assert_close(schedule.sigmas * 1000, schedule.timesteps)


def test_zero_is_no_noise() -> None:
    assert warped_timesteps([1000, 0], 5.0).tolist() == [1000.0, 0.0]


@pytest.mark.parametrize("steps", [1, 4, 16])
def test_uniform_steps(steps: int) -> None:
    schedule = uniform(steps, 8.0)
    u = 1 - torch.arange(steps) / steps
    torch.testing.assert_close(schedule.sigmas, 8 * u / (1 + 7 * u))
    assert schedule.sigmas[0] == 1
    assert len(schedule) == steps


def test_nearest_sigma_snaps_to_the_table() -> None:
    table = sigma_table(5.0)
    assert nearest_sigma(torch.tensor([1000.0, 0.0]), 5.0).tolist() == [table[0].item(), table[-1].item()]


def test_one_step_undoes_the_mixing() -> None:
    x0, noise, sigma = torch.randn(2, 3), torch.randn(2, 3), torch.tensor(0.3)
    noisy = renoise(x0, noise, sigma)
    torch.testing.assert_close(flow_to_x0(noise - x0, noisy, sigma), x0)


def test_dtypes_are_kept() -> None:
    x = torch.randn(4, dtype=torch.bfloat16)
    sigma = torch.tensor(0.5)
    assert flow_to_x0(x, x, sigma).dtype == renoise(x, x, sigma).dtype == torch.bfloat16
