"""Is the advice of `streamt1 probe` right for the bundled models? Probes one, then follows the advice on other prompts.

python docs/evidence/probe.py docs/evidence/probe tinyworld
python docs/evidence/probe.py docs/evidence/probe_student tinyworld-student

20 minutes on one free thread; continues where it stopped.

Prompts are those of prompts_5s.txt with two things: 13 are probed, 16 others are searched with one candidate, with the
default recipe and with the advised one. `measured.jsonl` has a row per video: the mean raw reading
of each reward over the chunks that the probe covers, the forwards, and the score of the judge, which nothing selects
on.
`result.json` puts the predicted gains beside the measured ones.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

import streamt1_plugins as streamt1
from streamt1_plugins.compare.run import append, read, scores
from streamt1_plugins.compare.stats import Interval
from streamt1_plugins.config.load import load
from streamt1_plugins.config.merge import merged
from streamt1_plugins.plugins import build
from streamt1_plugins.plugins.discovery import discovery
from streamt1_plugins.probe.advice import NO_SEARCH

JUDGE, ROWS = "tinyworld-judge", "measured.jsonl"
FRAMES = {"rewards": {"decode": "carried"}}
"""Rewards read the frames of the video, as a probe does: a search on previews would be compared with plain frames."""
PROMPTS = [each for each in streamt1.read_prompts(Path(__file__).parent / "prompts_5s.txt") if " and " in each]
PROBED, SEARCHED = PROMPTS[:26:2], PROMPTS[1:32:2]


def main(out: Path, model: str) -> None:
    pipe = streamt1.load(model)
    probed = streamt1.probe_model(pipe, PROBED, out)
    recipes = {"plain": NO_SEARCH, "default": {}, "advised": probed.advice.keys}
    recipes = {name: load(merged(merged(probed.probed.to_data(), keys), FRAMES)) for name, keys in recipes.items()}
    judge = build.instance(discovery().rewards[JUDGE], {}, "judge")
    judge.load("cpu")
    done = {(row["recipe"], row["prompt"]) for row in read(out, ROWS)}
    pipes = {name: streamt1.wrap(pipe.pipe, recipe, adapter=model) for name, recipe in recipes.items()}
    for seed, prompt in enumerate(SEARCHED):
        for name, searched in pipes.items():
            if (name, prompt) not in done:
                append(out, {"recipe": name, "prompt": prompt} | made(searched, prompt, seed, judge, probed), ROWS)
    result = compared(read(out, ROWS), probed)
    (out / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def made(pipe: Any, prompt: str, seed: int, judge: Any, probed: Any) -> dict[str, Any]:
    """One video: its readings, its forwards and its judge's score."""
    pipe(prompt, generator=torch.Generator().manual_seed(seed), output_type="latent")
    run, nodes = pipe.last_run, [pipe.tree.nodes[name] for name in pipe.tree.winner][: probed.findings.chunks]
    read = {
        name: fmean(node.readings[horizon][reward].raw for node in nodes)
        for name in probed.findings.rewards
        for horizon, _, reward in [name.partition(".")]
    }
    judged = scores(judge, torch.cat(run.beams[0].history.frames), prompt, run.session)
    return {"seed": seed, "readings": read, "judge": judged["score"], "forwards": run.cost.forwards}


def compared(rows: list[dict[str, Any]], probed: Any) -> dict[str, Any]:
    """Predicted and measured gains over plain by reward, and the judge's score by recipe."""
    by = {(row["recipe"], row["prompt"]): row for row in rows}
    prompts = [prompt for recipe, prompt in by if recipe == "advised"]

    def gain(recipe: str, base: str, read: Any) -> dict[str, Any]:
        return asdict(Interval.of(read(by[recipe, each]) - read(by[base, each]) for each in prompts))

    rewards = {
        name: {
            "predicted": asdict(predicted),
            "measured": gain("advised", "plain", lambda row, name=name: row["readings"][name]),
            "over default": gain("advised", "default", lambda row, name=name: row["readings"][name]),
        }
        for name, predicted in probed.advice.predicted.items()
    }
    judged = {
        "advised over plain": gain("advised", "plain", lambda row: row["judge"]),
        "default over plain": gain("default", "plain", lambda row: row["judge"]),
        "advised over default": gain("advised", "default", lambda row: row["judge"]),
    }
    forwards = {name: fmean(row["forwards"] for row in rows if row["recipe"] == name) for name, _ in by}
    return {"rewards": rewards, "judge": judged, "forwards": forwards, "reasons": probed.advice.reasons}


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
