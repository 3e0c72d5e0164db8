"""What preview scoring, batches and early pruning cost on a bundled model, and what they cost in quality.

    python tests/benchmarks/previews.py --prompts 16 --out docs/evidence/previews.json
    python tests/benchmarks/previews.py --only 2x2 --prompts 64 --out docs/evidence/previews.json
    python tests/benchmarks/previews.py --agreement --prompts 16 --out docs/evidence/previews.json
    python tests/benchmarks/previews.py --model tinyworld-student --out docs/evidence/previews_student.json
    python tests/benchmarks/previews.py --model tinyworld-student --share --out docs/evidence/previews_student.json

One process and one thread; times are CPU seconds of the whole call, rewards included. The settings take turns prompt by
prompt. What the file has already is kept, so a run may be interrupted, and extended with more prompts. The judge is the
ground truth of the model's world, which no reward uses.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import streamt1_plugins as streamt1
from streamt1_plugins.compare.ranking import rank_correlation
from streamt1_tinyworld.judge import judge

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parents[2]
PROMPTS = ROOT / "docs" / "evidence" / "prompts_5s.txt"
FRAMES, FEW = 81, 8  # of a video; videos from which a difference in quality is worth a number
LONG, MANY = 477, 8  # frames of 40 chunks; candidates per beam, of two: 16 candidates
PREVIEWS, EARLY = "rewards.decode=preview", ("early.steps=0.25", "early.keep=0.5")
CARRIED = "rewards.decode=carried"


def settings() -> dict[str, tuple[str, ...]]:
    """The overrides of `stream-t1` by name: 4, 8 and 16 candidates a chunk, and one survivor for the last ones."""
    found: dict[str, tuple[str, ...]] = {"plain": ("search.candidates=1", "search.top_k=1")}
    for candidates, top_k in ((2, 2), (4, 2), (8, 2), (4, 1), (8, 1)):
        size = (f"search.candidates={candidates}", f"search.top_k={top_k}")
        name = f"{candidates}x{top_k}"
        found[name] = (*size, CARRIED)
        found[f"{name} previews"] = (*size, PREVIEWS)
        found[f"{name} previews batch"] = (*size, PREVIEWS, f"search.batch={candidates * top_k}")
        found[f"{name} previews early"] = (*size, PREVIEWS, *EARLY)
    return found


def prompts() -> list[str]:
    lines = PROMPTS.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@dataclass
class Selected:
    """A selection policy that keeps what another search kept."""

    kept: dict[int, list[str]]

    @streamt1.hookimpl
    def streamt1_select(self, chunk: streamt1.Chunk, candidates: Sequence[streamt1.Candidate]) -> Any:
        known = {each.id: each for each in candidates}
        return [known[name] for name in self.kept[chunk.index]]


@dataclass
class Bench:
    """The figures so far, by (setting, prompt), and the pipeline of each setting."""

    out: Path | None
    rows: list[dict[str, Any]] = field(default_factory=list)
    agreements: list[dict[str, Any]] = field(default_factory=list)
    share: dict[str, Any] = field(default_factory=dict)
    model: str = "tinyworld"
    _pipes: dict[tuple[str, ...], Any] = field(default_factory=dict)

    def measure(self, name: str, prompt: str, seed: int) -> None:
        """One video: its CPU seconds, counts and the judge's score."""
        if any((row["setting"], row["prompt"], row["seed"]) == (name, prompt, seed) for row in self.rows):
            return
        pipe = self.pipe(settings()[name])
        start = time.process_time()
        video = pipe(prompt, num_frames=FRAMES, generator=torch.Generator().manual_seed(seed), output_type="pt")
        seconds = time.process_time() - start
        cost = pipe.last_run.cost.counts()
        score = judge(video.frames[0], prompt).score
        row = {"setting": name, "prompt": prompt, "seed": seed, "cpu_seconds": round(seconds, 3), "score": score}
        self.rows.append({**row, "cost": cost})
        sys.stderr.write(f"{name}: {seconds:.2f} s, score {score:.3f}, {prompt}\n")
        self.write()

    def compare(self, prompt: str, seed: int) -> None:
        """The scores of the same candidates from full frames and from previews."""
        if any((row["prompt"], row["seed"]) == (prompt, seed) for row in self.agreements):
            return
        size = ("search.candidates=4", "search.top_k=2", "memory={name: fixed}", "search.final=last_chunk")
        full = self.searched((*size, CARRIED), prompt, seed)
        kept = {index: [node.id for node in full.kept(index)] for index in full.chunks()}
        previewed = self.searched((*size, PREVIEWS), prompt, seed, Selected(kept))
        drafts = self.searched((*size, PREVIEWS, *EARLY), prompt, seed)
        row: dict[str, Any] = {"prompt": prompt, "seed": seed, "chunks": []}
        for index in full.chunks():
            theirs, ours = ([each.score for each in tree.chunk(index)] for tree in (full, previewed))
            best, chosen = (sorted(range(len(each)), key=lambda i, s=each: -s[i])[:2] for each in (theirs, ours))
            row["chunks"].append(
                {"spearman": rank_correlation(theirs, ours), "survivors_in_common": len({*best} & {*chosen})}
            )
        finished = {node.id for node in drafts.chunk(0) if node.is_finished}
        row["survivors_finished_in_chunk_0"] = len(finished & {*kept[0]})
        self.agreements.append(row)
        self.write()

    def measure_share(self, prompt: str, seed: int) -> None:
        """The parts of the time of one long, wide search: 40 chunks, 16 candidates each."""
        pipe = self.pipe((f"search.candidates={MANY}", "search.top_k=2", f"search.batch={2 * MANY}", PREVIEWS))
        pipe(prompt, num_frames=LONG, generator=torch.Generator().manual_seed(seed), output_type="latent")
        seconds = {name: round(value, 2) for name, value in pipe.last_run.cost.seconds.items()}
        denoising = seconds["generate"] + seconds["commit"]
        share = round(denoising / sum(seconds.values()), 3)
        self.share = {"chunks": 40, "candidates": 2 * MANY, "seconds": seconds, "denoising": share}
        self.write()

    def searched(self, overrides: tuple[str, ...], prompt: str, seed: int, selection: Any = None) -> streamt1.Tree:
        policies = None if selection is None else {"selection": selection}
        pipe = streamt1.wrap(self.pipe(overrides).pipe, adapter=self.model, overrides=overrides, policies=policies)
        pipe(prompt, num_frames=FRAMES, generator=torch.Generator().manual_seed(seed))
        return pipe.tree

    def pipe(self, overrides: tuple[str, ...]) -> Any:
        """A pipeline with these settings, whose first call is not measured."""
        if overrides not in self._pipes:
            model = next(iter(self._pipes.values())).pipe if self._pipes else streamt1.load(self.model).pipe
            pipe = streamt1.wrap(model, adapter=self.model, overrides=overrides)
            pipe("a red circle", num_frames=21)
            self._pipes[overrides] = pipe
        return self._pipes[overrides]

    def write(self) -> None:
        if self.out is not None:
            found = {"model": self.model, "summary": summary(self.rows, self.agreements), "share": self.share}
            found |= {"rows": self.rows, "agreement": self.agreements}
            self.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def summary(rows: Sequence[dict[str, Any]], agreements: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Per setting: CPU seconds over those of the plain video of the same prompt, and the judge's scores."""
    plain = {(row["prompt"], row["seed"]): row for row in rows if row["setting"] == "plain"}
    found: dict[str, Any] = {}
    for name in settings():
        own = [row for row in rows if row["setting"] == name and (row["prompt"], row["seed"]) in plain]
        if own:
            ratios = [row["cpu_seconds"] / plain[row["prompt"], row["seed"]]["cpu_seconds"] for row in own]
            found[name] = {
                "videos": len(own),
                "cpu_over_plain": round(statistics.median(ratios), 2),
                "score": round(statistics.fmean(row["score"] for row in own), 4),
                **dict(over_carried(rows, name)),
                "forwards": own[0]["cost"]["forwards"],
                "latent_frames_decoded": own[0]["cost"]["latent_frames_decoded"],
            }
    chunks = [chunk for row in agreements for chunk in row["chunks"]]
    if chunks:
        found["agreement"] = {
            "videos": len(agreements),
            "spearman": round(statistics.fmean(chunk["spearman"] for chunk in chunks), 3),
            "survivors_in_common": round(statistics.fmean(chunk["survivors_in_common"] for chunk in chunks) / 2, 3),
            "survivors_finished_in_chunk_0": round(
                statistics.fmean(row["survivors_finished_in_chunk_0"] for row in agreements) / 2, 3
            ),
        }
    return found


def over_carried(rows: Sequence[dict[str, Any]], name: str) -> Iterator[tuple[str, float]]:
    """The mean gain in score over the same size of search with full frames, on the same videos, and its error."""
    scores = [
        {(row["prompt"], row["seed"]): row["score"] for row in rows if row["setting"] == each}
        for each in (name, name.partition(" ")[0])
    ]
    gains = [score - scores[1][key] for key, score in scores[0].items() if key in scores[1]]
    if " " in name and len(gains) >= FEW:
        yield "score_over_carried", round(statistics.fmean(gains), 4)
        yield "standard_error", round(statistics.stdev(gains) / len(gains) ** 0.5, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="settings that begin with this, and plain")
    parser.add_argument("--model", default="tinyworld")
    parser.add_argument("--share", action="store_true", help="the parts of the time of a 40 x 16 search")
    parser.add_argument("--agreement", action="store_true", help="compare the scores of previews and of full frames")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    known = json.loads(options.out.read_text(encoding="utf-8")) if options.out and options.out.exists() else {}
    if known.get("model", options.model) != options.model:
        raise SystemExit(f"{options.out} has figures of {known['model']}.")
    figures = (known.get("rows", []), known.get("agreement", []), known.get("share", {}))
    bench = Bench(options.out, *figures, options.model)
    if options.share:
        bench.measure_share(prompts()[0], options.seed)
        return
    for prompt in prompts()[: options.prompts]:
        if options.agreement:
            bench.compare(prompt, options.seed)
            continue
        for name in settings():
            if name == "plain" or name.startswith(options.only):
                bench.measure(name, prompt, options.seed)
    sys.stdout.write(json.dumps(summary(bench.rows, bench.agreements), indent=1) + "\n")


if __name__ == "__main__":
    main()
