"""The figures of a comparison from its rows: the judge's metrics by recipe, gains over the first recipe, and costs."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from streamt1_plugins.compare import agreement, regret
from streamt1_plugins.compare.drift import CHUNK, number_of
from streamt1_plugins.compare.drift import summary as drift_summary
from streamt1_plugins.compare.stats import column, figures, grouped, paired, wins

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

COSTS = ("candidates", "forwards", "latent_frames_decoded", "reward_calls")
ORACLE = (
    "oracle: it picks by the judge itself, so its score is no measure of a search. Regret is the oracle's score minus "
    "the recipe's, on the same prompt and seed: what a better reward could still gain in the same search.\n"
)
MARKS = {"oracle": "sees the judge", "circular": "circular"}
CIRCULAR = "circular: the recipe selects on the judge, so its figures do not measure the quality of its videos.\n"


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All figures of the tables, as plain data. The first recipe of the rows is the base of all gains."""
    recipes = list(dict.fromkeys(row["recipe"] for row in rows))
    metrics = list(dict.fromkeys(name for row in rows for name in row["judge"]))
    found = {
        "base": recipes[0],
        "prompts": len({row["prompt"] for row in rows}),
        "seeds": sorted({row["seed"] for row in rows}),
        "recipes": {recipe: _recipe(rows, recipe, recipes[0], metrics) for recipe in recipes},
    }
    circular = [recipe for recipe in recipes if any(row.get("circular") for row in rows if row["recipe"] == recipe)]
    forwards = {recipe: each["cost"]["forwards"] for recipe, each in found["recipes"].items()}
    regrets = regret.summary(rows, forwards, metrics[0])
    return (
        found
        | ({"circular": circular} if circular else {})
        | regrets
        | agreement.summary(rows)
        | drift_summary(rows, recipes)
    )


def _recipe(rows: Sequence[Mapping[str, Any]], recipe: str, base: str, metrics: Sequence[str]) -> dict[str, Any]:
    own = [row for row in rows if row["recipe"] == recipe]
    return {
        "videos": len(own),
        "metrics": {metric: _metric(rows, recipe, base, metric) for metric in metrics},
        "cost": {name: round(fmean(row["cost"][name] for row in own), 2) for name in COSTS} | _seconds(own),
    }


def _seconds(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Seconds of a video: mean, 95th percentile, of all processor cores (not in older rows), of rewards."""
    each, cores = [row["seconds"] for row in rows], [row["cpu_seconds"] for row in rows if "cpu_seconds" in row]
    found = {"seconds": fmean(each), "p95_seconds": float(np.quantile(each, 0.95))}
    if cores:
        found["cpu_seconds"] = fmean(cores)
    found["reward_seconds"] = fmean(row["cost"]["seconds"].get("reward", 0.0) for row in rows)
    return {name: round(value, 2) for name, value in found.items()}


def _metric(rows: Sequence[Mapping[str, Any]], recipe: str, base: str, metric: str) -> dict[str, Any] | None:
    """Mean and gain with intervals; None where no row has this metric."""
    own = column(rows, recipe, metric)
    if not own:
        return None
    gains = paired(column(rows, base, metric), own)
    return {
        "mean": figures(grouped(own)),
        "gain": figures(gains) if recipe != base else None,
        "wins": wins(gains) if recipe != base else None,
    }


def markdown(found: Mapping[str, Any]) -> str:
    """Tables of the metrics (with the gain in the first one), of the regret where there is an oracle, of the costs and,
    where chunks are scored, of the drift.

    Scores of single chunks have no column: the drift sums them up.
    """
    shown = columns(found)
    entries = {marked(found, name): each for name, each in found["recipes"].items()}
    names = dict(zip(found["recipes"], entries, strict=True))
    head = ["recipe", f"gain in {shown[0]} (95 %)", "better / equal / worse", *shown]
    tables = [_table(head, [[name, *_gain(each["metrics"], shown)] for name, each in entries.items()])]
    if "regret" in found:
        tables.append(_regrets(found["regret"], names))
    tables.append(_costs({name: each["cost"] for name, each in entries.items()}))
    if drift := found.get("drift"):
        ends = [f"chunk {number_of(drift[end])}" for end in ("early", "last")]
        cells = [
            [
                names[name],
                *(f"{each[end]:.3f}" for end in ("early", "last")),
                *map(interval, (each["lost"], each["saved"])),
            ]
            for name, each in drift["recipes"].items()
        ]
        tables.append(_table(["drift", *ends, "lost (95 %)", "lost less than the first (95 %)"], cells))
    tables += [text for key, text in (("oracle", ORACLE), ("circular", CIRCULAR)) if found.get(key)]
    return "\n".join(tables)


def marked(found: Mapping[str, Any], recipe: str) -> str:
    """A recipe's name for a table, with a mark where its figures do not measure a search."""
    marks = [mark for mark in MARKS if recipe in found.get(mark, ())]
    return f"{recipe} ({MARKS[marks[0]]})" if marks else recipe


def columns(found: Mapping[str, Any]) -> list[str]:
    """The metrics that tables show."""
    return [name for name in next(iter(found["recipes"].values()))["metrics"] if not CHUNK.fullmatch(name)]


def interval(values: Mapping[str, float] | None) -> str:
    """`+0.108 [+0.063, +0.159]`; nothing where there is none."""
    return f"{values['mean']:+.3f} [{values['low']:+.3f}, {values['high']:+.3f}]" if values else ""


def _table(head: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, ["---"] * len(head), *cells))


def _regrets(found: Mapping[str, Any], names: Mapping[str, str]) -> str:
    head = [f"regret in {found['metric']}", "regret (95 %)", "against"]
    each = found["recipes"].items()
    return _table(head, [[names[name], interval(entry["regret"]), regret.against(entry)] for name, entry in each])


def _costs(costs: Mapping[str, Mapping[str, float]]) -> str:
    kinds = list(dict.fromkeys(kind for cost in costs.values() for kind in cost))
    cells = [[name, *(f"{cost[kind]:g}" if kind in cost else "" for kind in kinds)] for name, cost in costs.items()]
    return _table(["per video", *(kind.replace("_", " ") for kind in kinds)], cells)


def _gain(metrics: Mapping[str, Any], shown: Sequence[str]) -> list[str]:
    """The gain in the first metric, its wins, and the mean of every metric."""
    values = metrics[shown[0]] or {"gain": None, "wins": None}
    wins = " / ".join(str(count) for count in values["wins"].values()) if values["gain"] else ""
    means = ["" if metrics[name] is None else f"{metrics[name]['mean']['mean']:.3f}" for name in shown]
    return [interval(values["gain"]), wins, *means]
