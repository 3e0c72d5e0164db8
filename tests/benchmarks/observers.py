"""What recording a run costs: the share of the observers in a long search, in what it waits for and in processor time.

    python tests/benchmarks/observers.py [--frames 477] [--candidates 4] [--out docs/evidence/observers_cpu.json]

A search of the bundled model is recorded as `streamt1 generate` records it: journal, checkpoint, tree, strips, page,
video. `waited` is the time that the search spent in an observer's hooks, `cpu` the processor time of these hooks and of
the jobs that they left to the background thread. With 477 frames the video has 40 chunks, and 4 candidates of each of 2
beams are 8 candidates a chunk.
"""

from __future__ import annotations

import argparse
import functools
import json
import platform
import sys
import tempfile
from collections import defaultdict
from itertools import chain
from pathlib import Path
from time import perf_counter, process_time, thread_time
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

import streamt1_plugins as streamt1
from streamt1_plugins.api.background import Background
from streamt1_plugins.runs.observers.record import record_to
from streamt1_plugins.runs.observers.video import encode_video

PROMPT = "a red circle moving right on a blue background"
WAITED, CPU = "waited", "cpu"


class Meter:
    """Seconds by observer, of what the search waits for and of processors."""

    def __init__(self) -> None:
        self.seconds: dict[str, dict[str, float]] = defaultdict(lambda: {WAITED: 0.0, CPU: 0.0})
        self._current = ""

    def watch(self, name: str, observer: object) -> None:
        """Time the hooks of an observer, and the jobs that they submit."""
        kind = type(observer)
        for hook in [each for each in vars(kind) if each.startswith("streamt1_")]:
            setattr(kind, hook, self._timed(name, getattr(kind, hook)))

    def _timed(self, name: str, hook: Any) -> Any:
        @functools.wraps(hook)  # with the mark that makes it a hook
        def timed(*args: Any, **kwargs: Any) -> Any:
            start, used, self._current = perf_counter(), thread_time(), name
            try:
                return hook(*args, **kwargs)
            finally:
                self.seconds[name][WAITED] += perf_counter() - start
                self.seconds[name][CPU] += thread_time() - used

        return timed

    def watch_background(self) -> None:
        """Count the processor time of background jobs for the observer that submitted them."""
        submit = Background.submit

        def submitted(background: Background, what: str, job: Any, **kwargs: Any) -> None:
            name = self._current

            def timed() -> None:
                used = thread_time()
                try:
                    job()
                finally:
                    self.seconds[name][CPU] += thread_time() - used

            submit(background, what, timed, **kwargs)

        Background.submit = submitted  # type: ignore[method-assign]


def encoding(pipe: Any) -> float:
    """Processor seconds of encoding a run's video, once more by itself: the encoder has threads of its own."""
    used = process_time()
    encode_video(chain.from_iterable(pipe.last_run.beams[0].history.frames), pipe.last_run.session.fps)
    return process_time() - used


def measure(frames: int, candidates: int) -> dict[str, Any]:
    """The rows of one recorded search, observer by observer and together."""
    meter = Meter()
    with tempfile.TemporaryDirectory() as folder:
        observers = record_to(Path(folder) / "run")
        for name, observer in observers.items():
            meter.watch(name, observer)
        meter.watch_background()
        pipe = streamt1.load(device="cpu", overrides=(f"search.candidates={candidates}",), observers=observers)
        start, used = perf_counter(), process_time()
        pipe(PROMPT, num_frames=frames)
        whole = {WAITED: perf_counter() - start, CPU: process_time() - used}
    meter.seconds["video"][CPU] = encoding(pipe)
    spent = dict(meter.seconds)
    spent["together"] = {clock: sum(each[clock] for each in spent.values()) for clock in whole}
    spent["whole run"] = whole
    return {
        "machine": {
            "device": f"{platform.machine()} CPU",
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        },
        "chunks": len(pipe.tree.chunks()),
        "candidates": pipe.last_run.cost.candidates,
        "rows": [
            {"name": name, **{f"{clock}_s": round(value, 3) for clock, value in each.items()}}
            | {f"{clock}_share": round(value / whole[clock], 4) for clock, value in each.items()}
            for name, each in spent.items()
        ],
    }


def main() -> None:
    """Measure, print the shares, and write the report where one is wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=477)
    parser.add_argument("--candidates", type=int, default=4)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(given.frames, given.candidates)
    for row in found["rows"]:
        waited, cpu = (f"{row[f'{clock}_s']:8.2f} s {row[f'{clock}_share']:6.1%}" for clock in (WAITED, CPU))
        sys.stdout.write(f"{row['name']:12} waited {waited}   cpu {cpu}\n")
    if given.out:
        given.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
