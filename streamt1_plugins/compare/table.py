"""The figures of a comparison from its rows: the judge's metrics by recipe, gains over the first recipe, and costs."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, Any

from streamt1_plugins.compare import drift
from streamt1_plugins.compare.stats import bootstrap, column, grouped, paired, wins

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

COSTS = ("candidates", "forwards", "latent_frames_decoded", "reward_calls")


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
    return found | ({"circular": circular} if circular else {}) | drift.summary(rows, recipes)


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
        "mean": bootstrap(grouped(own)).as_dict(),
        "gain": bootstrap(gains).as_dict() if gains and recipe != base else None,
        "wins": wins(gains) if recipe != base else None,
    }


def markdown(found: Mapping[str, Any], metrics: Sequence[str] | None = None) -> str:
    """Tables of the metrics (with the gain in the first one), of the costs and, where chunks are scored, of the drift.

    Scores of single chunks have no column: the drift sums them up.
    """
    recipes = found["recipes"]
    shown = list(metrics or columns(found))
    names = {name: f"{name} (circular)" if name in found.get("circular", ()) else name for name in recipes}
    head = ["recipe", f"gain in {shown[0]} (95 %)", "better / equal / worse", *shown]
    lines = [_line(head), _line(["---"] * len(head))]
    lines += [_line([names[name], *_gain(entry, shown[0]), *_means(entry, shown)]) for name, entry in recipes.items()]
    costs = list(next(iter(recipes.values()))["cost"])
    lines += ["", _line(["per video", *(cost.replace("_", " ") for cost in costs)]), _line(["---"] * (len(costs) + 1))]
    lines += [_line([names[name], *(f"{e['cost'][cost]:g}" for cost in costs)]) for name, e in recipes.items()]
    lines += _drift(found, names)
    if found.get("circular"):
        lines += [
            "",
            "circular: the recipe selects on the judge, so its figures do not measure the quality of its videos.",
        ]
    return "\n".join(lines) + "\n"


def columns(found: Mapping[str, Any]) -> list[str]:
    """The metrics that tables show."""
    return [name for name in next(iter(found["recipes"].values()))["metrics"] if not drift.CHUNK.fullmatch(name)]


def _drift(found: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    if "drift" not in found:
        return []
    early, last = (found["drift"][end].replace("_", " ") for end in ("early", "last"))
    lines = ["", _line(["drift", early, last, "lost (95 %)", "lost less than the first (95 %)"]), _line(["---"] * 5)]
    for name, entry in found["drift"]["recipes"].items():
        intervals = [interval(entry[key]) for key in ("lost", "saved")]
        lines.append(_line([names[name], f"{entry['early']:.3f}", f"{entry['last']:.3f}", *intervals]))
    return lines


def interval(values: Mapping[str, float] | None) -> str:
    """`+0.108 [+0.063, +0.159]`; nothing where there is none."""
    return f"{values['mean']:+.3f} [{values['low']:+.3f}, {values['high']:+.3f}]" if values else ""


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _gain(entry: Mapping[str, Any], metric: str) -> list[str]:
    values = entry["metrics"][metric]
    if values is None or values["gain"] is None:
        return ["", ""]
    count = values["wins"]
    return [interval(values["gain"]), f"{count['better']} / {count['equal']} / {count['worse']}"]


def _means(entry: Mapping[str, Any], metrics: Sequence[str]) -> list[str]:
    return ["" if entry["metrics"][m] is None else f"{entry['metrics'][m]['mean']['mean']:.3f}" for m in metrics]
