"""Which reward catches what: good clips against the same clips with their last chunk damaged in one controlled way.

    python tests/benchmarks/rewards.py [--only flicker,basic] [--out docs/evidence/rewards.json]

Every registered reward that judges frames and loads without a download takes part. A cell of the table is the share of
clips, in per cent, whose untouched version scores higher than the damaged one (equal counts half): 50 is blind, 100
always sees it; first for a camera panning over textures, then for the embedded world. Rewards that read the prompt see
the world only.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from torch import Tensor

from streamt1_plugins.api.reward import Reward, RewardInput, RewardOutput
from streamt1_plugins.errors import StreamT1Error, foreign_code
from streamt1_plugins.plugins import build
from streamt1_plugins.plugins.discovery import discovery
from streamt1_tinyworld import world
from tests.rewards import damage

COUNT = 16
DAMAGES: dict[str, Callable[[Tensor], Tensor]] = {
    "flicker": damage.DAMAGES["flicker"],
    "blur": damage.DAMAGES["blur"],
    "noise": damage.DAMAGES["noise"],
    "jump": damage.DAMAGES["jump"],
    "freeze": damage.DAMAGES["frozen"],
    "colour drift": damage.DAMAGES["colour drift"],
    "shuffle": damage.DAMAGES["shuffled"],
    "over-exposure": damage.DAMAGES["overexposed"],
    "wrong subject": lambda video: torch.cat([video[:, : -damage.NEW], video.roll(1, 0)[:, -damage.NEW :]], dim=1),
}


@dataclass(frozen=True)
class Clips:
    """Good clips, and what they were asked to show."""

    video: Tensor
    prompts: tuple[str, ...]

    def input(self, video: Tensor, horizon: str, lead: int) -> RewardInput:
        shown = damage.long_input(video) if horizon == "long" else damage.short_input(video, lead)
        return replace(shown, prompts=self.prompts)


@dataclass
class Timed:
    """A reward, how long it took and how often it was asked."""

    reward: Reward
    horizon: str
    seconds: list[float] = field(default_factory=list)

    def scores(self, clips: Clips, video: Tensor) -> Tensor:
        inp = clips.input(video, self.horizon, self.reward.lead_frames)
        self.reward.reset()
        start = time.perf_counter()
        with torch.inference_mode():
            output: RewardOutput = self.reward.score(inp)
        self.seconds.append((time.perf_counter() - start) / len(video))
        return output.scores.float().cpu()


def clips() -> dict[str, Clips]:
    """Both kinds; the world's prompts are the captions its clips were drawn from."""
    specs = damage.specs(COUNT)
    captions = tuple(world.caption(spec) for spec in specs)
    return {
        "texture": Clips(damage.texture_pan(COUNT), ("a textured surface",) * COUNT),
        "world": Clips(damage.moving_shapes(COUNT), captions),
    }


def measured(reward: Reward, kinds: dict[str, Clips]) -> dict[str, Any]:
    """Scores and shares of one reward on every kind of clip and damage."""
    timed = Timed(reward, "long" if "long" in reward.horizons else "short")
    found: dict[str, Any] = {"horizon": timed.horizon, "kinds": {}}
    for kind, good in kinds.items():
        if reward.needs_prompt and kind == "texture":
            continue  # what it was asked to show cannot be said of a texture
        clean = timed.scores(good, good.video)
        spoilt = {name: timed.scores(good, spoil(good.video)) for name, spoil in DAMAGES.items()}
        found["kinds"][kind] = {
            "untouched": round(float(clean.mean()), 4),
            "damaged": {name: round(float(scores.mean()), 4) for name, scores in spoilt.items()},
            "caught": {name: share(clean, scores) for name, scores in spoilt.items()},
        }
    found["ms_per_candidate"] = round(1000 * min(timed.seconds), 2)
    found["calls"] = len(timed.seconds)
    return found


def share(clean: Tensor, spoilt: Tensor) -> float:
    """How many clips score higher untouched; equal ones count half."""
    return round(float(((clean > spoilt).float() + 0.5 * (clean == spoilt)).mean()), 3)


def loaded(name: str) -> Reward:
    """A reward with its default options; raises where it needs what is not here."""
    entry = discovery().rewards[name]
    reward: Reward = build.instance(entry, {}, name)
    with foreign_code(f"Loading reward {name!r}"):
        reward.load("cpu")
    return reward


def table(results: dict[str, Any]) -> str:
    """The results as a Markdown table."""
    lines = ["| reward | " + " | ".join(DAMAGES) + " | ms |", "|---" * (len(DAMAGES) + 2) + "|"]
    for name, result in results.items():
        cells = [_cell(result["kinds"], fault) for fault in DAMAGES]
        lines.append(f"| `{name}` | {' | '.join(cells)} | {result['ms_per_candidate']} |")
    return "\n".join(lines)


def _cell(kinds: dict[str, Any], fault: str) -> str:
    shares = [kinds[kind]["caught"][fault] if kind in kinds else None for kind in ("texture", "world")]
    text = " / ".join("·" if value is None else f"{100 * value:.0f}" for value in shares)
    return f"**{text}**" if min(value for value in shares if value is not None) >= 0.95 else text


def main() -> None:
    parser = argparse.ArgumentParser(description=inspect.getdoc(sys.modules[__name__]))
    parser.add_argument("--only", default="")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    names = given.only.split(",") if given.only else list(discovery().rewards)
    kinds, results, missing = clips(), {}, {}
    for name in names:
        try:
            reward = loaded(name)
        except StreamT1Error as error:
            missing[name] = str(error)
            continue
        if reward.denoiser_calls():
            missing[name] = "It judges with the video model, and these clips have none."
            continue
        results[name] = measured(reward, kinds)
        reward.unload()
        sys.stderr.write(f"{name}: {results[name]['ms_per_candidate']} ms\n")
    sys.stdout.write(table(results) + "\n")
    if given.out:
        setting = {"clips": COUNT, "frames": damage.TOTAL, "new_frames": damage.NEW, "size": [64, 64], "threads": 1}
        report = {"setting": setting, "rewards": results, "not_here": missing}
        given.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
