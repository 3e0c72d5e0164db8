"""The leaf formulas of sampling against tables recorded from the authors' release."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from streamt1_wan.schedule import flow_to_x0, nearest_sigma, renoise, sigma_table, warped_timesteps
from tests.golden.replay import Case, load, paths

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module", params=paths("formulas"), ids=lambda path: path.stem)
def case(request: pytest.FixtureRequest) -> Case:
    path: Path = request.param
    return load(path)


def test_training_table(case: Case) -> None:
    shift = case.info["warped_timesteps"]["shift"]
    torch.testing.assert_close(sigma_table(shift), case.tensors["scheduler.sigmas"], atol=1e-6, rtol=0)
    torch.testing.assert_close(sigma_table(shift) * 1000, case.tensors["scheduler.timesteps"], atol=1e-4, rtol=0)


def test_warped_timesteps(case: Case) -> None:
    for row in [case.info["warped_timesteps"], *case.info["warped_timesteps_more"]]:
        expected = torch.tensor(row["output"])
        torch.testing.assert_close(warped_timesteps(row["input"], row["shift"]), expected, atol=1e-4, rtol=0)


def test_renoise(case: Case) -> None:
    x0, noise, out, out_bf16 = (case.tensors[f"add_noise.{key}"] for key in ("x0", "noise", "out", "out_bf16"))
    sigma = _sigma(case, "add_noise.t")
    torch.testing.assert_close(renoise(x0, noise, sigma), out, atol=1e-6, rtol=0)
    assert torch.equal(renoise(x0.bfloat16(), noise.bfloat16(), sigma), out_bf16)


def test_flow_to_x0(case: Case) -> None:
    flow, noisy, out, out_bf16 = (case.tensors[f"flow_to_x0.{key}"] for key in ("flow", "xt", "out", "out_bf16"))
    sigma = _sigma(case, "flow_to_x0.t")
    torch.testing.assert_close(flow_to_x0(flow, noisy, sigma), out, atol=1e-6, rtol=0)
    assert torch.equal(flow_to_x0(flow.bfloat16(), noisy.bfloat16(), sigma), out_bf16)


def _sigma(case: Case, name: str) -> torch.Tensor:
    """Noise level per row, broadcast over ``[rows, C, h, w]``."""
    return nearest_sigma(case.tensors[name], case.info["warped_timesteps"]["shift"]).view(-1, 1, 1, 1)
