"""A director by rules: rolls, keeps, rolls again where the score is poor, changes the prompt, and goes back once.

python examples/director.py runs/director
"""

from __future__ import annotations

import sys
from pathlib import Path

import streamt1_plugins as streamt1

SCENES = {0: "a red circle moving right on a blue background", 2: "a green star moving up on a black background"}


def main(folder: Path) -> None:
    pipe = streamt1.load("tinyworld", observers=streamt1.record_to(folder))
    with pipe.take(SCENES[0], num_frames=45) as take:
        bar = 0.0
        while not take.is_finished:
            chunk = take.chunk.index
            if chunk in SCENES and take.scene.prompt != SCENES[chunk]:
                take.prompt(SCENES[chunk], memory="flush")
            best = max(take.roll(2), key=lambda candidate: candidate.score)
            if best.score < bar:  # poor: two more, near the best of these
                take.reroll(2, refine=best, strength=0.3)
            (kept,) = take.keep(take.choice[0])  # one branch, the best
            bar = (bar + kept.score) / 2
            if chunk == 2 and not take.tree.returns:  # the first chunk of a scene is worth a second look
                take.back()
        take.save()
        for action in take.tree.actions:
            print(action.text)
        print(f"{take.frames.shape[0]} frames, {take.cost.candidates} candidates: {folder / 'video.mp4'}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/director"))
