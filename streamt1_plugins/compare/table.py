"""From rows to figures: per recipe the judge's metrics, gains over the first recipe, and the cost."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, Any

from streamt1_plugins.compare.stats import bootstrap, column, paired, wins

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

COSTS = ("candidates", "forwards", "latent_frames_decoded", "reward_calls")


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Everything the report shows, as plain data. The first recipe of the rows is the base of all gains."""
    recipes = list(dict.fromkeys(row["recipe"] for row in rows))
    metrics = list(dict.fromkeys(name for row in rows for name in row["judge"]))
    return {
        "base": recipes[0],
        "prompts": len({row["prompt"] for row in rows}),
        "seeds": sorted({row["seed"] for row in rows}),
        "recipes": {recipe: _recipe(rows, recipe, recipes[0], metrics) for recipe in recipes},
    }


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
    """Mean and gain with intervals; None where the judge never gave this metric."""
    own = column(rows, recipe, metric)
    if not own:
        return None
    by_prompt: dict[str, list[float]] = {}
    for (prompt, _), value in own.items():
        by_prompt.setdefault(prompt, []).append(value)
    gains = paired(column(rows, base, metric), own)
    return {
        "mean": bootstrap(by_prompt).as_dict(),
        "gain": bootstrap(gains).as_dict() if gains and recipe != base else None,
        "wins": wins(gains) if recipe != base else None,
    }


def markdown(found: Mapping[str, Any], metrics: Sequence[str] | None = None) -> str:
    """Two tables: the judge's metrics with the gain of the first metric, and what it cost."""
    recipes = found["recipes"]
    shown = list(metrics or next(iter(recipes.values()))["metrics"])
    head = ["recipe", f"gain in {shown[0]} (95 %)", "better / equal / worse", *shown]
    lines = [_line(head), _line(["---"] * len(head))]
    lines += [_line([name, *_gain(entry, shown[0]), *_means(entry, shown)]) for name, entry in recipes.items()]
    costs = list(next(iter(recipes.values()))["cost"])
    lines += ["", _line(["per video", *(cost.replace("_", " ") for cost in costs)]), _line(["---"] * (len(costs) + 1))]
    lines += [_line([name, *(f"{entry['cost'][cost]:g}" for cost in costs)]) for name, entry in recipes.items()]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _gain(entry: Mapping[str, Any], metric: str) -> list[str]:
    values = entry["metrics"][metric]
    if values is None or values["gain"] is None:
        return ["", ""]
    gain, count = values["gain"], values["wins"]
    interval = f"{gain['mean']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]"
    return [interval, f"{count['better']} / {count['equal']} / {count['worse']}"]


def _means(entry: Mapping[str, Any], metrics: Sequence[str]) -> list[str]:
    return ["" if entry["metrics"][m] is None else f"{entry['metrics'][m]['mean']['mean']:.3f}" for m in metrics]
