"""Generate and judge every (recipe, prompt, seed); a result file that can be continued after any interruption."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from hashlib import sha256
from itertools import groupby
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch

from streamt1_plugins.api.reward import RewardInput
from streamt1_plugins.compare import conditions
from streamt1_plugins.errors import OutputError, RecipeError
from streamt1_plugins.pipeline import StreamPipeline, load, wrap
from streamt1_plugins.plugins import build
from streamt1_plugins.plugins.discovery import discovery
from streamt1_plugins.plugins.resolve import resolve
from streamt1_plugins.runs.report import strips

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from streamt1_plugins.api.reward import Reward
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.compare.comparison import Comparison
    from streamt1_plugins.config.schema import Recipe

RESULTS = "results.jsonl"
SHOWN, HEIGHT, QUALITY = 10, 96, 80
"""A strip: frames in a row, pixels they are high at most, JPEG quality."""


class Pipelines:
    """The model, loaded once and wrapped for one recipe after another."""

    def __init__(self, model: str | None) -> None:
        self._model = model
        self._last: StreamPipeline | None = None

    def __call__(self, recipe: Recipe) -> StreamPipeline:
        """The pipeline that runs this recipe."""
        last = self._last
        self._last = load(self._model, recipe) if last is None else wrap(last.pipe, recipe, adapter=_adapter(last))
        return self._last


def _adapter(pipe: StreamPipeline) -> str | None:
    return pipe.recipe.adapter.name


def missing(comparison: Comparison, out: Path) -> list[tuple[str, str, int]]:
    """The (recipe, prompt, seed) that ``out/results.jsonl`` has no row of, in the order they are made in."""
    done = {(row["recipe"], row["prompt"], row["seed"]) for row in read(out)}
    wanted = (
        (label, prompt, seed)
        for label in comparison.recipes
        for seed in comparison.seeds
        for prompt in comparison.prompts
    )
    return [each for each in wanted if each not in done]


def run(comparison: Comparison, out: Path, pipelines: Pipelines | None = None) -> Iterator[dict[str, Any]]:
    """Yield one row per video, appended to ``out/results.jsonl`` as it is made; rows already there are not redone."""
    marked = circular(comparison)
    make_folder(out)
    conditions.keep(comparison, out)
    judge = build.instance(discovery().rewards[comparison.judge], {}, "judge")
    judge.load("cpu")
    pipelines = pipelines or Pipelines(comparison.model)
    for label, wanted in groupby(missing(comparison, out), key=lambda each: each[0]):
        pipe = pipelines(comparison.recipes[label])
        for _, prompt, seed in wanted:
            row = {"recipe": label, "prompt": prompt, "seed": seed} | one(pipe, judge, prompt, seed, comparison)
            row["strip"] = keep_strip(out, row, pipe.last_run)
            if label in marked:
                row["circular"] = True
            append(out, row)
            yield row


def make_folder(out: Path) -> None:
    """The folder for results; `OutputError` where there can be none."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out} cannot hold results: {error.strerror or error}.") from error


def append(out: Path, row: Mapping[str, Any], name: str = RESULTS) -> None:
    """Add one row; a torn line left by a killed process is closed first, so that it spoils only itself."""
    path = out / name
    torn = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
    with path.open("a", encoding="utf-8") as file:
        file.write(("\n" if torn else "") + json.dumps(row) + "\n")


def read(out: Path, name: str = RESULTS) -> list[dict[str, Any]]:
    """The rows of a result folder; lines a killed process left torn are ignored."""
    path = out / name
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]


def circular(comparison: Comparison) -> set[str]:
    """The recipes that select on the judge, which proves nothing: `RecipeError`, unless that was allowed.

    Rewards that the adapter suggests count too, and so does the judge under another name.
    """
    known = discovery().rewards
    target = known[comparison.judge].path
    found = set()
    for label, recipe in comparison.recipes.items():
        rewards = resolve(recipe, comparison.model).rewards if recipe.search.is_wide else recipe.rewards
        if any(name == comparison.judge or known[name].path == target for name in {*rewards.short, *rewards.long}):
            found.add(label)
            if not comparison.allow_circular:
                raise RecipeError(
                    f"{label} selects on {comparison.judge!r}, so {comparison.judge!r} cannot judge it. "
                    "--circular compares all the same and marks the recipe."
                )
    return found


def keep_strip(out: Path, row: Mapping[str, Any], run: Run) -> str:
    """A few frames of the winner in a small JPEG; its path inside `out`."""
    name = sha256(f"{row['recipe']}\n{row['seed']}\n{row['prompt']}".encode("utf-8", "replace")).hexdigest()[:16]
    path = out / strips.FOLDER / f"{name}.jpg"
    path.parent.mkdir(exist_ok=True)
    frames = torch.cat(run.beams[0].history.frames)
    strips.draw(frames, SHOWN, HEIGHT).save(path, "JPEG", quality=QUALITY, optimize=True)
    return f"{strips.FOLDER}/{path.name}"


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
