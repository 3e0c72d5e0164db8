"""What every process of the launched test does: ``torchrun ... shared_families.py FOLDER``: a search per family."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

import streamt1_plugins as streamt1
from streamt1_plugins.search.distributed.launch import join
from tests.adapters.families import FAMILIES, SMALL
from tests.adapters.tiny import seeded

RANK = int(os.environ.get("RANK", "0"))
ONE_PROMPT = ("skyreels", "framepack")
SCHEDULE = [
    {"chunk": 1, "prompt": "a blue square", "memory": "recache"},
    {"chunk": 2, "prompt": "a green star", "memory": "flush"},
]
RECIPE = {"extends": "stream-t1", "search": {"candidates": 3, "top_k": 1}, "sinks": {"window_chunks": 1}}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    for family in FAMILIES:
        torch.save(searched(family), folder / f"{family}.{RANK}.pt")


def searched(family: str) -> dict[str, Any]:
    """The video and the tree of one family's search, with a prompt that changes where the family takes one."""
    make, call, _ = FAMILIES[family]
    scenes = {"schedule": SCHEDULE} if family not in ONE_PROMPT else {}
    pipe = streamt1.wrap(make(), RECIPE, adapter="wan" if family == "wan" else None)
    pipe.workers = join(pipe.recipe.parallel, "cpu").workers
    video = pipe("a red circle", **{**SMALL, **call, **scenes}, generator=seeded(4))[0]
    return {"video": video, "tree": pipe.tree.to_dict()}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
