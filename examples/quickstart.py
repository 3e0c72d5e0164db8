"""The same prompt and seed without and with search, on the model inside the package. Needs no GPU and no download.

python examples/quickstart.py
"""

from __future__ import annotations

import streamt1_plugins as streamt1

PROMPT = "a red circle moving right on a blue background"


def main() -> None:
    # "plain" is the pipeline as it is: one candidate per chunk, no rewards.
    plain = streamt1.load("tinyworld", recipe="plain")
    plain(PROMPT, num_frames=33)

    # "stream-t1" makes several candidates of every chunk, scores them with rewards, and keeps the best branches.
    # `record_to` writes the whole run to a folder: video, tree, recipe, and a page that shows them.
    pipe = streamt1.load("tinyworld", recipe="stream-t1", observers=streamt1.record_to("runs/quickstart"))
    video = pipe(PROMPT, num_frames=33).frames  # the same call and the same output as the pipeline inside

    print(f"plain      {plain.run.cost.candidates} candidates, {plain.run.cost.forwards} transformer forwards")
    print(f"stream-t1  {pipe.run.cost.candidates} candidates, {pipe.run.cost.forwards} transformer forwards")
    for node in pipe.tree.path(pipe.tree.winner[-1]):
        print(f"  chunk {node.chunk}: kept {node.id} with score {node.score:.3f}")
    print(f"{len(video[0])} frames; open runs/quickstart/report.html")


if __name__ == "__main__":
    main()
