"""Many videos by `streamt1 generate`: a run folder per prompt and seed, over all processes; existing runs are finished.

A video that cannot be made is reported with its line; the others are made.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from streamt1_plugins.cli.base import complain, echo
from streamt1_plugins.cli.batch_folders import Folders, State, folder_name, state_of
from streamt1_plugins.cli.running import VIDEO
from streamt1_plugins.config.prompt_file import read_prompts as read_prompts
from streamt1_plugins.errors import (
    FolderInUseError,
    InputError,
    OutputError,
    StreamT1Error,
    TrustError,
    foreign_code,
)
from streamt1_plugins.runs.files import warned, writing
from streamt1_plugins.runs.sheet import Sheet

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from streamt1_plugins.config.prompt_file import PromptLine
    from streamt1_plugins.config.schema import Recipe
    from streamt1_plugins.pipeline import StreamPipeline
    from streamt1_plugins.search.distributed.launch import Group
    from streamt1_plugins.search.distributed.world import World

PAUSE = 0.2  # seconds between two readings of the other processes' progress

Outcome = State | Literal["in use", "failed"]
REMARKS: dict[str, str] = {"done": "  (exists)", "in use": "  (another process makes it)"}


class Item(NamedTuple):
    """One video of a batch: a prompt's line under a complete recipe, which has the seed, and its folder.

    A line that cannot be used has no folder.
    """

    line: PromptLine
    recipe: Recipe
    folder: Path | None

    @property
    def state(self) -> State:
        """Whether its run is new, begun or done."""
        if self.folder is None:
            return "new"
        return state_of(self.folder, self.line, self.recipe.model_dump(mode="json"))


def items(lines: Sequence[PromptLine], recipe: Recipe, seeds: Sequence[int] | None, out: Path) -> list[Item]:
    """The videos of a batch: every prompt with every seed, by default the recipe's, and the same prompt once."""
    folders, found = Folders(out), []
    first = {line.text: line for line in reversed(lines)}
    for number, line in enumerate(lines, start=1):
        for seed in [recipe.seed] if seeds is None else seeds:
            if first[line.text] is not line and not line.problem:
                continue
            own = recipe.model_copy(update={"seed": seed})
            name = folder_name(number, line.prompt, None if seeds is None else seed)
            folder = None if line.problem else folders.of(line, own.model_dump(mode="json"), name)
            found.append(Item(line, own, folder))
    return found


def report_problems(file: Path, lines: Sequence[PromptLine]) -> None:
    """Print every prompt that cannot be used, or stands there twice. Raises `InputError` where none can be used."""
    wrong = [line for line in lines if line.problem]
    if len(wrong) == len(lines):
        raise InputError(f"{file}: no prompt can be used. Line {wrong[0].number}: {wrong[0].problem}")
    for line in wrong:
        complain(f"{file}, line {line.number}: {str(line.problem).rstrip('.')}. The other prompts are made.")
    first: dict[str, int] = {}
    for line in lines:
        if first.setdefault(line.text, line.number) != line.number and not line.problem:
            echo(f"{file}, line {line.number} is the prompt of line {first[line.text]}, which is made once.", err=True)


@dataclass(frozen=True)
class Batch:
    """One process's part in the videos of a batch. `source`: what the prompts come from, in messages."""

    pipe: StreamPipeline
    source: str
    items: Sequence[Item]
    out: Path
    group: Group
    world: World | None
    quiet: bool = False

    @cached_property
    def sheet(self) -> Sheet:
        """The index of all runs of the folder, this batch's first."""
        return Sheet(self.out, [each.folder for each in self.items if each.folder is not None])

    def run(self) -> int:
        """Make videos until none is left; a process that has finished one takes the next.

        Returns the number of videos that were not made: of all processes in the first one, else of this one.
        """
        failed = 0
        for index in self._turns():
            state = self._attempt(index)
            failed += state == "failed"
            if self._prints and state != "failed":
                self._show(index, state)
            if self.world is not None and self.group.workers.rank == 0:
                self.world.status_board.count("failed", int(state == "failed"))
                self.world.status_board.count("finished", 1)
        if self._prints:
            self._wait_for_others()
            failed = failed if self.world is None else self.world.status_board.count("failed")
            self._show_end(failed)
        return failed

    @property
    def _prints(self) -> bool:
        return self.world is None or self.world.rank == 0

    def _show(self, index: int, state: Outcome) -> None:
        folder = self.items[index].folder
        if folder is not None:
            echo(folder / VIDEO if self.quiet else f"{self._place(index)} {folder}{REMARKS.get(state, '')}")
        if state != "done":
            with warned(f"The index of {self.out} was not updated"):
                self.sheet.write()

    def _show_end(self, failed: int) -> None:
        if not self.quiet:
            echo(f"{len(self.items) - failed} videos in {self.out}")
        with writing(f"The videos are in {self.out}, but their index cannot be written"):
            page = self.sheet.write()
        if not self.quiet:
            echo(f"index   {page}")

    def _place(self, index: int) -> str:
        return f"[{index + 1}/{len(self.items)}]"

    def _attempt(self, index: int) -> Outcome:
        """Make or finish one video, unless it was finished before; a failure is printed."""
        item = self.items[index]
        if item.folder is None:  # its problem has been reported
            return "failed"
        try:
            with foreign_code("Making this video"):
                return self._make(index, item.folder)
        except (OutputError, TrustError):  # will meet the other prompts too
            raise
        except StreamT1Error as error:
            if self._concerns_others(error):
                raise
            if self.group.workers.rank == 0:
                complain(f"{self._name(item)}: {error}")
            return "failed"

    def _name(self, item: Item) -> str:
        """What a video is called in messages."""
        several = len({each.recipe.seed for each in self.items}) > 1
        line = f"{self.source}, line {item.line.number}" if item.line.number else self.source
        return f"{line}, seed {item.recipe.seed}" if several else line

    def _concerns_others(self, error: StreamT1Error) -> bool:
        """Whether an error ends other processes too: one in a search that they share, or one that they had."""
        if self.world is None:
            return False
        from streamt1_plugins.search.distributed.world import LostProcessError

        is_shared = self.group.workers.size > 1 and not isinstance(error, InputError)
        return self.world.is_over or is_shared or isinstance(error, LostProcessError)

    def _turns(self) -> Iterator[int]:
        """Numbers of videos; the processes that share candidates get the same ones."""
        for local in itertools.count():
            taken = local
            if self.world is not None:
                taken = self.world.status_board.count("taken", 1) - 1 if self.group.workers.rank == 0 else -1
            index = self.group.workers.all_gather(taken)[0]
            if index >= len(self.items):
                return
            yield index

    def _make(self, index: int, folder: Path) -> Outcome:
        """Make or finish one video, unless it is finished, or another batch makes it; returns its state."""
        try:
            return self._made(index, folder)
        except FolderInUseError:
            if self.group.workers.size > 1:  # the processes that share the video have to end together
                raise
            return "in use"

    def _made(self, index: int, folder: Path) -> State:
        from streamt1_plugins.resuming import open_interrupted, shown_from
        from streamt1_plugins.runs.observers.record import record_to, titled

        item, workers = self.items[index], self.group.workers
        state: State = workers.all_gather(item.state if workers.rank == 0 else "new")[0]
        if state == "begun":
            agreed = item.recipe.origin.agreed or item.recipe
            pipe = open_interrupted(folder, self.pipe.pipe, trust=agreed, observers=self._progress(index))
            pipe.workers = workers
            pipe.complete(pipe.last_run)
        elif state == "new":
            self.pipe.recipe = titled(shown_from(item.recipe, folder), folder)
            self.pipe.set_observers({**record_to(folder), **self._progress(index)})
            self.pipe(item.line.prompt, **item.line.call)
        return state

    def _progress(self, index: int) -> dict[str, Any]:
        """The observer that shows how far a video is; only the first process has one."""
        from streamt1_plugins.runs.observers.console import Console

        if self.quiet or not self._prints:
            return {}
        return {"console": Console(label=self._place(index))}

    def _wait_for_others(self) -> None:
        while self.world is not None and self.world.status_board.count("finished") < len(self.items):
            if self.world.status_board.any_failed(range(self.world.size)):
                raise self.world.lost("waits for the others")
            time.sleep(PAUSE)
