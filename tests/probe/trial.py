"""Trials of an advice: what a recipe gains over a plain run, on prompts that the probe did not see."""

from __future__ import annotations

import math
from statistics import fmean
from typing import Any

import torch

from streamt1_plugins.compare.stats import Interval
from streamt1_plugins.config import load as recipes
from streamt1_plugins.probe.advice import NO_SEARCH
from tests.probe.models import NUMBERS, SCALE, Model, wrapped

FRESH = [f"fresh {index}" for index in range(24)]


def quality(model: Model, recipe: Any, prompt: str, **rewards: Any) -> float:
    """The true quality of a video, the mean over its chunks, whatever the rewards read."""
    pipe = wrapped(model, recipe, **rewards)
    pipe(prompt, generator=torch.Generator().manual_seed(hash_of(prompt)))
    frames = pipe.last_run.beams[0].history.frames
    return fmean((float(each.mean()) - 0.5) * SCALE * math.sqrt(NUMBERS) for each in frames)


def hash_of(text: str) -> int:
    return sum(ord(letter) * 31**place for place, letter in enumerate(text)) % 2**31


def differences(model: Model, recipe: Any, other: Any, **rewards: Any) -> Interval:
    """How much higher the quality is under a recipe than under another one."""
    return Interval.of(
        quality(model, recipe, prompt, **rewards) - quality(model, other, prompt, **rewards) for prompt in FRESH
    )


def plain() -> Any:
    """The recipe that was probed, without a search."""
    return recipes.load({"extends": "stream-t1", **NO_SEARCH})
