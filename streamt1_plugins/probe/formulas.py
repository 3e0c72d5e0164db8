"""The statistics of a probe: shares of variance, correlations, order statistics, the best weight of inherited noise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

WIDTHS = (2, 4, 8, 16)
"""Candidates per chunk for which a probe predicts the gain."""

_REACH, _POINTS = 10.0, 8001
MOST_SIGMA = 0.95


def distance(a: Tensor, b: Tensor) -> float:
    """Root mean square difference of two tensors of one shape."""
    return float((a.float() - b.float()).square().mean().sqrt())


def rms(values: Sequence[float]) -> float:
    """The root of the mean square, 0 without values."""
    return float(np.sqrt(np.mean(np.square(values)))) if len(values) else 0.0


def share(changes: Sequence[float], differences: Sequence[float]) -> float:
    """The share of the variance of candidates that one draw owns, 0..1 (Jansen's estimate of the total effect).

    changes: RMS distances between candidates that differ in that draw alone. differences: between candidates that share
    nothing. Half of a mean square estimates a variance, so the ratio of the mean squares is the share.
    """
    whole = rms(differences) ** 2
    return min(1.0, rms(changes) ** 2 / whole) if whole > 0 else 0.0


def expected_best(count: int) -> float:
    """The mean of the largest of `count` independent standard normal values: 0, .56, 1.03, 1.42, 1.77 for 1 to 16."""
    x = np.linspace(-_REACH, _REACH, _POINTS)
    below = np.array([(1 + math.erf(each / math.sqrt(2))) / 2 for each in x])
    density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    return float((x * count * below ** (count - 1) * density).sum() * (x[1] - x[0]))


def best_of(scores: Sequence[float], values: Sequence[float], count: int) -> float:
    """The mean `value` of the candidate with the best score among `count` of these, over all ways to draw `count`.

    For more candidates than there are, the lead of their best over the mean grows as it does for normal values. NaN
    without a finite score; a candidate whose score is not finite is never chosen.
    """
    pairs = zip(scores, values, strict=True)
    known = sorted((pair for pair in pairs if all(map(math.isfinite, pair))), key=lambda pair: pair[0])
    if not known:
        return math.nan
    ordered, size = np.array([value for _, value in known]), len(known)
    drawn = min(count, size)
    weights = np.array([math.comb(place, drawn - 1) for place in range(size)]) / math.comb(size, drawn)
    lead = float(weights @ ordered - ordered.mean())
    return float(ordered.mean()) + lead * (growth(count, size) if count > size > 1 else 1.0)


def growth(count: int, measured: int) -> float:
    """How the lead of the best of normal values changes from `measured` of them to `count`; 0 for one."""
    return expected_best(count) / expected_best(measured) if measured > 1 else 0.0


def leads(sigma: float, heritability: float, chunks: int) -> list[float]:
    """Chunk by chunk, the lead of the chosen candidate over fresh noise, in leads of fresh noise.

    A child's expected value is ``sigma * heritability`` of its parent's lead, and the spread among children falls to
    ``sqrt(1 - sigma^2)``: ``L_0 = 1, L_b = sigma * h * L_(b-1) + sqrt(1 - sigma^2)``.
    """
    found = [1.0]
    for _ in range(chunks - 1):
        found.append(sigma * heritability * found[-1] + math.sqrt(1 - sigma**2))
    return found


def best_sigma(heritability: float, chunks: int) -> float:
    """The weight of the parent's noise with the highest mean of `leads`, to two decimals; 0 without heritability."""
    steps = [step / 100 for step in range(-round(MOST_SIGMA * 100), round(MOST_SIGMA * 100) + 1)]
    return max(steps, key=lambda sigma: (round(float(np.mean(leads(sigma, heritability, chunks))), 9), -abs(sigma)))


def slope(values: Sequence[float]) -> float:
    """The least-squares slope per chunk, NaN for less than two values."""
    if len(values) < 2:
        return math.nan
    return float(np.polyfit(np.arange(len(values)), np.asarray(values, float), 1)[0])
