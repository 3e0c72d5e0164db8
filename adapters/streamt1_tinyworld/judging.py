"""The world's ground truth as a judge for comparisons. A search that selected on it would make them circular."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from streamt1_plugins.api.reward import Reward, RewardInput, RewardOutput
from streamt1_plugins.api.types import Horizon
from streamt1_plugins.errors import InputError
from streamt1_plugins.process.imports import deferred
from streamt1_tinyworld.cuts import judge_scenes
from streamt1_tinyworld.judge import Verdict, judge
from streamt1_tinyworld.world import parse

if TYPE_CHECKING:
    import torch
else:
    torch = deferred("torch")

PARTS = (
    "background",
    "object",
    "shape",
    "direction",
    "speed",
    "jerk",
    "persistence",
    "size_drift",
    "colour_drift",
    "background_drift",
)
SCENE_PARTS = ("after_cut", "settled_in", "return_size", "return_colour", "returned")
EVERY = (*PARTS, *SCENE_PARTS)


@dataclass
class TinyWorldJudge(Reward):
    """How much of its prompt a whole video of the bundled model shows, 0..1, see `streamt1_tinyworld.judge.judge`.

    Parts that the prompt leaves open are NaN. `chunk_01`, `chunk_02`, ... are the scores of single chunks, for drift
    over the video. A video of several scenes is judged scene by scene, see `streamt1_tinyworld.cuts`.
    """

    horizons: ClassVar[tuple[Horizon, ...]] = ("long",)
    needs_prompt: ClassVar[bool] = True

    def check_prompt(self, prompt: str) -> None:
        """Raise `InputError` for words outside the world, and for what contradicts itself."""
        try:
            parse(prompt)
        except ValueError as error:
            raise InputError(str(error)) from error

    def score(self, inp: RewardInput) -> RewardOutput:
        verdicts = [judge(video.float(), prompt) for video, prompt in zip(inp.video, inp.prompts, strict=True)]
        return _output(verdicts, PARTS)

    def score_scenes(self, scenes: Sequence[RewardInput]) -> RewardOutput:
        """The scores of whole videos, each scene by its own prompt, with parts for what follows a cut."""
        videos = zip(*(zip(scene.video, scene.prompts, strict=True) for scene in scenes), strict=True)
        verdicts = [judge_scenes([(clip.float(), prompt) for clip, prompt in video]) for video in videos]
        found = _output(verdicts, EVERY)
        scores = zip(*(verdict.scenes for verdict in verdicts), strict=True)
        each = {f"scene_{number:02d}": torch.tensor(scene) for number, scene in enumerate(scores, start=1)}
        return replace(found, parts={**found.parts, **each})


def _output(verdicts: Sequence[Verdict], names: Sequence[str]) -> RewardOutput:
    parts = {name: torch.tensor([_part(verdict, name) for verdict in verdicts]) for name in names}
    parts["last_chunk"] = torch.tensor([verdict.chunks[-1].mean for verdict in verdicts])
    for number, chunks in enumerate(zip(*(verdict.chunks for verdict in verdicts), strict=True), start=1):
        parts[f"chunk_{number:02d}"] = torch.tensor([chunk.mean for chunk in chunks])
    return RewardOutput(torch.tensor([verdict.score for verdict in verdicts]), parts)


def _part(verdict: Verdict, name: str) -> float:
    value = getattr(verdict, name)
    return math.nan if value is None else float(value)
