"""Does the self-score rank the candidates of a chunk as the ground truth does? Beside other rewards, on `tinyworld`.

python tests/benchmarks/self_score.py docs/evidence/prompts_self.txt docs/evidence/self_score/ranks.json

Every prompt of the file, three chunks of each. Eight candidates per chunk and one beam, which the self-score
selects. Each reward's readings are compared with the score of the judge for the video so far: Spearman's rank
correlation within a chunk, and which share of the gain of the best of the eight over their mean its choice has. Chunks
whose candidates are all alike to the judge are left out. The settings of the reward were chosen on
other prompts, and these were drawn afterwards.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

import streamt1_plugins as streamt1
from streamt1_plugins import hookimpl
from streamt1_plugins.compare.ranking import rank_correlation
from streamt1_self.reward import SelfScore
from streamt1_tinyworld.judge import judge

FRAMES = 33  # of three chunks
REWARDS = ("self", "self-published", "tinyalign", "basic")
RECIPE: dict[str, Any] = {
    "extends": "self",
    "search": {"candidates": 8, "top_k": 1},
    "rewards": {
        "decode": "carried",
        "long": {"self": {}, "self-published": {"weight": 0}, "tinyalign": {"weight": 0}, "basic": {"weight": 0}},
    },
}


@dataclass
class Judged:
    """An observer that judges every candidate's video so far."""

    prompt: str
    scores: dict[str, float] = field(default_factory=dict)

    @hookimpl
    def streamt1_candidate_scored(self, candidate: Any) -> None:
        frames = torch.cat([*candidate.beam.history.frames, candidate.decoded.frames])
        self.scores[candidate.id] = judge(frames.float(), self.prompt).score


def main(prompts: Path, out: Path) -> None:
    pipe = streamt1.load("tinyworld").pipe
    chosen = streamt1.read_prompts(prompts)
    rows = [row for seed, prompt in enumerate(chosen) for row in measured(pipe, prompt, seed)]
    out.write_text(json.dumps(summary(rows), indent=1) + "\n", encoding="utf-8")


def measured(pipe: Any, prompt: str, seed: int) -> list[dict[str, Any]]:
    """A row per chunk: the judge's scores of its candidates, and the readings of each reward."""
    judged = Judged(prompt)
    published = {"self-published": SelfScore(against="nothing")}
    wrapped = streamt1.wrap(pipe, RECIPE, adapter="tinyworld", rewards=published, observers={"judged": judged})
    wrapped(prompt, num_frames=FRAMES, generator=torch.Generator().manual_seed(seed), output_type="latent")
    rows = []
    for chunk in range(wrapped.last_run.session.num_chunks):
        nodes = wrapped.tree.chunk(chunk)
        readings = {name: [node.readings["long"][name].raw for node in nodes] for name in REWARDS}
        rows.append({"chunk": chunk, "truth": [judged.scores[node.id] for node in nodes], "readings": readings})
    return rows


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Correlations and shares of the possible gain by reward, for first chunks and for later ones."""
    telling = [row for row in rows if max(row["truth"]) > min(row["truth"])]
    groups = {"first": [r for r in telling if not r["chunk"]], "later": [r for r in telling if r["chunk"]]}
    found: dict[str, Any] = {"chunks": {name: len(some) for name, some in groups.items()}}
    for name, some in groups.items():
        possible = fmean(max(row["truth"]) - fmean(row["truth"]) for row in some)
        found[name] = {"possible": round(possible, 4)} | {reward: compared(some, reward) for reward in REWARDS}
        for each in REWARDS:
            found[name][each]["share"] = round(found[name][each]["gain"] / possible, 3)
    return found


def compared(rows: list[dict[str, Any]], reward: str) -> dict[str, float]:
    pairs = [(row["readings"][reward], row["truth"]) for row in rows]
    ranks = [0.0 if math.isnan(found := rank_correlation(*pair)) else found for pair in pairs]
    gain = fmean(truth[readings.index(max(readings))] - fmean(truth) for readings, truth in pairs)
    error = torch.tensor(ranks).std().item() / len(ranks) ** 0.5
    return {"rank correlation": round(fmean(ranks), 3), "standard error": round(error, 3), "gain": round(gain, 4)}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
