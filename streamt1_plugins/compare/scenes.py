"""Videos of several scenes in a comparison: each scene by its own prompt, and what a page says of the schedules."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch

from streamt1_plugins.api.reward import JudgesScenes, RewardOutput
from streamt1_plugins.api.scenes import HasScenes
from streamt1_plugins.compare.drift import CHUNK, number_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from streamt1_plugins.api.adapter import Session
    from streamt1_plugins.api.reward import Reward, RewardInput


def split(whole: RewardInput, chunks: Sequence[Tensor], session: Session) -> list[RewardInput]:
    """The input of a whole video scene by scene; itself alone where the prompt does not change.

    chunks: the frames of each chunk.
    """
    scenes = session.scenes if isinstance(session, HasScenes) else ()
    if len(scenes) < 2:
        return [whole]
    begins = [sum(len(frames) for frames in chunks[: scene.chunk]) for scene in scenes]
    found, ends = [], [*(scene.chunk for scene in scenes[1:]), len(chunks)]
    for scene, end, (start, stop) in zip(scenes, ends, pairwise([*begins, whole.video.shape[1]]), strict=True):
        video, prompts = whole.video[:, start:stop], (scene.prompt,) * len(whole.prompts)
        found.append(replace(whole, video=video, prompts=prompts, chunk=end - 1, new_frames=slice(0, stop - start)))
    return found


def judged(judge: Reward, scenes: Sequence[RewardInput]) -> RewardOutput:
    """What a judge returns for a whole video that is given scene by scene.

    A judge that does not read scenes together (see `JudgesScenes`) scores each like a video of its own: scores and
    parts are means over the frames, and `scene_01`, `scene_02`, ... the scores of the scenes.
    """
    if len(scenes) == 1:
        return judge.score(scenes[0])
    return judge.score_scenes(scenes) if isinstance(judge, JudgesScenes) else _mean(judge, scenes)


def _mean(judge: Reward, scenes: Sequence[RewardInput]) -> RewardOutput:
    outputs = [judge.score(scene) for scene in scenes]
    frames = [float(scene.video.shape[1]) for scene in scenes]
    scores = torch.stack([output.scores for output in outputs])
    names = dict.fromkeys(name for output in outputs for name in output.parts if not CHUNK.fullmatch(name))
    parts = {name: _known([output.parts.get(name) for output in outputs], frames) for name in names}
    parts |= {f"scene_{number:02d}": score for number, score in enumerate(scores, 1)}
    for first, output in zip([0, *(scene.chunk + 1 for scene in scenes)], outputs, strict=False):
        own = {name: part for name, part in output.parts.items() if CHUNK.fullmatch(name)}
        parts |= {f"chunk_{first + number_of(name) + 1:02d}": part for name, part in own.items()}
    weights = torch.tensor(frames)[:, None]
    return RewardOutput((scores * weights).sum(0) / weights.sum(), parts)


def _known(values: Sequence[Tensor | None], frames: Sequence[float]) -> Tensor:
    """The mean of a part over the scenes that it applies to, NaN where it applies to none."""
    known = [(value, weight) for value, weight in zip(values, frames, strict=True) if value is not None]
    found = torch.stack([value.float() for value, _ in known])
    weights = torch.tensor([weight for _, weight in known])[:, None] * ~found.isnan()
    return (found.nan_to_num() * weights).sum(0) / weights.sum(0)


def fact(rows: Sequence[Mapping[str, Any]]) -> str:
    """The schedules of a comparison in words; empty where no prompt changes."""
    schedules = list({row.get("prompt"): row.get("schedule") or [] for row in rows}.values())
    if not any(schedules):
        return ""
    counts = sorted(Counter(1 + len(each) for each in schedules).items())
    memories = sorted({scene["memory"] for each in schedules for scene in each})
    listed = (f"{count} prompt{'s' * (count != 1)} of {scenes} scene{'s' * (scenes != 1)}" for scenes, count in counts)
    return f"{', '.join(listed)}; memory at cuts: {', '.join(memories)}"
