"""Rankings: correlations, spreads within groups, and weights of rewards that rank like another one."""

from __future__ import annotations

import math
from statistics import stdev
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Pearson's correlation, NaN where one of the two does not vary or a value is not finite."""
    a, b = np.asarray(first, float), np.asarray(second, float)
    if len(a) < 2 or not np.isfinite(a).all() or not np.isfinite(b).all() or a.std() == 0 or b.std() == 0:
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's correlation, NaN where one of the two does not vary or a value is not finite."""
    return correlation(_ranks(first), _ranks(second))


def spread(groups: Sequence[Sequence[float]]) -> float:
    """The pooled standard deviation within groups, of the values that are finite; 0 without any."""
    known = [[value for value in group if math.isfinite(value)] for group in groups]
    each = [stdev(group) for group in known if len(group) > 1]
    return float(np.sqrt(np.mean(np.square(each)))) if each else 0.0


def weights(correlations: Mapping[str, float]) -> dict[str, float]:
    """``w_i = max(0, r_i)`` for standardised rewards, r their rank correlation with a judge; empty if none is positive.

    For rewards that do not correlate with each other, r is the least-squares coefficient of a standardised reward, so
    that the weighted mean is the best linear guess of the judge's standing.
    """
    found = {name: max(0.0, correlation) for name, correlation in correlations.items()}
    return found if any(found.values()) else {}


def _ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 0, equal values sharing their mean rank; NaN where a value is."""
    array = np.asarray(values, float)
    ranks = [(array < value).sum() + ((array == value).sum() - 1) / 2 for value in array]
    return [math.nan if math.isnan(value) else float(rank) for value, rank in zip(array, ranks, strict=True)]
