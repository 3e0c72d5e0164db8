"""What the rows of a probe show together: shares, rewards, expected gains, routes, each with its interval."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from streamt1_plugins.compare import ranking
from streamt1_plugins.compare.stats import ENOUGH_PROMPTS, Interval
from streamt1_plugins.probe import formulas
from streamt1_plugins.probe.bench import SCORE
from streamt1_plugins.probe.formulas import WIDTHS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    Row = Mapping[str, Any]


@dataclass(frozen=True)
class RewardFindings:
    """One reward on one horizon, or the search's score, in its own units.

    spread: standard deviation over candidates of one history. error: of repeated readings of one candidate.
    reliability: correlation of two readings of the same candidates. gains: of a video's mean reading over that of a
    plain run, by candidates per chunk, where the best by the search's score is kept in every chunk. carried: the part
    of the lead that the next chunks keep, whatever is chosen there, for the widest of the measured searches.
    heritability: rank correlation of readings in successive chunks that reuse noise, by what is reused (`initial`,
    `all`). drift: of a plain run, per chunk. levels: mean reading by chunk, of a `plain` run and where the `best` of
    the probed candidates was kept.
    """

    spread: float
    error: float
    reliability: Interval
    gains: Mapping[int, Interval]
    carried: Interval
    heritability: Mapping[str, Interval]
    drift: Interval
    levels: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class RouteFindings:
    """One route of the memory.

    effect: RMS change of the last chunk against `discard`, in distances between two candidates. raised: change of its
    readings, by reward. benefit: the same in spreads of the rewards, their mean.
    """

    effect: Interval
    raised: Mapping[str, Interval]
    benefit: Interval


@dataclass(frozen=True)
class Findings:
    """All findings. shares: of a chunk's variance by group of draws, for the `first` chunk and for `later` ones.

    chunks: measured per prompt. video_chunks: those of a whole video. draws: that a session hands out per chunk;
    hidden_draws: its sampler draws more and keeps it to itself. routed_from: the first chunk that a route can change.
    feedback: (gain, loss) of chosen chunks, which reward
    feedback compares with its thresholds. score: the search's own score, None without rewards. problems: why candidates
    could not be judged.
    """

    prompts: int
    candidates: int
    chunks: int
    video_chunks: int
    draws: int
    hidden_draws: bool
    route_names: tuple[str, ...]
    routed_from: int
    shares: Mapping[str, Mapping[str, Interval]]
    rewards: Mapping[str, RewardFindings]
    score: RewardFindings | None
    routes: Mapping[str, RouteFindings]
    feedback: tuple[tuple[float, float], ...]
    problems: tuple[str, ...]

    @property
    def are_enough(self) -> bool:
        """Whether there are prompts enough to conclude anything."""
        return self.prompts >= ENOUGH_PROMPTS

    def as_dict(self) -> dict[str, Any]:
        """Plain data; what is not known is None."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def findings(rows: Sequence[Row]) -> Findings:
    """The findings of a probe's rows, one row per prompt and at least one."""
    session = rows[0]["session"]
    names = dict.fromkeys(name for row in rows for chunk in row["chunks"] for name in chunk["values"])
    rewards = {name: _reward(rows, name) for name in names}
    return Findings(
        prompts=len(rows),
        candidates=max((len(chunk["distance"]) + 1 for row in rows for chunk in row["chunks"]), default=0),
        chunks=min(len(row["chunks"]) for row in rows),
        video_chunks=session["video_chunks"],
        draws=session["draws"],
        hidden_draws=session["hidden_draws"],
        route_names=tuple(session["routes"]),
        routed_from=session["routed_from"],
        shares={"first": _shares(rows, first=True), "later": _shares(rows, first=False)},
        score=rewards.pop(SCORE, None),
        rewards=rewards,
        routes=_routes(rows, {name: each.spread for name, each in rewards.items()}),
        feedback=tuple((chunk["feedback"][0], chunk["feedback"][1]) for chunk in _chunks(rows, "feedback")),
        problems=tuple(dict.fromkeys(chunk["problem"] for chunk in _chunks(rows, "problem"))),
    )


def _chunks(rows: Iterable[Row], key: str) -> list[Row]:
    return [chunk for row in rows for chunk in row["chunks"] if key in chunk]


def _shares(rows: Sequence[Row], *, first: bool) -> dict[str, Interval]:
    def own(row: Row) -> list[Row]:
        return [chunk for chunk in _chunks([row], "shares") if (chunk is row["chunks"][0]) == first]

    names = dict.fromkeys(name for row in rows for chunk in own(row) for name in chunk["shares"])

    def mean(row: Row, name: str) -> float:
        pairs = [(each["shares"][name], each["distance"]) for each in own(row) if name in each["shares"]]
        return _mean(formulas.share(changes, apart[: len(changes)]) for changes, apart in pairs)

    return {name: Interval.of(mean(row, name) for row in rows).within(0, 1) for name in names}


def _reward(rows: Sequence[Row], name: str) -> RewardFindings:
    def over_prompts(measure: Callable[[Row], float]) -> Interval:
        return Interval.of(measure(row) for row in rows)

    chunks = [chunk for chunk in _chunks(rows, "values") if name in chunk["values"]]
    errors = [np.subtract(chunk["repeated"][name], chunk["values"][name]) for chunk in chunks if name in _again(chunk)]
    kinds = dict.fromkeys(kind for chunk in _chunks(rows, "inherited") for kind in chunk["inherited"])
    return RewardFindings(
        spread=ranking.spread([chunk["values"][name] for chunk in chunks]),
        error=_finite_rms(np.concatenate(errors) / math.sqrt(2)) if errors else 0.0,
        reliability=over_prompts(lambda row: _reliability(row, name)),
        gains={count: over_prompts(lambda row, count=count: _gain(row, name, count)) for count in WIDTHS},  # type: ignore[misc]
        carried=over_prompts(lambda row: _mean(_carried(row, name)[1:])),
        heritability={kind: over_prompts(lambda row, kind=kind: _heritability(row, name, kind)) for kind in kinds},  # type: ignore[misc]
        drift=over_prompts(lambda row: formulas.slope(_levels(row, name, "plain"))),
        levels={walk: _means(rows, name, walk) for walk in ("plain", "best")},
    )


def _again(chunk: Row) -> Mapping[str, list[float]]:
    """Second readings of a chunk's candidates; the first ones where they repeat them."""
    again: Mapping[str, list[float]] = chunk.get("repeated") or {}
    return again


def _finite_rms(values: np.ndarray) -> float:
    return formulas.rms(values[np.isfinite(values)])


def _reliability(row: Row, name: str) -> float:
    """The correlation of first and second readings; 1 where readings repeat, NaN where they do not vary."""
    each = []
    for chunk in row["chunks"]:
        if name in chunk["values"]:
            values = chunk["values"][name]
            each.append(ranking.correlation(values, _again(chunk).get(name, values)))
    return _mean(each)


def _gain(row: Row, name: str, count: int) -> float:
    """The lead of the best of `count` by the score in every chunk, and what is left of the leads before it.

    Values are second readings where these differ from the first ones: an error that a candidate was chosen for is gone.
    """
    carried, found = _carried(row, name), []
    for chunk, kept in zip(row["chunks"], carried, strict=True):
        if name not in chunk["values"] or not math.isfinite(kept):
            return math.nan
        values = _again(chunk).get(name, chunk["values"][name])
        lead = formulas.best_of(chunk["values"][SCORE], values, count) - _mean(values)
        found.append(lead + kept * formulas.growth(count, len(values)))
    return _mean(found)


def _carried(row: Row, name: str) -> list[float]:
    """By chunk: how much higher the candidates of the walk of best ones read than those of the plain walk."""
    pairs = zip(_levels(row, name, "best"), _levels(row, name, "plain"), strict=False)
    found = [best - plain for best, plain in pairs]
    return found + [math.nan] * (len(row["chunks"]) - len(found))


def _heritability(row: Row, name: str, kind: str) -> float:
    """The mean rank correlation between the readings of a chunk and of the next one with the same noise."""
    return _mean(
        ranking.rank_correlation(before["values"][name], after["inherited"][kind][name])
        for before, after in zip(row["chunks"], row["chunks"][1:], strict=False)
        if name in before["values"] and name in after["inherited"].get(kind, {})
    )


def _levels(row: Row, name: str, walk: str) -> list[float]:
    """The mean reading of each chunk's candidates on the plain walk, or on that of the best."""
    best = [chunk["values"] for chunk in row["chunks"]]
    return [_mean(values[name]) for values in (best if walk == "best" else row["plain"] or best) if name in values]


def _means(rows: Sequence[Row], name: str, walk: str) -> tuple[float, ...]:
    levels = [_levels(row, name, walk) for row in rows]
    return tuple(map(_mean, zip(*levels, strict=False)))


def _routes(rows: Sequence[Row], spreads: Mapping[str, float]) -> dict[str, RouteFindings]:
    measured = [row["memory"] for row in rows if row["memory"]]
    names = dict.fromkeys(name for memory in measured for name in memory["routes"] if name != "discard")
    return {name: _route([memory for memory in measured if name in memory["routes"]], name, spreads) for name in names}


def _route(measured: Sequence[Row], name: str, spreads: Mapping[str, float]) -> RouteFindings:
    raised = {reward: [_raised(memory, name, reward) for memory in measured] for reward in spreads}
    in_spreads = [[value / spreads[reward] for value in each] for reward, each in raised.items() if spreads[reward] > 0]
    return RouteFindings(
        effect=Interval.of(_effect(memory, name) for memory in measured),
        raised={reward: Interval.of(each) for reward, each in raised.items()},
        benefit=Interval.of(map(_mean, zip(*in_spreads, strict=True))),
    )


def _effect(memory: Row, name: str) -> float:
    apart = formulas.rms(memory["distance"])
    return formulas.rms(memory["routes"][name]["distance"]) / apart if apart > 0 else math.nan


def _raised(memory: Row, name: str, reward: str) -> float:
    routed, base = memory["routes"][name]["values"], memory["routes"]["discard"]["values"]
    return _mean(routed[reward]) - _mean(base[reward]) if reward in routed and reward in base else math.nan


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return fmean(known) if known else math.nan


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
