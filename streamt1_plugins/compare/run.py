"""Generate and judge every (recipe, prompt, seed); a result file that can be continued after any interruption."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch

from streamt1_plugins import parts
from streamt1_plugins.errors import RecipeError
from streamt1_plugins.hooks import discovery
from streamt1_plugins.pipeline import StreamPipeline, load, wrap
from streamt1_plugins.reward import RewardInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from streamt1_plugins.contracts import Run
    from streamt1_plugins.recipe import Recipe
    from streamt1_plugins.reward import Reward

RESULTS = "results.jsonl"


@dataclass(frozen=True)
class Comparison:
    """What to compare: recipes by label, prompts, seeds, a judge (a reward by name), arguments of the calls."""

    recipes: Mapping[str, Recipe]
    prompts: Sequence[str]
    seeds: Sequence[int]
    judge: str
    model: str | None = None
    call: Mapping[str, Any] | None = None
    allow_circular: bool = False


def run(comparison: Comparison, out: Path) -> Iterator[dict[str, Any]]:
    """Yield one row per video, appended to ``out/results.jsonl`` as it is made; rows already there are not redone."""
    refuse_circular(comparison)
    out.mkdir(parents=True, exist_ok=True)
    done = {(row["recipe"], row["prompt"], row["seed"]) for row in read(out)}
    judge = parts.build(discovery().rewards[comparison.judge], {}, "judge")
    judge.load("cpu")
    shared: StreamPipeline | None = None
    for label, recipe in comparison.recipes.items():
        shared = _pipeline(comparison, recipe, shared)
        for seed in comparison.seeds:
            for prompt in comparison.prompts:
                if (label, prompt, seed) not in done:
                    row = {
                        "recipe": label,
                        "prompt": prompt,
                        "seed": seed,
                        **one(shared, judge, prompt, seed, comparison),
                    }
                    append(out, row)
                    yield row


def append(out: Path, row: dict[str, Any]) -> None:
    """Add one row; a torn line left by a killed process is closed first, so that it spoils only itself."""
    path = out / RESULTS
    torn = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
    with path.open("a", encoding="utf-8") as file:
        file.write(("\n" if torn else "") + json.dumps(row) + "\n")


def read(out: Path) -> list[dict[str, Any]]:
    """The rows of a result folder; lines a killed process left torn are ignored."""
    path = out / RESULTS
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]


def refuse_circular(comparison: Comparison) -> None:
    """A judge that a recipe selects on proves nothing. Raises `RecipeError` unless that was allowed."""
    for label, recipe in comparison.recipes.items():
        if comparison.judge in {*recipe.rewards.short, *recipe.rewards.long} and not comparison.allow_circular:
            raise RecipeError(f"{label} selects on {comparison.judge!r}, so {comparison.judge!r} cannot judge it.")


def one(pipe: StreamPipeline, judge: Reward, prompt: str, seed: int, comparison: Comparison) -> dict[str, Any]:
    """Generate one video and judge it; ``judge`` holds `score` and the judge's parts."""
    generator = torch.Generator().manual_seed(seed)
    start = perf_counter()
    pipe(prompt, generator=generator, **{"output_type": "latent", **(comparison.call or {})})
    seconds = perf_counter() - start
    run = pipe.last_run
    return {
        "seconds": round(seconds, 3),
        "judge": verdict(judge, run),
        "cost": asdict(run.cost),
        "notes": list(run.tree.notes),
    }


def verdict(judge: Reward, run: Run) -> dict[str, float | None]:
    """The judge's score and parts of the winner's whole video; None where a part does not apply."""
    frames = torch.cat(run.beams[0].history.frames).unsqueeze(0)
    last = run.session.num_chunks - 1
    inp = RewardInput(frames, (run.prompt,), run.session.fps, last, last + 1, slice(0, frames.shape[1]))
    with torch.inference_mode():
        output = judge.score(inp)
    values = {"score": output.scores, **output.parts}
    return {name: None if math.isnan(float(value[0])) else round(float(value[0]), 5) for name, value in values.items()}


def _pipeline(comparison: Comparison, recipe: Recipe, shared: StreamPipeline | None) -> StreamPipeline:
    if shared is None:
        return load(comparison.model, recipe)
    return wrap(shared.pipe, recipe, adapter=shared.recipe.adapter.name)
