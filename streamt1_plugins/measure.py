"""Reward measurement: frames of the two horizons to calibrated readings, with failures kept to one candidate."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, TypeVar

import torch

from streamt1_plugins.contracts import HORIZONS, Node, Reading
from streamt1_plugins.errors import PluginError, foreign_code
from streamt1_plugins.recipe import FixedCalibration
from streamt1_plugins.reward import RewardInput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from streamt1_plugins.contracts import Beam, Candidate, Chunk, Horizon, Run
    from streamt1_plugins.recipe import RewardPart
    from streamt1_plugins.reward import FrameKey, Reward

Calibration = str | FixedCalibration
AnyNode = TypeVar("AnyNode", bound=Node)


def calibrate(raws: Sequence[float], earlier: Sequence[float], calibration: Calibration) -> list[float]:
    """Put raw rewards of one chunk's candidates on a common scale. NaN stays NaN.

    none: as they are. fixed: ``(raw - mean) / std``. running: standardised by every raw value so far, this chunk's
    included, so values stay comparable across chunks. group: standardised within this chunk (all equal gives 0).
    rank: share of this chunk's candidates that are worse, 0..1. The last two say nothing across chunks.
    """
    if isinstance(calibration, FixedCalibration):
        return [(raw - calibration.mean) / calibration.std for raw in raws]
    if calibration == "rank":
        return _ranks(raws)
    if calibration == "none":
        return list(raws)
    pool = [raw for raw in (*raws, *(earlier if calibration == "running" else ())) if math.isfinite(raw)]
    spread = pstdev(pool) if pool else 0.0
    return [(raw - fmean(pool)) / spread if spread > 0 else raw * 0.0 for raw in raws]


def _ranks(raws: Sequence[float]) -> list[float]:
    others = max(1, len(raws) - 1)
    return [sum(other < raw for other in raws) / others if math.isfinite(raw) else raw for raw in raws]


def quantise(video: Tensor) -> Tensor:
    """Truncate to 8 bits, as frames written to PNG and read back (paper release)."""
    return (video * 255).floor() / 255


@dataclass(frozen=True)
class Measurer:
    """Measures candidates with the rewards a recipe names, all candidates of a chunk in one call per reward."""

    rewards: Mapping[tuple[Horizon, str], Reward]

    def measure(self, run: Run, chunk: Chunk, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The candidates with `readings`, `short` and `long`; those a reward failed on get a `problem`."""
        for horizon in HORIZONS:
            if any(reward_horizon == horizon for reward_horizon, _ in self.rewards):
                inp = self._input(run, chunk, candidates, horizon)
                candidates = self._read(run, horizon, candidates, inp)
        return list(candidates)

    def whole_videos(self, run: Run) -> list[float]:
        """The long reward of each surviving beam's whole video; NaN where there is none."""
        beams = run.beams
        videos = torch.stack([self._whole(run, beam) for beam in beams])
        chunk = run.session.num_chunks - 1
        inp = RewardInput(
            video=self._pixels(run, videos),
            prompts=(run.prompt,) * len(beams),
            fps=run.session.fps,
            chunk=chunk,
            chunk_count=run.session.num_chunks,
            new_frames=slice(0, videos.shape[1]),
            anchor=_anchor(beams),
        )
        return [node.long for node in self._read(run, "long", [beam.path[-1] for beam in beams], inp)]

    def _whole(self, run: Run, beam: Beam) -> Tensor:
        if run.recipe.rewards.decode == "carried":
            return torch.cat(beam.history.frames)
        latents = torch.cat(beam.history.latents, dim=2)
        return run.session.decode(run.session.root(), latents)[0].frames

    def _input(self, run: Run, chunk: Chunk, candidates: Sequence[Candidate], horizon: Horizon) -> RewardInput:
        window = 1 if horizon == "short" else run.recipe.rewards.window
        cold = run.recipe.rewards.decode == "cold"
        videos = torch.stack([(_cold if cold else _carried)(run, candidate, window) for candidate in candidates])
        new = min(len(candidates[0].decoded.frames), videos.shape[1])
        return RewardInput(
            video=self._pixels(run, videos),
            prompts=(run.prompt,) * len(candidates),
            fps=run.session.fps,
            chunk=chunk.index,
            chunk_count=chunk.count,
            new_frames=slice(videos.shape[1] - new, videos.shape[1]),
            anchor=None if chunk.is_first else _anchor([candidate.beam for candidate in candidates]),
            frame_ids=() if cold else tuple(_frame_ids(candidate, window) for candidate in candidates),
        )

    def _pixels(self, run: Run, video: Tensor) -> Tensor:
        return quantise(video) if run.recipe.rewards.pixels == "uint8" else video

    def _read(self, run: Run, horizon: Horizon, nodes: Sequence[AnyNode], inp: RewardInput) -> list[AnyNode]:
        """All rewards of one horizon, for all nodes."""
        parts: Mapping[str, RewardPart] = getattr(run.recipe.rewards, horizon)
        readings: list[dict[str, Reading]] = [{} for _ in nodes]
        problems: list[str | None] = [None for _ in nodes]
        for name, part in parts.items():
            scores = self._scores(run, self.rewards[horizon, name], name, inp)
            raws = [raw for raw, _ in scores]
            values = calibrate(raws, _earlier(run, horizon, name), part.calibration)
            for i, (raw, problem) in enumerate(scores):
                readings[i][name] = Reading(raw, values[i], part.weight)
                problems[i] = problems[i] or problem
        return [_with_readings(*row, horizon) for row in zip(nodes, readings, problems, strict=True)]

    def _scores(self, run: Run, reward: Reward, name: str, inp: RewardInput) -> list[tuple[float, str | None]]:
        """(raw, problem) per candidate; a failing call is repeated one by one to find whose fault it is."""
        try:
            return [(raw, None) for raw in self._call(run, reward, name, inp)]
        except PluginError as error:
            if len(inp.prompts) == 1:
                return [(math.nan, str(error))]
        return [self._scores(run, reward, name, _only(inp, i))[0] for i in range(len(inp.prompts))]

    def _call(self, run: Run, reward: Reward, name: str, inp: RewardInput) -> list[float]:
        run.cost.reward_calls += 1
        with foreign_code(f"Reward {name!r}"), torch.inference_mode():
            scores = reward.score(inp).scores
            shape, values = tuple(scores.shape), scores.tolist()
        if shape != (len(inp.prompts),):
            raise PluginError(f"Reward {name!r} returned shape {shape}, expected ({len(inp.prompts)},).")
        return [float(value) for value in values]


def _earlier(run: Run, horizon: Horizon, name: str) -> list[float]:
    return [node.readings[horizon][name].raw for node in run.tree if name in node.readings.get(horizon, {})]


def _with_readings(node: AnyNode, readings: dict[str, Reading], problem: str | None, horizon: Horizon) -> AnyNode:
    value = combine(readings)
    if problem is None and not math.isfinite(value):
        names = ", ".join(repr(name) for name, reading in readings.items() if not math.isfinite(reading.value))
        problem = f"Reward {names} gave a value that is not finite."
    readings_now = {**node.readings, horizon: readings}
    changed = replace(node, readings=readings_now, problem=node.problem or problem)
    return replace(changed, short=value) if horizon == "short" else replace(changed, long=value)


def combine(readings: Mapping[str, Reading]) -> float:
    """The weighted mean of calibrated readings."""
    total = sum(reading.weight for reading in readings.values())
    return sum(reading.weight * reading.value for reading in readings.values()) / total


def _tail(items: tuple[Tensor, ...], count: int) -> tuple[Tensor, ...]:
    return items[len(items) - min(count, len(items)) :]


def _carried(run: Run, candidate: Candidate, window: int) -> Tensor:
    return torch.cat([*_tail(candidate.beam.history.frames, window - 1), candidate.decoded.frames])


def _cold(run: Run, candidate: Candidate, window: int) -> Tensor:
    latents = torch.cat([*_tail(candidate.beam.history.latents, window - 1), candidate.latents], dim=2)
    run.cost.latent_frames_decoded += int(latents.shape[2])
    return run.session.decode(run.session.root(), latents)[0].frames


def _anchor(beams: Sequence[Beam]) -> Tensor:
    return torch.stack([beam.history.frames[0] for beam in beams])


def _frame_ids(candidate: Candidate, window: int) -> tuple[FrameKey, ...]:
    earlier = zip(candidate.beam.path, candidate.beam.history.frames, strict=True)
    counts = [*((node.id, len(frames)) for node, frames in earlier), (candidate.id, len(candidate.decoded.frames))]
    return tuple((node, frame) for node, count in counts[-window:] for frame in range(count))


def _only(inp: RewardInput, i: int) -> RewardInput:
    """The input of candidate `i` alone."""
    return replace(
        inp,
        video=inp.video[i : i + 1],
        prompts=inp.prompts[i : i + 1],
        anchor=None if inp.anchor is None else inp.anchor[i : i + 1],
        frame_ids=inp.frame_ids[i : i + 1],
    )
