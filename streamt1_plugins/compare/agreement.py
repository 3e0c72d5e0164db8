"""How far the rewards of a search rank the candidates of a chunk like the judge, and the weights that follow."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import fmean
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

import torch

from streamt1_plugins.api.hookspecs import hookimpl
from streamt1_plugins.api.reward import RewardInput
from streamt1_plugins.api.scenes import scene_at
from streamt1_plugins.compare import ranking
from streamt1_plugins.compare.stats import figures
from streamt1_plugins.errors import PluginError, foreign_code
from streamt1_plugins.evaluation.outputs import checked
from streamt1_plugins.process.state import process_kept

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from streamt1_plugins.api.candidate import Candidate
    from streamt1_plugins.api.reward import Reward
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.types import Chunk

    Row = Mapping[str, Any]

KEY = "judged"
"""Of a row: by chunk, the judge's scores of the candidates and the raw readings of each reward, as in `short.flow`."""


@dataclass(eq=False)
class CandidateJudge:
    """An observer whose judge scores every finished candidate of a search: its video, up to and with its chunk.

    No score of it decides anything. The time that it takes is kept, to be taken off that of the search.
    """

    judge: Reward
    name: str
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    _found: dict[int, dict[int, tuple[float, dict[str, float]]]] = field(default_factory=dict)

    @hookimpl
    def streamt1_run_started(self) -> None:
        self.seconds = self.cpu_seconds = 0.0
        self._found = {}

    @hookimpl
    def streamt1_candidate_scored(self, run: Run, chunk: Chunk, candidate: Candidate) -> None:
        if candidate.is_valid and candidate.is_finished and candidate.readings:
            with self._timing():
                score = self._score(run, chunk, candidate)
            values = {
                f"{horizon}.{name}": r.raw for horizon, each in candidate.readings.items() for name, r in each.items()
            }
            self._found.setdefault(chunk.index, {})[candidate.ordinal] = score, values

    def added_to(self, row: Row) -> dict[str, Any]:
        """What a row gets: the scores and values of the video's candidates, and the seconds without the judge's."""
        spent = {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds}
        times = {name: round(max(0.0, row[name] - own), 3) for name, own in spent.items()}
        return {**times, KEY: [_chunk(list(each.values())) for each in self._found.values()]}

    def _score(self, run: Run, chunk: Chunk, candidate: Candidate) -> float:
        scene = scene_at(run.session, chunk.index)
        video = torch.cat([*candidate.beam.history.frames[scene.chunk :], _frames(run, candidate)]).unsqueeze(0)
        inp = RewardInput(video, (scene.prompt,), run.session.fps, chunk.index, chunk.count, slice(0, video.shape[1]))
        source = f"Judge {self.name!r}"
        with process_kept(), foreign_code(source, passes=PluginError), torch.inference_mode():
            return float(checked(self.judge.score(inp), source).scores[0])

    @contextmanager
    def _timing(self) -> Iterator[None]:
        start = perf_counter(), process_time()
        try:
            yield
        finally:
            self.seconds += perf_counter() - start[0]
            self.cpu_seconds += process_time() - start[1]


def _frames(run: Run, candidate: Candidate) -> Tensor:
    """The frames that a candidate's video would have; the preview decoder's stand for them no longer than rewards."""
    if candidate.location != "previewed":
        return candidate.decoded.frames
    return run.session.decode(candidate.beam.history, candidate.latents)[0].frames


def _chunk(found: Sequence[tuple[float, Mapping[str, float]]]) -> dict[str, Any]:
    """A chunk's scores and values as JSON has them: a list each, with null for what was not measured."""
    names = dict.fromkeys(name for _, values in found for name in values)
    readings = {name: [_plain(values.get(name, math.nan)) for _, values in found] for name in names}
    return {"judge": [_plain(score) for score, _ in found], "readings": readings}


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """`agreement` for the summary, by recipe and reward; empty where the judge scored no candidates."""
    recipes = dict.fromkeys(row["recipe"] for row in rows if row.get(KEY))
    found = {recipe: of_recipe([row for row in rows if row["recipe"] == recipe]) for recipe in recipes}
    return {"agreement": found} if found else {}


def of_recipe(rows: Sequence[Row]) -> dict[str, Any]:
    """By reward: the interval of its rank `correlation` with the judge, over prompts, its raw `mean`, its `spread` and
    its `weight`.

    Correlation and spread are those of the candidates of one chunk. Weights are `ranking.weights` per horizon, None
    where they stay: for a reward that finds all candidates alike, and where none of a horizon ranks like the judge.
    """
    chunks = [chunk for row in rows for chunk in row.get(KEY, ())]
    names = list(dict.fromkeys(name for chunk in chunks for name in chunk["readings"]))
    values = {name: [_known(chunk["readings"].get(name, ())) for chunk in chunks] for name in names}
    correlations = {name: figures(_by_prompt(rows, name)) for name in names}
    means = {name: each["mean"] for name, each in correlations.items() if each}
    fitted: dict[str, float] = {}
    for horizon in {name.partition(".")[0] for name in means}:
        fitted |= ranking.weights({name: mean for name, mean in means.items() if name.startswith(f"{horizon}.")})
    return {
        name: {
            "correlation": correlations[name],
            "mean": _plain(fmean(known)) if (known := _finite(values[name])) else None,
            "spread": _plain(ranking.spread(values[name])),
            "weight": fitted.get(name),
        }
        for name in names
    }


def _by_prompt(rows: Sequence[Row], name: str) -> dict[str, list[float]]:
    """The mean over a video's chunks of a reward's rank correlation with the judge, by prompt."""
    found: dict[str, list[float]] = {}
    for row in rows:
        each = [in_chunk(chunk, name) for chunk in row.get(KEY, ()) if name in chunk["readings"]]
        if known := [value for value in each if math.isfinite(value)]:
            found.setdefault(row["prompt"], []).append(sum(known) / len(known))
    return found


def in_chunk(chunk: Mapping[str, Any], name: str) -> float:
    """A reward's rank correlation with the judge over the candidates of a chunk that both have scored.

    NaN where there are not two, or where one of the two finds all alike.
    """
    pairs = zip(_known(chunk["judge"]), _known(chunk["readings"][name]), strict=True)
    known = [pair for pair in pairs if all(map(math.isfinite, pair))]
    return ranking.rank_correlation([judge for judge, _ in known], [value for _, value in known])


def _finite(groups: Sequence[Sequence[float]]) -> list[float]:
    return [value for group in groups for value in group if math.isfinite(value)]


def _known(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]


def _plain(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None
