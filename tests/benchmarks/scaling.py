"""Writes the tables of docs/scaling.md from the measured figures: python tests/benchmarks/scaling.py."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE, EVIDENCE = ROOT / "docs" / "scaling.md", ROOT / "docs" / "evidence"
NAMES = {"tinyworld": "bundled model", "small": "random causal Wan, 96 x 96"}


def measured_rows() -> list[dict[str, Any]]:
    """The figures of each model."""
    found = json.loads((EVIDENCE / "parallel_cpu.json").read_text(encoding="utf-8"))
    return [found[name] | {"name": NAMES[name]} for name in NAMES if name in found]


def measured() -> str:
    """One process against two."""
    head = ["speed-up", "same load", "generation, same load", "two slow each other by", "sending", "KB per chunk"]
    rows = [f"| N = 8, 1 against 2 processes | {' | '.join([*head, 'model off by'])} |", "|---" * (len(head) + 2) + "|"]
    for row in measured_rows():
        cells = [row["speed_up"], row["speed_up_same_load"], row["generation_speed_up_same_load"]]
        numbers = [f"{cell:.2f}" for cell in (*cells, row["machine_slowdown_with_two"])]
        rest = [f"{row['communication_share']:.1%}", f"{row['bytes_per_chunk_and_process'] / 1e3:.0f}"]
        rows.append(f"| {row['name']} | {' | '.join([*numbers, *rest])} | {row['model_error']:+.1%} |")
    return "\n".join(rows)


def gpu_parts() -> dict[str, float]:
    """Milliseconds on one H100: per candidate and per committed chunk."""
    found = json.loads((EVIDENCE / "causal_wan_gpu.json").read_text(encoding="utf-8"))
    rows: dict[str, Any] = {row["name"]: row for row in found["rows"]}
    eight, four, decoded = (rows[f"one at a time N={n}"] for n in ("8", "4", "4, decoded"))
    forward = eight["ms_per_chunk"] / eight["forwards_per_chunk"]
    decode = (decoded["ms_per_chunk"] - four["ms_per_chunk"]) / 4
    return {"generate": 4 * forward, "decode": decode, "commit": forward}


def seconds(parts: dict[str, float], candidates: int, processes: int) -> float:
    """Of a chunk with one survivor."""
    each = parts["generate"] + parts["decode"]
    again = parts["decode"] if processes > 1 else 0
    return (math.ceil(candidates / processes) * each + parts["commit"] + again) / 1000


def computed() -> str:
    """What the model says of 8 and 64 GPUs."""
    parts = gpu_parts()
    rows = [
        "| candidates | GPUs on them | seconds per chunk | speed-up | the GPUs on prompts instead |",
        "|---|---|---|---|---|",
    ]
    for candidates, gpus in ((8, 1), (8, 8), (16, 8), (64, 8), (64, 64)):
        now = seconds(parts, candidates, gpus)
        gain = seconds(parts, candidates, 1) / now
        rows.append(f"| {candidates} | {gpus} | {now:.2f} | {gain:.1f} | {gpus}.0 |")
    return "\n".join(rows)


def page(text: str) -> str:
    """The page with both tables as the figures say."""
    for name, table in (("parallel_cpu", measured()), ("model_gpu", computed())):
        text = re.sub(
            rf"(<!-- {name} -->\n).*?(<!-- end -->)", lambda m, t=table: f"{m[1]}{t}\n\n{m[2]}", text, flags=re.S
        )
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
