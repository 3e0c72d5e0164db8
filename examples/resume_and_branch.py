"""Interrupts a run, resumes it, and branches it at a candidate that the rewards did not choose.

python examples/resume_and_branch.py runs/circle
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import streamt1_plugins as streamt1

PROMPT = "a red circle moving right on a blue background"


def interrupt(pipe: Any, chunk_index: int, callback_kwargs: dict[str, Any]) -> None:
    """Stops the run in the second chunk, like Ctrl-C."""
    if chunk_index == 1:
        raise KeyboardInterrupt


def main(folder: Path) -> None:
    pipe = streamt1.load("tinyworld", observers=streamt1.record_to(folder))
    try:
        pipe(PROMPT, num_frames=45, on_chunk_end=interrupt)
    except KeyboardInterrupt:
        print(f"interrupted after {len(pipe.run.beams[0].path)} of {pipe.run.session.num_chunks} chunks")

    # The folder has the recipe, the arguments, the seed and a checkpoint. The result is the same, bit by bit, as
    # without the interruption.
    streamt1.resume(folder)
    print(f"resumed: {folder / 'video.mp4'}")

    # Any candidate of the tree can be continued. This is the best one of chunk 1 that was pruned.
    nodes = pipe.tree.chunk(1)
    picked = max((node for node in nodes if node.fate == "pruned"), key=lambda node: node.score)
    branched = streamt1.branch(folder, picked.id, f"{folder}-{picked.id}")
    branched.complete(branched.last_run)
    print(f"branched at {picked.id}: {folder}-{picked.id}/video.mp4")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/circle"))
