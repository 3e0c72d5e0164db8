"""What the rows of a probe say together: shares, heritability, spreads, effects and drift, each with its interval."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from streamt1_plugins.probe.formulas import WIDTHS, expected_gain, rank_correlation, reliability, share, slope

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A mean over prompts and its 95 % bootstrap interval; all NaN without a value."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Interval:
        """The interval of the values that are known."""
        known = np.array([value for value in values if not math.isnan(value)])
        if not known.size:
            return cls(math.nan, math.nan, math.nan)
        picks = np.random.default_rng(0).integers(0, known.size, (RESAMPLES, known.size))
        low, high = np.quantile(known[picks].mean(1), (0.025, 0.975))
        return cls(float(known.mean()), float(low), float(high))

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class RewardFindings:
    """One reward on one horizon, in its own units.

    spread: standard deviation over candidates of one history. error: of repeated readings of one candidate. gains: of
    the best of 2, 4, 8, 16. heritability: rank correlation of readings in successive chunks that reuse the noise, by
    what is reused (`initial`, `all`). drift: per chunk.
    """

    spread: float
    error: float
    reliability: float
    gains: Mapping[int, float]
    heritability: Mapping[str, Interval]
    drift: Interval


@dataclass(frozen=True)
class Findings:
    """All findings. shares: of a chunk's variance by group of draws, for the first chunk and for later ones.

    routes: RMS change of the next chunk's candidates by route, in units of the distance between two candidates.
    """

    prompts: int
    shares: Mapping[str, Mapping[str, float]]
    rewards: Mapping[str, RewardFindings]
    routes: Mapping[str, Interval]

    def as_dict(self) -> dict[str, Any]:
        """Plain data; what is not known is None."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def findings(rows: Sequence[Mapping[str, Any]]) -> Findings:
    """The findings of a probe's rows, one row per prompt."""
    names = sorted({name for row in rows for chunk in row["chunks"] for name in chunk["values"]})
    return Findings(
        prompts=len(rows),
        shares={"first": _shares(rows, first=True), "later": _shares(rows, first=False)},
        rewards={name: _reward(rows, name) for name in names},
        routes=_routes(rows),
    )


def _shares(rows: Sequence[Mapping[str, Any]], *, first: bool) -> dict[str, float]:
    chunks = [each for row in rows for each in row["chunks"] if "shares" in each and (each["index"] == 0) == first]
    found = {}
    for name in dict.fromkeys(name for chunk in chunks for name in chunk["shares"]):
        each = [share(chunk["shares"][name], chunk["distance"]) for chunk in chunks if name in chunk["shares"]]
        found[name] = float(np.mean(each))
    return found


def _reward(rows: Sequence[Mapping[str, Any]], name: str) -> RewardFindings:
    chunks = [chunk for row in rows for chunk in row["chunks"] if name in chunk["values"]]
    spread = _pooled([np.std(chunk["values"][name], ddof=1) for chunk in chunks if len(chunk["values"][name]) > 1])
    error = _pooled([np.std(chunk["repeated"][name], ddof=1) for chunk in chunks if name in chunk["repeated"]])
    drifts = [slope([np.mean(chunk["values"][name]) for chunk in row["chunks"] if name in chunk["values"]]) for row in rows]
    return RewardFindings(
        spread=spread,
        error=error,
        reliability=reliability(spread, error),
        gains={count: expected_gain(spread, error, count) for count in WIDTHS},
        heritability={draws: Interval.of(_inherited(rows, name, draws)) for draws in ("initial", "all")},
        drift=Interval.of(drifts),
    )


def _inherited(rows: Sequence[Mapping[str, Any]], name: str, draws: str) -> list[float]:
    """Per prompt: the mean rank correlation between the readings of a chunk and of the next one with the same noise."""
    found = []
    for row in rows:
        pairs = zip(row["chunks"], row["chunks"][1:], strict=False)
        each = [
            rank_correlation(before["values"][name], after["inherited"][draws][name])
            for before, after in pairs
            if name in before["values"] and name in after["inherited"][draws]
        ]
        known = [value for value in each if not math.isnan(value)]
        found.append(float(np.mean(known)) if known else math.nan)
    return found


def _routes(rows: Sequence[Mapping[str, Any]]) -> dict[str, Interval]:
    measured = [row for row in rows if row.get("memory")]
    names = dict.fromkeys(name for row in measured for name in row["memory"]["effects"])
    found = {}
    for name in names:
        own = [row for row in measured if name in row["memory"]["effects"]]
        found[name] = Interval.of(_effect(row, row["memory"]["effects"][name]["distance"]) for row in own)
    return found


def _effect(row: Mapping[str, Any], distances: Sequence[float]) -> float:
    apart = _pooled(row["chunks"][-1]["distance"])
    return _pooled(distances) / apart if apart > 0 else math.nan


def _pooled(values: Sequence[float]) -> float:
    """The root of the mean square."""
    return float(np.sqrt(np.mean(np.square(values)))) if len(values) else 0.0


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
