"""What every process of a launched test does: ``torchrun ... shared_search.py FOLDER NAME=OVERRIDES...``

One search of the toy pipeline per name; tree, video and cost of each process go to FOLDER.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

import streamt1_plugins as streamt1
from streamt1_plugins.errors import StreamT1Error
from streamt1_plugins.plugins.discovery import discovery
from streamt1_plugins.search.distributed.launch import join
from streamt1_plugins.search.distributed.world import LostProcessError, world
from tests import toy
from tests.toy import Bright, ToyPipeline

RANK, WORLD = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


@dataclass
class Trouble(Bright):
    """Brings the process `rank` into trouble at one candidate."""

    how: str = "raise"
    rank: int = 1
    chunk: int = 2

    def score(self, inp: Any) -> Any:
        if inp.chunk == self.chunk and self.rank == RANK:
            getattr(self, self.how)()
        return super().score(inp)

    def fail(self) -> None:
        raise SystemError("no luck")  # with on_error: raise

    def die(self) -> None:
        await_the_others()
        os.kill(os.getpid(), signal.SIGKILL)

    def stall(self) -> None:
        time.sleep(600)


def await_the_others() -> None:
    """Returns when all other processes wait for this one."""
    board = world("cpu").status_board
    while any(board.status(rank).exchanges <= board.mine.exchanges for rank in range(WORLD) if rank != RANK):
        time.sleep(0.05)
    time.sleep(0.5)  # they have just published that they come


def main(folder: Path, *searches: str) -> None:
    torch.set_num_threads(1)
    discovery().add(toy, name="toy", origin="tests")
    discovery().rewards.add(replace(discovery().rewards["bright"], name="trouble", target="__main__:Trouble"))
    for search in searches:
        name, *overrides = search.split("|")
        one(folder, name, overrides)


def one(folder: Path, name: str, overrides: list[str]) -> None:
    recipe = "stream-t1"
    if overrides and overrides[0].startswith("recipe="):
        recipe = overrides.pop(0).removeprefix("recipe=")
    observers = streamt1.record_to(folder / name / f"{WORLD}")
    pipe = streamt1.wrap(ToyPipeline(), recipe, overrides=overrides, observers=observers)
    pipe.workers = join(pipe.recipe.parallel, "cpu").workers
    start = time.monotonic()
    try:
        video = pipe("a prompt")
    except StreamT1Error as error:
        is_lost = isinstance(error, LostProcessError)
        (folder / f"{name}.{WORLD}.{RANK}.error").write_text(f"{is_lost} {time.monotonic() - start:.1f} {error}")
        raise
    found = {
        "tree": pipe.tree.to_dict(),
        "video": video,
        "latents": [latents for beam in pipe.run.beams for latents in beam.history.latents],
        "cost": asdict(pipe.run.cost),
        "calls": dict(pipe.run.session.calls),
    }
    torch.save(found, folder / f"{name}.{WORLD}.{RANK}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
