"""What the page shows of scores: a number and a tone for every candidate, and what a score means."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from streamt1_plugins.api.types import HORIZONS
from streamt1_plugins.runs.report.layout import by_chunk

if TYPE_CHECKING:
    from streamt1_plugins.api.tree import Tree
    from streamt1_plugins.api.types import Horizon, Node
    from streamt1_plugins.config.rewards import RewardPart
    from streamt1_plugins.config.schema import Recipe

TONES = 9
"""Steps of the color scale, from the worst to the best; page.css mixes its colors in as many."""
ORDINARY = 0.95
"""Share of the candidates within the color scale; it ends there, so that one outlier does not make all others alike."""

Value = Callable[["Node"], float]
_SCALES = {
    "none": "raw",
    "running": "standardised over the run",
    "group": "standardised within a chunk",
    "rank": "ranks within a chunk",
    "fixed": "standardised with fixed numbers",
}
_MEANINGS = {
    "none": "Scores are made of the rewards' raw readings.",
    "running": (
        "Scores are standardised: 0 is the mean of all readings up to that chunk, 1 is a standard deviation above it. "
        "They compare the candidates of a chunk. As the mean moves with the run, a curve that falls does not show that "
        "the video gets worse; the raw readings below show how it changes."
    ),
    "group": (
        "Scores are standardised within each chunk: 0 is the mean of its candidates, 1 is a standard deviation above "
        "it. They do not compare chunks; the raw readings below do."
    ),
    "rank": (
        "Scores are ranks: the share of a chunk's candidates that a candidate is better than. They do not compare "
        "chunks; the raw readings below do."
    ),
    "fixed": (
        "Scores are standardised with the `mean` and `std` of the recipe: 0 is that mean, 1 is a standard deviation "
        "above it. The raw readings are below."
    ),
}


@dataclass(frozen=True)
class Shown:
    """The number of a candidate: its `score`; else what was measured before it was pruned; NaN where nothing was.

    source: `score`, or the horizon that `value` is the mean of: the long one where it was measured, else the short one.
    tone: a step of the color scale, None without a score.
    """

    value: float
    source: Literal["score"] | Horizon
    tone: int | None = None


@dataclass(frozen=True)
class Scale:
    """The color scale: `tones` by candidate id; `reach`: how far from its chunk's mean a score has the last tone."""

    tones: dict[str, int]
    reach: float


def shown(tree: Tree, scale: Scale) -> dict[str, Shown]:
    """What to show of every candidate, by id."""
    return {node.id: _shown(node, scale.tones.get(node.id)) for node in tree}


def _shown(node: Node, tone: int | None) -> Shown:
    if node.is_scored:
        return Shown(node.score, "score", tone)
    source: Horizon = "long" if math.isfinite(node.long) else "short"
    return Shown(getattr(node, source) if node.readings else math.nan, source)


def scale(tree: Tree) -> Scale:
    """Tones by the distance of a score from the mean of its chunk, which is what decides."""
    chunks = [[node for node in nodes if node.is_scored] for nodes in by_chunk(tree).values()]
    means = {node.id: fmean(each.score for each in nodes) for nodes in chunks for node in nodes}
    apart = {name: tree.nodes[name].score - mean for name, mean in means.items()}
    sizes = sorted(map(abs, apart.values()))
    reach = sizes[math.ceil(ORDINARY * len(sizes)) - 1] if sizes else 0.0
    return Scale({name: _tone(each / reach if reach > 0 else 0.0) for name, each in apart.items()}, reach)


def _tone(share: float) -> int:
    return round((min(max(share, -1.0), 1.0) + 1) / 2 * (TONES - 1))


def readings(recipe: Recipe, tree: Tree) -> list[tuple[Horizon, str]]:
    """(horizon, reward) of the recipe's rewards, short ones first, and of those that only the candidates name."""
    asked = [(horizon, name) for horizon in HORIZONS for name in getattr(recipe.rewards, horizon)]
    found = ((horizon, name) for node in tree for horizon in HORIZONS for name in node.readings.get(horizon, {}))
    return list(dict.fromkeys([*asked, *found]))


def raw(horizon: Horizon, name: str) -> Value:
    """The raw reading of a whole candidate; NaN where there is none: a preview's would be another measure."""

    def value(node: Node) -> float:
        reading = node.readings.get(horizon, {}).get(name)
        return reading.raw if reading is not None and node.is_finished else math.nan

    return value


def score(node: Node) -> float:
    """The score of a candidate, NaN where it has none that counts."""
    return node.score if node.is_scored else math.nan


def is_standardised(recipe: Recipe) -> bool:
    """Whether 0 is the mean of something: the reading of a reward that decides is standardised."""
    return any(_calibration(each) in ("running", "group", "fixed") for each in _deciding(recipe).values())


def meaning(recipe: Recipe) -> str:
    """What the scores of a run are, in a few sentences; empty without a reward that decides."""
    kinds = {name: _calibration(each) for name, each in _deciding(recipe).items()}
    if len(set(kinds.values())) <= 1:
        return "".join(_MEANINGS[kind] for kind in set(kinds.values()))
    parts = ", ".join(f"{name} ({_SCALES[kind]})" for name, kind in kinds.items())
    return f"Scores mix readings on different scales: {parts}. The raw readings below show how the video changes."


def _deciding(recipe: Recipe) -> dict[str, RewardPart]:
    named = [(horizon, getattr(recipe.rewards, horizon)) for horizon in HORIZONS]
    return {f"{name}, {horizon}": each for horizon, own in named for name, each in own.items() if each.weight > 0}


def _calibration(part: RewardPart) -> str:
    return part.calibration if isinstance(part.calibration, str) else "fixed"
