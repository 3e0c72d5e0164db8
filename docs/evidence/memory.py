"""Which memory helps a video of several scenes? All memory policies at equal forwards, in one table.

python docs/evidence/memory.py docs/evidence/memory      (hours: 32 prompts of 60 s, 8 recipes, 3 policies of a cut)
python docs/evidence/memory.py OUT --cuts flush --frames 117 --count 2              (a try)
python docs/evidence/memory.py OUT --shard 0/2 & python docs/evidence/memory.py OUT --shard 1/2

For every policy of a cut (keep, recache, flush; see docs/adapters/wan.md) it writes the prompts of scenes.py and runs
`streamt1 compare` into a folder of its own, which continues where it stopped. Then it writes `memory.json` and
`memory.md` from whatever is there: gains are over `no-sinking` with the same prompt and cut. The recipes have the same
width, and a memory adds no forwards, so there is nothing to match; the table checks that from what was spent.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamt1_plugins.compare import table
from streamt1_plugins.compare.run import read

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

JUDGE = "tinyworld-judge"
CUTS = ("flush", "recache", "keep")
POLICIES = {
    "no-sinking": "window and first chunk",
    "stream-t1": "reward feedback (the paper)",
    "elite": "a better chunk replaces the first sink",
    "ema-pair": "two moving averages",
    "deep-sink": "three first chunks, moved along",
    "recall": "the most alike chunks of the past",
    "cut-flush": "reward feedback, flush at a break",
    "relative": "reward feedback, relative positions",
}
"""The recipes, and what they remember. The first one is what gains are over."""

METRICS = (
    "score",
    "after_cut",
    "settled_in",
    "persistence",
    "size_drift",
    "colour_drift",
    "returned",
    "return_size",
    "return_colour",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--cuts", nargs="+", choices=CUTS, default=list(CUTS))
    parser.add_argument("--frames", type=int, default=957)
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--seed", type=int, default=60)
    parser.add_argument("--model")
    parser.add_argument("--shard", default="0/1")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for cut in options.cuts:
        run(options, cut)
    write(options.out)


def run(options: argparse.Namespace, cut: str) -> None:
    """Compare all policies on videos with this cut, as far as they are not compared yet."""
    prompts = options.out / f"prompts_{cut}.jsonl"
    size = ["--frames", options.frames, "--count", options.count, "--seed", options.seed]
    script = Path(__file__).with_name("scenes.py")
    subprocess.run([sys.executable, script, prompts, "--memory", cut, *map(str, size)], check=True)
    given = {"prompts": prompts, "judge": JUDGE, "out": options.out / cut, "num-frames": options.frames}
    given |= {"videos-mb": 0, "shard": options.shard}
    given |= {} if options.model is None else {"model": options.model}
    flags = [str(each) for name, value in given.items() for each in (f"--{name}", value)]
    subprocess.run([sys.executable, "-m", "streamt1_plugins", "compare", *POLICIES, *flags], check=True)


def write(out: Path) -> None:
    """Write the table of all results in the folder, as data and as Markdown."""
    found = {cut: table.summary(rows) for cut in CUTS if (rows := read(out / cut))}
    (out / "memory.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (out / "memory.md").write_text(markdown(found), encoding="utf-8")
    sys.stdout.write(markdown(found))


def markdown(found: Mapping[str, Mapping[str, Any]]) -> str:
    """One line for each policy of memory and of the cut."""
    head = ["at a cut", "recipe", "remembers", "gain in score (95 %)", *METRICS, "forwards", "seconds"]
    lines = [head, ["---"] * len(head), *(line for cut, each in found.items() for line in _lines(cut, each))]
    counts = ", ".join(f"{each['prompts']} with {cut}" for cut, each in found.items())
    spent = {cut: {one["cost"]["forwards"] for one in each["recipes"].values()} for cut, each in found.items()}
    unequal = [cut for cut, forwards in spent.items() if len(forwards) > 1]
    remark = f"Not equal in forwards, or not finished: {', '.join(unequal)}." if unequal else "Forwards are equal."
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + f"\nPrompts: {counts}. {remark}\n"


def _lines(cut: str, found: Mapping[str, Any]) -> Iterator[list[str]]:
    for label, each in found["recipes"].items():
        metrics, remembers = each["metrics"], POLICIES.get(label.partition("@")[0], "")
        means = [f"{metrics[name]['mean']['mean']:.3f}" if metrics.get(name) else "" for name in METRICS]
        costs = [f"{each['cost'][name]:g}" for name in ("forwards", "seconds")]
        yield [cut, label, remembers, table.interval(metrics["score"]["gain"]), *means, *costs]


if __name__ == "__main__":
    main()
