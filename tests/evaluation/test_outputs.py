"""What a reward returns is checked, whatever it is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from streamt1_plugins import RewardOutput
from streamt1_plugins.errors import PluginError
from streamt1_plugins.evaluation.outputs import scores_of


class Subclass(torch.Tensor):
    pass


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        (torch.tensor([1.0, 2.0]), [1.0, 2.0]),
        (torch.tensor([1, 2]), [1.0, 2.0]),
        (torch.tensor([True, False]), [1.0, 0.0]),
        (torch.tensor([2**62, 0]), [2.0**62, 0.0]),
        (torch.tensor([1.0, 2.0], requires_grad=True), [1.0, 2.0]),
        (torch.tensor([1.0, 2.0], dtype=torch.bfloat16), [1.0, 2.0]),
        (torch.tensor([1.0, 2.0]).as_subclass(Subclass), [1.0, 2.0]),
        (torch.zeros(1).expand(2), [0.0, 0.0]),
    ],
)
def test_numbers(scores: torch.Tensor, expected: list[float]) -> None:
    assert scores_of(RewardOutput(scores), "x", 2) == expected


def test_numbers_that_are_not_finite_and_candidates_that_are_not_valid() -> None:
    found = scores_of(RewardOutput(torch.tensor([math.nan, math.inf, 1.0]), valid=torch.tensor([1, 1, 0])), "x", 3)
    assert (math.isnan(found[0]), found[1], math.isnan(found[2])) == (True, math.inf, True)


ODD: list[tuple[Any, str]] = [
    (None, "returned None"),
    (1.0, r"returned 1\.0, expected `RewardOutput\(scores\)`"),
    (torch.zeros(2), "returned tensor"),
    ((value for value in (1.0, 2.0)), "returned <generator"),
    (RewardOutput, "returned <class"),
    (RewardOutput([0.0, 1.0]), "returned scores of type list, expected a tensor"),  # type: ignore[arg-type]
    (RewardOutput(np.zeros(2)), "returned scores of type ndarray"),  # type: ignore[arg-type]
    (RewardOutput("12"), "returned scores of type str"),  # type: ignore[arg-type]
    (RewardOutput(torch.zeros(2, dtype=torch.complex64)), r"dtype torch\.complex64, expected real numbers"),
    (RewardOutput(torch.zeros(())), r"shape \(\), expected \(2,\)"),
    (RewardOutput(torch.zeros(2, 1)), r"shape \(2, 1\)"),
    (RewardOutput(torch.zeros(1).expand(10**12)), r"shape \(1000000000000,\)"),
    (RewardOutput(torch.zeros(2), {"part": 3}), "returned part of type int"),  # type: ignore[dict-item]
    (RewardOutput(torch.zeros(2), valid=[True, True]), r"returned valid=\[True, True\], expected a bool tensor"),  # type: ignore[arg-type]
    (RewardOutput(torch.zeros(2), valid=torch.ones(3)), "expected a bool tensor"),
]


@pytest.mark.parametrize(("output", "problem"), ODD)
def test_anything_else_is_an_error_that_names_the_reward(output: Any, problem: str) -> None:
    with pytest.raises(PluginError, match=f"^Reward 'x' .*{problem}"):
        scores_of(output, "Reward 'x'", 2)
