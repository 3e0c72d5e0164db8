"""The figures of a comparison from its rows: the judge's metrics by recipe, gains over the first recipe, and costs."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, Any

from streamt1_plugins.compare.drift import CHUNK, number_of
from streamt1_plugins.compare.drift import summary as drift_summary
from streamt1_plugins.compare.stats import column, figures, grouped, paired, wins

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

COSTS = ("candidates", "forwards", "latent_frames_decoded", "reward_calls")
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
    return found | ({"circular": circular} if circular else {}) | drift_summary(rows, recipes)


def _recipe(rows: Sequence[Mapping[str, Any]], recipe: str, base: str, metrics: Sequence[str]) -> dict[str, Any]:
    own = [row for row in rows if row["recipe"] == recipe]
    return {
        "videos": len(own),
        "metrics": {metric: _metric(rows, recipe, base, metric) for metric in metrics},
        "cost": {name: round(fmean(row["cost"][name] for row in own), 2) for name in COSTS}
        | {"seconds": round(fmean(row["seconds"] for row in own), 2)}
        | {"reward_seconds": round(fmean(row["cost"]["seconds"].get("reward", 0.0) for row in own), 2)},
    }


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
    """Tables of the metrics (with the gain in the first one), of the costs and, where chunks are scored, of the drift.

    Scores of single chunks have no column: the drift sums them up.
    """
    shown, circular = columns(found), found.get("circular", ())
    entries = {f"{name} (circular)" if name in circular else name: each for name, each in found["recipes"].items()}
    head = ["recipe", f"gain in {shown[0]} (95 %)", "better / equal / worse", *shown]
    tables = [_table(head, [[name, *_gain(each["metrics"], shown)] for name, each in entries.items()])]
    costs = {name: each["cost"] for name, each in entries.items()}
    head = ["per video", *(cost.replace("_", " ") for cost in next(iter(costs.values())))]
    tables.append(_table(head, [[name, *(f"{value:g}" for value in cost.values())] for name, cost in costs.items()]))
    if drift := found.get("drift"):
        ends = [f"chunk {number_of(drift[end])}" for end in ("early", "last")]
        names = dict(zip(found["recipes"], entries, strict=True))
        cells = [
            [
                names[name],
                *(f"{each[end]:.3f}" for end in ("early", "last")),
                *map(interval, (each["lost"], each["saved"])),
            ]
            for name, each in drift["recipes"].items()
        ]
        tables.append(_table(["drift", *ends, "lost (95 %)", "lost less than the first (95 %)"], cells))
    if circular:
        tables.append(CIRCULAR)
    return "\n".join(tables)


def columns(found: Mapping[str, Any]) -> list[str]:
    """The metrics that tables show."""
    return [name for name in next(iter(found["recipes"].values()))["metrics"] if not CHUNK.fullmatch(name)]


def interval(values: Mapping[str, float] | None) -> str:
    """`+0.108 [+0.063, +0.159]`; nothing where there is none."""
    return f"{values['mean']:+.3f} [{values['low']:+.3f}, {values['high']:+.3f}]" if values else ""


def _table(head: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, ["---"] * len(head), *cells))


def _gain(metrics: Mapping[str, Any], shown: Sequence[str]) -> list[str]:
    """The gain in the first metric, its wins, and the mean of every metric."""
    values = metrics[shown[0]] or {"gain": None, "wins": None}
    wins = " / ".join(str(count) for count in values["wins"].values()) if values["gain"] else ""
    means = ["" if metrics[name] is None else f"{metrics[name]['mean']['mean']:.3f}" for name in shown]
    return [interval(values["gain"]), wins, *means]
