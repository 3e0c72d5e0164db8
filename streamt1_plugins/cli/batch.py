"""`streamt1 generate --prompts FILE`: a run folder per prompt, over all processes; existing runs are finished.

A prompt that cannot be made is reported with its line; the others are made.
"""

from __future__ import annotations

import itertools
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from streamt1_plugins.cli.base import complain, echo
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

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from streamt1_plugins.config.prompt_file import PromptLine
    from streamt1_plugins.pipeline import StreamPipeline
    from streamt1_plugins.search.distributed.launch import Group
    from streamt1_plugins.search.distributed.world import World

NAME_LENGTH = 80
PAUSE = 0.2  # seconds between two readings of the other processes' progress

State = Literal["new", "begun", "done", "in use"]
REMARKS: dict[str, str] = {"done": "  (exists)", "in use": "  (another process makes it)"}


class OtherRunError(InputError):
    """A folder of the batch holds a run of another prompt or recipe, so the whole batch is another one."""


def folder_of(out: Path, index: int, prompt: str) -> Path:
    """The run folder of a prompt, named by its number in the file and its first words."""
    return out / "-".join([f"{index + 1:04d}", *words_of(prompt)])[:NAME_LENGTH].rstrip("-")


def words_of(prompt: str) -> list[str]:
    """The first eight words of a prompt, as they stand in the name of a folder."""
    return re.findall(r"[a-z0-9]+", prompt.lower())[:8]


def state_of(folder: Path, prompt: str, recipe: Mapping[str, Any]) -> State:
    """Whether a prompt's run is new, begun or done. Raises `OtherRunError` for a run of another one."""
    from streamt1_plugins.runs.journal import JOURNAL
    from streamt1_plugins.runs.recorded import RecordedRun

    if not (folder / JOURNAL).exists():
        return "new"
    recorded = RecordedRun.read(folder)
    then = recorded.recipe.model_dump(mode="json")
    if recorded.start["prompt"] != prompt or _comparable(then) != _comparable(recipe):
        raise OtherRunError(f"{folder} holds a run of another prompt or recipe. Choose another --out.")
    return "done" if recorded.status == "finished" else "begun"


def _comparable(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The sections that decide the result: all but observers and the number of processes."""
    return {name: value for name, value in recipe.items() if name not in ("observers", "parallel")}


def report_problems(file: Path, lines: Sequence[PromptLine]) -> None:
    """Print every prompt that cannot be used. Raises `InputError` where that is all of them."""
    wrong = [line for line in lines if line.problem]
    if len(wrong) == len(lines):
        raise InputError(f"{file}: no prompt can be used. Line {wrong[0].number}: {wrong[0].problem}")
    for line in wrong:
        complain(f"{file}, line {line.number}: {str(line.problem).rstrip('.')}. The other prompts are made.")


@dataclass(frozen=True)
class Batch:
    """One process's part in a file of prompts."""

    pipe: StreamPipeline
    file: Path
    prompts: list[PromptLine]
    out: Path
    call: Mapping[str, Any]
    group: Group
    world: World | None
    quiet: bool = False

    def run(self) -> int:
        """Make videos until no prompt is left; a process that has finished one takes the next.

        Returns the number of prompts without a video: of all processes in the first one, else of this one.
        """
        prints, failed = self.world is None or self.world.rank == 0, 0
        for index in self._turns():
            folder = folder_of(self.out, index, self.prompts[index].text)
            state = self._attempt(folder, self.prompts[index])
            failed += state == "failed"
            if prints and state != "failed":
                shown = f"[{index + 1}/{len(self.prompts)}] {folder}{REMARKS.get(state, '')}"
                echo(folder / VIDEO if self.quiet else shown)
            if self.world is not None and self.group.workers.rank == 0:
                self.world.status_board.count("failed", int(state == "failed"))
                self.world.status_board.count("finished", 1)
        if prints:
            self._wait_for_others()
            failed = failed if self.world is None else self.world.status_board.count("failed")
            if not self.quiet:
                echo(f"{len(self.prompts) - failed} videos in {self.out}")
        return failed

    def _attempt(self, folder: Path, line: PromptLine) -> State | Literal["failed"]:
        """Make or finish the run of one prompt, unless it was finished before; a failure is printed."""
        if line.problem:  # has been reported
            return "failed"
        try:
            with foreign_code("Making this video"):
                return self._make(folder, line.text)
        except (OtherRunError, OutputError, TrustError):  # will meet the other prompts too
            raise
        except StreamT1Error as error:
            if self._concerns_others(error):
                raise
            if self.group.workers.rank == 0:
                complain(f"{self.file}, line {line.number}: {error}")
            return "failed"

    def _concerns_others(self, error: StreamT1Error) -> bool:
        """Whether an error ends other processes too: one in a search that they share, or one that they had."""
        if self.world is None:
            return False
        from streamt1_plugins.search.distributed.world import LostProcessError

        is_shared = self.group.workers.size > 1 and not isinstance(error, InputError)
        return self.world.is_over or is_shared or isinstance(error, LostProcessError)

    def _turns(self) -> Iterator[int]:
        """Numbers of prompts; the processes that share candidates get the same ones."""
        for local in itertools.count():
            taken = local
            if self.world is not None:
                taken = self.world.status_board.count("taken", 1) - 1 if self.group.workers.rank == 0 else -1
            index = self.group.workers.all_gather(taken)[0]
            if index >= len(self.prompts):
                return
            yield index

    def _make(self, folder: Path, prompt: str) -> State:
        """Make or finish the run of one prompt, unless it is finished, or another batch makes it; returns its state."""
        try:
            return self._made(folder, prompt)
        except FolderInUseError:
            if self.group.workers.size > 1:  # the processes that share the video have to end together
                raise
            return "in use"

    def _made(self, folder: Path, prompt: str) -> State:
        from streamt1_plugins.resuming import open_interrupted, shown_from
        from streamt1_plugins.runs.observers.record import record_to

        recipe, workers = self.pipe.recipe.model_dump(mode="json"), self.group.workers
        state: State = workers.all_gather(state_of(folder, prompt, recipe) if workers.rank == 0 else "new")[0]
        if state == "begun":
            pipe = open_interrupted(folder, self.pipe.pipe, trust=self.pipe.recipe.origin.agreed or self.pipe.recipe)
            pipe.workers = workers
            pipe.complete(pipe.last_run)
        elif state == "new":
            self.pipe.recipe = shown_from(self.pipe.recipe, folder)
            self.pipe.set_observers(record_to(folder))
            self.pipe(prompt, **self.call)
        return state

    def _wait_for_others(self) -> None:
        while self.world is not None and self.world.status_board.count("finished") < len(self.prompts):
            if self.world.status_board.any_failed(range(self.world.size)):
                raise self.world.lost("waits for the others")
            time.sleep(PAUSE)
