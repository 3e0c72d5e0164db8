"""Distributes prompts over a Ray cluster, which assigns each video to a machine.

    pip install ray
    python examples/ray_prompts.py prompts.txt runs/mine --gpus-per-video 1

An actor loads a model once and makes one video after the other. Run the command again after a failure: finished prompts
are skipped and interrupted runs resume, so an actor that dies loses only its current chunk.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import ray

import streamt1_plugins as streamt1


class Maker:
    """A loaded pipeline on one machine of the cluster."""

    def __init__(self, model: str, recipe: str, device: str) -> None:
        self.pipe = streamt1.load(model, recipe, device=device)

    def make(self, prompt: str, folder: Path, frames: int | None) -> str:
        """Make or finish the video of one prompt; returns its path."""
        if not (folder / "journal.jsonl").exists():
            self.pipe.set_observers(streamt1.record_to(folder))
            self.pipe(prompt, **({} if frames is None else {"num_frames": frames}))
        elif not is_finished(folder):
            streamt1.resume(folder, self.pipe.pipe)
        return str(folder / "video.mp4")


def is_finished(folder: Path) -> bool:
    """Whether the run in the folder ended without an error, which its summary would contain."""
    summary = folder / "summary.json"
    return summary.exists() and json.loads(summary.read_text(encoding="utf-8"))["error"] is None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("prompts", type=Path, help="a text file with a prompt per line")
    parser.add_argument("out", type=Path, help="a folder on a disk that all machines share")
    parser.add_argument("--model", default="tinyworld")
    parser.add_argument("--recipe", default="stream-t1")
    parser.add_argument("--num-frames", type=int)
    parser.add_argument("--makers", type=int, default=1, help="pipelines that work at the same time")
    parser.add_argument("--gpus-per-video", type=float, default=0)
    options = parser.parse_args()
    ray.init(ignore_reinit_error=True)
    remote = ray.remote(num_gpus=options.gpus_per_video, max_restarts=3, max_task_retries=3)(Maker)
    device = "cuda" if options.gpus_per_video else "cpu"
    makers = [remote.remote(options.model, options.recipe, device) for _ in range(options.makers)]
    prompts = streamt1.read_prompts(options.prompts)
    jobs = [(prompt, options.out.absolute() / f"{number:04d}") for number, prompt in enumerate(prompts, start=1)]
    pool = ray.util.ActorPool(makers)
    for video in pool.map_unordered(lambda maker, job: maker.make.remote(*job, options.num_frames), jobs):
        print(video, flush=True)


if __name__ == "__main__":
    main()
