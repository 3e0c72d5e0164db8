"""Fits the weights of a recipe's rewards to a judge, and writes them as a recipe that extends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamt1_plugins.compare import agreement
from streamt1_plugins.compare.comparison import Comparison
from streamt1_plugins.compare.run import Pipelines, read, run
from streamt1_plugins.config import yaml12
from streamt1_plugins.config.load import load
from streamt1_plugins.config.merge import merged
from streamt1_plugins.config.user_files import user_path
from streamt1_plugins.errors import InputError, shown
from streamt1_plugins.pipeline import StreamPipeline

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from streamt1_plugins.config.schema import Recipe

HOW = (
    "calibration: (raw - mean) / spread, the spread among the candidates of a chunk. weight: the rank correlation with",
    "the judge among them, 0 where it is negative. Fitted once, on these prompts: nothing is fitted at run time.",
)


@dataclass(frozen=True)
class FittedWeights:
    """Weights of rewards, fitted to a judge.

    rewards: by horizon and name, as in `long.tinyalign`: `correlation` with its interval, `mean`, `spread`, `weight`.
    fitted: the recipe whose candidates were judged. videos: how many.
    """

    rewards: Mapping[str, Mapping[str, Any]]
    judge: str
    fitted: Recipe
    videos: int

    @property
    def keys(self) -> dict[str, Any]:
        """The section `rewards` of a recipe: weight and calibration of each reward that ranks candidates."""
        found: dict[str, Any] = {}
        for key, each in self.rewards.items():
            horizon, _, name = key.partition(".")
            if each["weight"] is not None:
                calibration = {"mean": each["mean"], "std": each["spread"]}
                found.setdefault(horizon, {})[name] = {"weight": each["weight"], "calibration": calibration}
        return found

    @property
    def recipe(self) -> Recipe:
        """The fitted recipe with these weights, for `wrap` and `load`."""
        return load(merged(self.fitted.to_data(), {"rewards": self.keys})).traced(self.fitted.origin)

    def to_yaml(self, extends: str) -> str:
        """A recipe file that extends another one by weights and calibrations alone, with the table as comments."""
        head = f"Weights of the rewards of {extends}, fitted to {self.judge} on the candidates of {self.videos} videos."
        lines = [head, *HOW, *table(self.rewards)]
        data = {"extends": extends, "rewards": self.keys}
        return "".join(f"# {line}\n" for line in lines) + yaml12.write(data)


def table(rewards: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The correlations, means, spreads and weights as aligned lines."""
    width = max(map(len, rewards), default=0)
    found = [f"{'reward':{width}}  rank correlation (95 %)      mean    spread  weight"]
    for name, each in rewards.items():
        own = each["correlation"]
        text = f"{own['mean']:+.3f} [{own['low']:+.3f}, {own['high']:+.3f}]" if own else "never ranks"
        weight = "as it is" if each["weight"] is None else f"{each['weight']:.4g}"
        middle = "" if each["mean"] is None else f"{each['mean']:.3g}"
        found.append(f"{name:{width}}  {text:23}  {middle:>8}  {each['spread']:8.3g}  {weight}")
    return found


def fitted(rows: Sequence[Mapping[str, Any]], label: str, judge: str, recipe: Recipe) -> FittedWeights:
    """The weights that the rows of a recipe lead to. Raises `InputError` where no reward has one."""
    own = [row for row in rows if row["recipe"] == label and row.get(agreement.KEY)]
    found = FittedWeights(agreement.of_recipe(own), judge, recipe, len(own))
    if not found.keys:
        listed = "\n".join(["", *table(found.rewards)]) if found.rewards else ""
        raise InputError(f"No reward of {label} ranks candidates like {judge!r}, so there are no weights.{listed}")
    return found


def check_judged(out: Path, label: str) -> None:
    """Raise `InputError` where the folder has videos of a recipe whose candidates were not judged."""
    without = sum(row["recipe"] == label and agreement.KEY not in row for row in read(out))
    if without:
        raise InputError(
            f"{out} holds {without} videos of {label} whose candidates were not judged, so no weights follow from "
            "them. Use another folder."
        )


def fit_weights(
    pipe: StreamPipeline, prompts: Sequence[str], judge: str, out: Path | str, *, seeds: int = 1, **call: Any
) -> FittedWeights:
    """Weights for the rewards of a wrapped pipeline, by how far each ranks candidates like `judge`, a reward by name.

    Makes a video of every prompt and seed, in the folder `out`, which the next call continues where this one was
    interrupted; the judge scores every candidate. Fit on other prompts than you measure on. call: arguments of the
    pipeline's call, such as `num_frames`. ``wrap(pipe, found.recipe)`` uses the weights. Raises `InputError` for a
    pipeline that does not search, and where no reward ranks like the judge.
    """
    if not isinstance(pipe, StreamPipeline):
        raise InputError(f"`fit_weights` takes a wrapped pipeline, got {type(pipe).__name__}: wrap it first.")
    if isinstance(prompts, str) or not prompts or not all(isinstance(each, str) and each for each in prompts):
        raise InputError(f"`prompts` has to be a list of texts, at least one, got {shown(prompts)}.")
    if isinstance(seeds, bool) or not isinstance(seeds, int) or seeds < 1:
        raise InputError(f"`seeds` has to be a count from 1 on, got {shown(seeds)}.")
    check_searches(pipe.recipe, "this pipeline's recipe")
    if pipe.given.rewards or pipe.given.policies:
        raise InputError(
            "`fit_weights` writes a recipe, which names its rewards and policies, and this pipeline was given objects. "
            "Register them, for example with streamt1 --plugin FILE or STREAMT1_PLUGINS, and name them in a recipe."
        )
    label, folder, pipelines = pipe.recipe.origin.name or "recipe", user_path(out), OwnPipeline(pipe)
    comparison = Comparison(
        {label: pipe.recipe},
        list(dict.fromkeys(prompts)),
        range(seeds),
        judge,
        pipe.recipe.model or type(pipe.pipe).__name__,
        call,
        device=pipelines.device,
        fitted=label,
    )
    check_judged(folder, label)
    for _ in run(comparison, folder, pipelines):
        pass
    wanted = set(comparison.prompts)
    rows = [row for row in read(folder) if row["prompt"] in wanted]
    return fitted(rows, label, judge, pipe.recipe)


def check_searches(recipe: Recipe, name: str) -> None:
    """Raise `InputError` where a recipe has one candidate per chunk, which nothing ranks."""
    if not recipe.search.is_wide:
        raise InputError(
            f"Weights are fitted on candidates, and {name} makes one per chunk: name a recipe that searches."
        )


class OwnPipeline(Pipelines):
    """One pipeline that its caller has wrapped, with the caller's rewards and policies."""

    def __init__(self, pipe: StreamPipeline) -> None:
        self._own, self.device = pipe, str(getattr(pipe.pipe, "device", "cpu"))

    def __call__(self, recipe: Recipe, observers: Mapping[str, object] | None = None) -> StreamPipeline:
        """The caller's pipeline; `recipe` is its own."""
        return StreamPipeline(self._own.pipe, recipe, observers or {}, self._own.given)
