"""The statistics of a probe: variance shares, heritability, reliability, and the gain to expect from N candidates."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

WIDTHS = (2, 4, 8, 16)
"""Candidates per chunk for which a probe predicts the gain."""
QUADRATURE = 4001


def distance(a: Tensor, b: Tensor) -> float:
    """Root mean square difference of two tensors of one shape."""
    return float((a.float() - b.float()).square().mean().sqrt())


def share(changes: Sequence[float], differences: Sequence[float]) -> float:
    """The share of the variance of candidates that one draw owns, 0..1 (its total effect, after Jansen).

    changes: RMS distances between candidates that differ in that draw alone. differences: between candidates that share
    nothing. Both estimate a variance as half a mean square, so their ratio is the share.
    """
    whole = float(np.mean(np.square(differences)))
    return min(1.0, float(np.mean(np.square(changes))) / whole) if whole > 0 else 0.0


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's correlation, NaN where one of the two does not vary."""
    a, b = _ranks(first), _ranks(second)
    if a.std() == 0 or b.std() == 0:
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])


def _ranks(values: Sequence[float]) -> np.ndarray:
    """Ranks from 0, equal values sharing their mean rank."""
    array = np.asarray(values, float)
    return np.array([(array < value).sum() + ((array == value).sum() - 1) / 2 for value in array], float)


def expected_best(count: int) -> float:
    """The expected maximum of `count` independent standard normal values: 0, .56, 1.03, 1.42, 1.77 for 1, 2, 4, 8, 16."""
    x = np.linspace(-8, 8, QUADRATURE)
    density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    below = np.cumsum(density) * (x[1] - x[0])
    return float(np.trapezoid(x * count * below ** (count - 1) * density, x))


def reliability(spread: float, error: float) -> float:
    """The share of the variance of readings that comes from the candidates, 0..1.

    spread: standard deviation of the readings of different candidates, repeat error included. error: that of repeated
    readings of one candidate.
    """
    return max(0.0, 1 - (error / spread) ** 2) if spread > 0 else 0.0


def expected_gain(spread: float, error: float, count: int) -> float:
    """How much higher the true value of the best of `count` candidates is than that of one, in the reward's units."""
    return expected_best(count) * spread * reliability(spread, error)


def best_sigma(heritability: float) -> float:
    """The weight of the parent's noise that promises most: ``h / sqrt(1 + h^2)``.

    With rank correlation h between the reward of a noise in one chunk and in the next, a child's expected value rises by
    ``sigma h`` of its parent's lead and the spread among children falls to ``sqrt(1 - sigma^2)``; their sum is largest
    there. Without heritability fresh noise is best.
    """
    return heritability / math.sqrt(1 + heritability**2)


def slope(values: Sequence[float]) -> float:
    """The least-squares slope per chunk, 0 for less than two values."""
    if len(values) < 2:
        return 0.0
    return float(np.polyfit(np.arange(len(values)), np.asarray(values, float), 1)[0])
