"""Generates and judges every (recipe, prompt, seed), into a folder that a later call can continue."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import asdict
from io import BytesIO
from itertools import groupby
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

import torch

from streamt1_plugins.api.reward import RewardInput
from streamt1_plugins.compare import scenes, videos
from streamt1_plugins.compare.agreement import CandidateJudge
from streamt1_plugins.compare.comparison import CONDITIONS
from streamt1_plugins.errors import InputError, OutputError, PluginError, RecipeError, StreamT1Error, foreign_code
from streamt1_plugins.evaluation.outputs import checked
from streamt1_plugins.pipeline import StreamPipeline, load, wrap
from streamt1_plugins.plugins import build
from streamt1_plugins.plugins.check import Checked, readable
from streamt1_plugins.plugins.discovery import discovery
from streamt1_plugins.plugins.resolve import resolve
from streamt1_plugins.process.placement import chosen, place
from streamt1_plugins.process.state import process_kept
from streamt1_plugins.process.threads import limited
from streamt1_plugins.runs.files import alone_with, write_atomically
from streamt1_plugins.runs.report import strips

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from streamt1_plugins.api.adapter import Session
    from streamt1_plugins.api.reward import Reward
    from streamt1_plugins.compare.comparison import Comparison
    from streamt1_plugins.config.prompt_file import PromptLine
    from streamt1_plugins.config.schema import Recipe

    OnFailure = Callable[[tuple[str, str, int], StreamT1Error], None]

RESULTS = "results.jsonl"
LONGEST = 60.0
"""Seconds that one process waits for another one to write what their rows have in common."""
SHOWN, HEIGHT, QUALITY = 10, 96, 80
"""Of a strip: the frames in a row, their greatest height in pixels, the JPEG quality."""


class Pipelines:
    """Pipelines by recipe, around one model that is loaded once, on one device."""

    def __init__(
        self, model: str | None, device: str | None = None, observers: Mapping[str, object] | None = None
    ) -> None:
        """`device`: by default `cuda` where there is one, else the CPU. Raises `InputError` where it is not there.

        observers: of every run.
        """
        self._model, self.device, self._observers = model, chosen(device), observers or {}
        self._last: StreamPipeline | None = None

    def __call__(self, recipe: Recipe, observers: Mapping[str, object] | None = None) -> StreamPipeline:
        """The pipeline that runs this recipe, with `observers` beside those of every run."""
        last, watching = self._last, {**self._observers, **(observers or {})}
        if last is None:
            self._last = load(self._model, recipe, device=self.device, observers=watching)
        else:
            self._last = wrap(last.pipe, recipe, adapter=last.recipe.adapter.name, observers=watching)
            if self._last.recipe.placement != last.recipe.placement:
                place(last.pipe, recipe.placement, self.device)
        return self._last


def missing(comparison: Comparison, out: Path) -> list[tuple[str, str, int]]:
    """The (recipe, prompt, seed) without a row in ``out/results.jsonl``, in the order of generation."""
    done = {(row["recipe"], row["prompt"], row["seed"]) for row in read(out)}
    wanted = (
        (label, prompt, seed)
        for label in comparison.recipes
        for seed in comparison.seeds
        for prompt in comparison.prompts
    )
    return [each for each in wanted if each not in done]


def run(
    comparison: Comparison,
    out: Path,
    pipelines: Pipelines | None = None,
    failed: OnFailure | None = None,
    videos_mb: float = videos.LIMIT,
) -> Iterator[dict[str, Any]]:
    """Yield a row per missing video, after appending it to ``out/results.jsonl``.

    A video that another process makes meanwhile is left to it. failed: called with each video that cannot be made or
    judged, and the error; the others are made. Without it the first error is raised. videos_mb: the most that the kept
    videos take together, in megabytes.
    """
    circular = circular_recipes(comparison)
    make_folder(out)
    with alone_with(out / CONDITIONS, wait=LONGEST):
        comparison.record_to(out)
    judge = judge_of(comparison)
    pipelines = pipelines or Pipelines(comparison.model, comparison.device)
    with process_kept(), foreign_code(f"Loading judge {comparison.judge!r}"):
        judge.load(pipelines.device)
    for label, wanted in groupby(missing(comparison, out), key=lambda each: each[0]):
        candidates = CandidateJudge(judge, comparison.judge) if label == comparison.fitted else None
        pipe = pipelines(comparison.recipes[label], {"judge": candidates} if candidates else {})
        for video in _free(comparison, out, wanted):
            _, prompt, seed = video
            try:
                with foreign_code("This video"):
                    row = {"recipe": label, "prompt": prompt, "seed": seed}
                    first, call = comparison.call_of(prompt)
                    row |= {"schedule": call["schedule"]} if "schedule" in call else {}
                    row |= generated(pipe, first, seed, call)
                    row |= candidates.added_to(row) if candidates else {}
                    made, source = pipe.last_run, f"Judge {comparison.judge!r}"
                    chunks = made.beams[0].history.frames
                    frames = torch.cat(chunks)
                    with limited(made.threads):
                        row["judge"] = scores(judge, frames, first, made.session, source, chunks)
            except StreamT1Error as error:
                if failed is None:
                    raise
                failed(video, error)
                continue
            row["strip"] = write_strip(out, row, frames)
            row |= videos.keep(out, row, frames, pipe.last_run.session.fps, videos_mb)
            if comparison.is_oracle(label):
                row["oracle"] = True
            elif label in circular:
                row["circular"] = True
            append(out, row)
            yield row


def _free(comparison: Comparison, out: Path, wanted: Iterable[tuple[str, str, int]]) -> Iterator[tuple[str, str, int]]:
    """Those of the videos that no other process makes or has made meanwhile; each is ours until the next is taken."""
    for video in wanted:
        row = dict(zip(("recipe", "prompt", "seed"), video, strict=True))
        with alone_with(out / videos.name_of(row)) as is_free:
            if is_free and video in missing(comparison, out):
                yield video


def judge_of(comparison: Comparison) -> Reward:
    """The comparison's judge. Raises `InputError` for one that needs more than a video."""
    judge: Reward = build.instance(discovery().rewards[comparison.judge], {}, "judge")
    if judge.denoiser_calls():
        raise InputError(f"{comparison.judge!r} judges with the model that made a video, so it cannot compare videos.")
    return judge


def checker(comparison: Comparison) -> Callable[[PromptLine], None]:
    """A function that raises `InputError` for a prompt that a recipe's model or rewards, or the judge, cannot read.

    Raises `InputError` where the recipes are for different models or sizes, a length is refused, or an observer would
    write all videos to one place.
    """
    judge = judge_of(comparison)
    recipes = {label: resolve(recipe, comparison.model) for label, recipe in comparison.recipes.items()}
    if len(models := {(recipe.model, recipe.adapter.name) for recipe in recipes.values()}) > 1:
        raise InputError(
            f"The recipes name different models ({', '.join(sorted(str(model) for model, _ in models))}), and a "
            "comparison runs one. Name it with --model, or compare recipes of one model."
        )
    _check_sizes(recipes, comparison.call or {})
    checks = [Checked.of(recipe, {}) for recipe in recipes.values()]
    for each in checks:
        if len(comparison.prompts) * len(comparison.seeds) > 1:
            build.refuse_single_places(each.added, "this comparison makes several with each recipe")
        each.call(comparison.call or {})

    def check(line: PromptLine) -> None:
        for prompt in line.prompts:
            readable(prompt, [(comparison.judge, judge)])
        for each in checks:
            each.prompt(line.prompt, {**(comparison.call or {}), **line.call})

    return check


def _check_sizes(recipes: Mapping[str, Recipe], call: Mapping[str, Any]) -> None:
    """Raise `InputError` where the recipes make videos of different sizes, which no score compares."""
    sizes = {label: {**recipe.video.given, **call} for label, recipe in recipes.items()}
    for name in sorted({name for each in sizes.values() for name in each}):
        found = {label: each.get(name) for label, each in sizes.items()}
        if len(set(found.values())) > 1:
            listed = ", ".join(f"{label}: {size or 'the default'}" for label, size in found.items())
            option = "--num-frames" if name == "num_frames" else f"-o video.{name}="
            raise InputError(
                f"The recipes make videos of different sizes ({name}: {listed}), which cannot be compared. Give "
                f"all the same with {option}."
            )


def make_folder(out: Path) -> None:
    """Make the folder for results. Raises `OutputError` where that fails."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out} cannot hold results: {error.strerror or error}.") from error


def append(out: Path, row: Mapping[str, Any], name: str = RESULTS) -> None:
    """Append a row; where a killed process left an unfinished line, that line is ended first."""
    path = out / name
    torn = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
    with path.open("ab", buffering=0) as file:  # in one piece, since other processes append too
        file.write((("\n" if torn else "") + json.dumps(row) + "\n").encode())


def read(out: Path, name: str = RESULTS) -> list[dict[str, Any]]:
    """The rows of a result folder, without lines that a killed process left unfinished."""
    path, rows = out / name, []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        with suppress(ValueError):  # a torn line may end with the bracket of an inner section
            rows.append(json.loads(line))
    return [row for row in rows if isinstance(row, dict)]


def circular_recipes(comparison: Comparison) -> set[str]:
    """The recipes that select on the judge, its oracle included. Raises `RecipeError` unless the comparison allows it.

    Rewards that the adapter suggests count too, and so does the judge under another name. An oracle is always allowed.
    """
    known = discovery().rewards
    target = known[comparison.judge].path
    found = set()
    for label, recipe in comparison.recipes.items():
        rewards = resolve(recipe, comparison.model).rewards if recipe.search.is_wide else recipe.rewards
        if any(name == comparison.judge or known[name].path == target for name in {*rewards.short, *rewards.long}):
            found.add(label)
            if not comparison.allow_circular and not comparison.is_oracle(label):
                raise RecipeError(
                    f"{label} selects on {comparison.judge!r}, so {comparison.judge!r} cannot judge it. "
                    "Use another judge, or allow it and mark the recipe with --circular."
                )
    return found


def generated(pipe: StreamPipeline, prompt: str, seed: int, call: Mapping[str, Any] | None) -> dict[str, Any]:
    """Generate one video: the seconds that it took, those of all processor cores together, its cost and its notes."""
    start = perf_counter(), process_time()
    pipe(prompt, generator=torch.Generator().manual_seed(seed), **{"output_type": "latent", **(call or {})})
    spent = {"seconds": round(perf_counter() - start[0], 3), "cpu_seconds": round(process_time() - start[1], 3)}
    return {**spent, "cost": asdict(pipe.last_run.cost), "notes": list(pipe.last_run.tree.notes)}


def write_strip(out: Path, row: Mapping[str, Any], frames: Tensor) -> str:
    """Write a few of a video's frames as a small JPEG; returns its path inside `out`."""
    path = out / strips.FOLDER / f"{videos.name_of(row)}.jpg"
    path.parent.mkdir(exist_ok=True)
    encoded = BytesIO()
    strips.draw(frames, SHOWN, HEIGHT).save(encoded, "JPEG", quality=QUALITY, optimize=True)
    write_atomically(path, encoded.getvalue())
    return f"{strips.FOLDER}/{path.name}"


def scores(
    judge: Reward,
    frames: Tensor,
    prompt: str,
    session: Session,
    source: str = "The judge",
    chunks: Sequence[Tensor] = (),
) -> dict[str, float | None]:
    """The judge's score and parts for a whole video; None where a part does not apply.

    chunks: the frames by chunk; needed where the prompt changes, and each scene is judged by its own. Raises
    `PluginError`, which starts with `source`, where the judge fails or returns anything but numbers.
    """
    last = session.num_chunks - 1
    inp = RewardInput(frames.unsqueeze(0), (prompt,), session.fps, last, last + 1, slice(0, len(frames)))
    with process_kept(), foreign_code(source, passes=PluginError), torch.inference_mode():
        output = checked(scenes.judged(judge, scenes.split(inp, chunks, session)), source)
        values = {name: float(value[0]) for name, value in {"score": output.scores, **output.parts}.items()}
    return {name: round(value, 5) if math.isfinite(value) else None for name, value in values.items()}
