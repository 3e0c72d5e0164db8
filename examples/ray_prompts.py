"""Prompts over a Ray cluster: Ray decides where and when, streamt1-plugins makes the videos.

    pip install ray
    python examples/ray_prompts.py prompts.txt runs/mine --gpus-per-video 1

An actor holds the loaded model and takes one prompt after the other. A prompt whose folder holds a finished run is
skipped and an interrupted one goes on, so an actor that dies costs the chunk at hand and not the video.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import ray

import streamt1_plugins as streamt1
from streamt1_plugins.cli.batch import folder_of, read_prompts, state_of
from streamt1_plugins.resuming import open_interrupted


class Maker:
    """A loaded pipeline somewhere in the cluster."""

    def __init__(self, model: str, recipe: str, device: str) -> None:
        self.pipe = streamt1.load(model, recipe)
        if device != "cpu":
            self.pipe.to(device)

    def make(self, prompt: str, folder: Path, frames: int | None) -> str:
        """Make or finish the video of one prompt; returns its path."""
        state = state_of(folder, prompt, self.pipe.recipe.model_dump(mode="json"))
        if state == "begun":
            begun = open_interrupted(folder, self.pipe.pipe)
            begun.complete(begun.last_run)
        elif state == "new":
            self.pipe.watched_by(streamt1.record_to(folder))
            self.pipe(prompt, **({} if frames is None else {"num_frames": frames}))
        return str(folder / "video.mp4")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("prompts", type=Path)
    parser.add_argument("out", type=Path, help="on a disk all machines see")
    parser.add_argument("--model", default="tinyworld")
    parser.add_argument("--recipe", default="stream-t1")
    parser.add_argument("--num-frames", type=int)
    parser.add_argument("--makers", type=int, default=1, help="pipelines at work at the same time")
    parser.add_argument("--gpus-per-video", type=float, default=0)
    options = parser.parse_args()
    ray.init(ignore_reinit_error=True)
    remote = ray.remote(num_gpus=options.gpus_per_video, max_restarts=3, max_task_retries=3)(Maker)
    device = "cuda" if options.gpus_per_video else "cpu"
    makers = [remote.remote(options.model, options.recipe, device) for _ in range(options.makers)]
    out, prompts = options.out.absolute(), read_prompts(options.prompts)
    pool = ray.util.ActorPool(makers)
    jobs = [(prompt, folder_of(out, index, prompt)) for index, prompt in enumerate(prompts)]
    for video in pool.map_unordered(lambda maker, job: maker.make.remote(*job, options.num_frames), jobs):
        print(video, flush=True)


if __name__ == "__main__":
    main()
