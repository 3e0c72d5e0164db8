"""One process against two that share the candidates: speed-up, communication, and a cost model checked against both.

    python tests/benchmarks/parallel.py --out docs/evidence/parallel_cpu.json

One thread per process, the bundled model and a random causal Wan, N candidates of one beam per chunk. The first chunk
is not counted. "side by side" is two processes that search alone at the same time: what the machine itself takes away
when two work, without any sharing; "same load" compares with that. Run it where every process has a core to itself.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import streamt1_plugins as streamt1
from streamt1_plugins.search.distributed.launch import join
from streamt1_plugins.search.distributed.workers import Processes

PROMPT = "a red circle moving right on a blue background"
STAGES = ("generate", "decode", "reward", "commit")


@dataclass(frozen=True)
class Case:
    """One run: `model`, how many `processes`, whether they share, what they `send`."""

    model: str
    processes: int
    shared: bool
    send: str = "latents"
    candidates: int = 8
    chunks: int = 4


def pipeline(case: Case) -> tuple[streamt1.StreamPipeline, dict[str, Any]]:
    search = [f"search.candidates={case.candidates}", "search.top_k=1", f"parallel.send={case.send}"]
    if case.model == "tinyworld":
        pipe = streamt1.load("tinyworld", device="cpu", overrides=search)
        return pipe, {"prompt": PROMPT, "num_frames": 12 * case.chunks - 3}
    from causal_wan import SIZES, Size, build

    small = {"num_attention_heads": 4, "attention_head_dim": 64, "num_layers": 6, "ffn_dim": 1024}
    size = {**SIZES, "small": Size(small, 96, 96, (64, 256))}[case.model]
    inner = build(size, "cpu", torch.float32)
    options = [
        f"adapter.height={size.height}",
        f"adapter.width={size.width}",
        "rewards={replace: true, long: {basic: {}}}",
    ]
    pipe = streamt1.wrap(inner, adapter="wan", overrides=[*search, *options])
    text = torch.randn((1, *size.text), generator=torch.Generator().manual_seed(0))
    return pipe, {"prompt_embeds": text, "num_frames": 12 * case.chunks - 3}


def work(case: Case, file: Path) -> None:
    """What each process of a case does."""
    torch.set_num_threads(1)
    pipe, call = pipeline(case)
    group = join(pipe.recipe.parallel, "cpu")
    if case.shared:
        pipe.team = group.team
    run = pipe.begin(**call)
    group.team.exchange(None)  # start together
    rows, before, seen = [], time.perf_counter(), snapshot(pipe)
    for _ in pipe.steps(run):
        now, new = time.perf_counter(), snapshot(pipe)
        rows.append({"seconds": now - before} | {name: new[name] - seen[name] for name in new})
        before, seen = now, new
    run.session.close()
    if group.team.rank == 0:
        file.write_text(json.dumps(average(rows[1:], case)))


def snapshot(pipe: streamt1.StreamPipeline) -> dict[str, float]:
    """Totals so far of this process."""
    run = pipe.last_run
    found = {name: run.cost.seconds.get(name, 0.0) for name in STAGES}
    if isinstance(run.team, Processes):
        found |= asdict(run.team.traffic)
    return found


def average(rows: list[dict[str, float]], case: Case) -> dict[str, Any]:
    """Means per chunk. Stages overlap with waiting in shared runs, so only runs alone give the parts of the model."""
    means = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
    return asdict(case) | {name: round(value, 5) for name, value in means.items()}


def measured(case: Case) -> dict[str, Any]:
    """Run a case in processes of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "row.json"
        launcher = ["-m", "torch.distributed.run", f"--nproc_per_node={case.processes}", "--rdzv-backend=c10d"]
        launcher = [*launcher, "--rdzv-endpoint=localhost:0"] if case.processes > 1 else []
        own = [__file__, "--case", json.dumps(asdict(case)), "--out", str(file)]
        subprocess.run([sys.executable, *launcher, *own], env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)
        found: dict[str, Any] = json.loads(file.read_text())
    return found


def predicted(alone: dict[str, Any], processes: int, transfer: float = 0.0) -> float:
    """Seconds per chunk: the slowest process's share, every process's commit, one decode of the survivor, transfer."""
    count = alone["candidates"]
    each = sum(alone[stage] for stage in ("generate", "decode", "reward")) / count
    again = alone["decode"] / count if processes > 1 else 0.0
    rest = alone["seconds"] - sum(alone[stage] for stage in STAGES)
    return math.ceil(count / processes) * each + alone["commit"] + again + rest + transfer


def typical(cases: dict[str, Case], repeats: int) -> dict[str, dict[str, Any]]:
    """The median run of each case; they take turns, so that what else the machine does falls on all of them."""
    rounds = [{name: measured(case) for name, case in cases.items()} for _ in range(repeats)]
    found = {}
    for name in cases:
        runs = sorted((each[name] for each in rounds), key=lambda row: row["seconds"])
        found[name] = runs[len(runs) // 2] | {"all_seconds": [run["seconds"] for run in runs]}
    return found


def compared(model: str, options: argparse.Namespace) -> dict[str, Any]:
    """One model's rows and what follows from them."""
    chunks = options.chunks
    cases = {
        "alone": Case(model, 1, False, chunks=chunks),
        "side by side": Case(model, 2, False, chunks=chunks),
        "shared": Case(model, 2, True, chunks=chunks),
        "shared, decoded sent": Case(model, 2, True, "decoded", chunks=chunks),
    }
    rows = typical(cases, options.repeats)
    alone, busy, both = rows["alone"], rows["side by side"], rows["shared"]
    transfer = both["sending"]
    return {
        "rows": rows,
        "speed_up": round(alone["seconds"] / both["seconds"], 3),
        "speed_up_decoded_sent": round(alone["seconds"] / rows["shared, decoded sent"]["seconds"], 3),
        "generation_speed_up": round(alone["generate"] / both["generate"], 3),
        "speed_up_same_load": round(busy["seconds"] / both["seconds"], 3),
        "generation_speed_up_same_load": round(busy["generate"] / both["generate"], 3),
        "machine_slowdown_with_two": round(busy["seconds"] / alone["seconds"], 3),
        "communication_share": round(transfer / both["seconds"], 4),
        "waiting_share": round(both["waited"] / both["seconds"], 4),
        "bytes_per_chunk_and_process": round(both["bytes"]),
        "model_from_alone_s": round(predicted(alone, 2, transfer), 4),
        "model_from_side_by_side_s": round(predicted(busy, 2, transfer), 4),
        "measured_s": both["seconds"],
        "model_error": round(predicted(busy, 2, transfer) / both["seconds"] - 1, 3),
        "model_speed_up": {str(n): round(predicted(alone, 1) / predicted(alone, n, transfer), 2) for n in (2, 4, 8)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["tinyworld", "small"])
    parser.add_argument("--chunks", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--case", help="used by the script itself")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if options.case:
        work(Case(**json.loads(options.case)), options.out)
        return
    found: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, 1 thread per process",
        "torch": torch.__version__,
    }
    for model in options.models:
        found |= {"load_before": [*os.getloadavg()], model: compared(model, options)}
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
