"""A take in the hands of the studio: the one module that uses `Take`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import streamt1_plugins as streamt1
from streamt1_studio.pictures import Picture, strip
from streamt1_studio.view import live_view

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass
class Hand:
    """An open take, recorded in a folder. It has the model until it is finished or parked."""

    take: streamt1.Take

    @classmethod
    def begun(cls, pipe: streamt1.StreamPipeline, folder: Path, prompt: str, call: Mapping[str, Any]) -> Hand:
        """A new take. Raises `InputError` where the pipeline refuses the call."""
        pipe.set_observers(streamt1.record_to(folder))
        return cls(pipe.take(prompt, **call))

    @classmethod
    def reopened(cls, pipe: streamt1.StreamPipeline, folder: Path) -> Hand:
        """A recorded take or run where it stopped; of a complete one the last chunks can be taken back."""
        return cls(streamt1.resume_take(folder, pipe))

    @classmethod
    def branched(cls, pipe: streamt1.StreamPipeline, run: Path, node: str, out: Path) -> Hand:
        """A new take, recorded in `out`, that continues a candidate of a recorded run."""
        opened = streamt1.branch(run, node, out, pipe)
        return cls(opened.take_over(opened.last_run))

    @property
    def done(self) -> int:
        """How many chunks are kept."""
        return self.take.chunks if self.take.chunk is None else self.take.chunk.index

    @property
    def is_complete(self) -> bool:
        """Whether every chunk is kept."""
        return self.take.is_finished

    @property
    def is_closed(self) -> bool:
        """Whether the take was finished or parked."""
        return self.take.is_closed

    @property
    def needs_roll(self) -> bool:
        """Whether a chunk is left to be made, and no candidates of it wait."""
        return not (self.is_closed or self.is_complete or self.take.candidates)

    def roll(self) -> None:
        """Make the candidates of the next chunk, where none wait and one is left."""
        if self.needs_roll:
            self.take.roll()

    def step(self) -> None:
        """Let the recipe do one thing: make candidates, keep those that it prefers, or finish."""
        if self.is_complete:
            self.finish()
        elif self.needs_roll:
            self.roll()
        else:
            self.take.keep()

    def keep(self, node: str | None) -> None:
        """Keep a candidate, or what the recipe prefers."""
        self.take.keep(node)

    def reroll(self, count: int | None, refine: str | None) -> None:
        """Make more candidates of this chunk, or variations of one."""
        if self.needs_roll:
            self.take.roll(count)
        else:
            self.take.reroll(count, refine)

    def back_to(self, chunk: int) -> None:
        """Go back to the beginning of a chunk."""
        if chunk > self.done:
            raise streamt1.InputError(f"Chunk {chunk} is not made yet: the take has {self.done} chunks.")
        self.take.back(self.done - chunk)

    def prompt(self, text: str, memory: Any) -> None:
        """Change the prompt from the open chunk on: candidates that wait were made with the old one, and are given up.

        Raises `InputError` in chunk 0, and for a pipeline whose prompt cannot change.
        """
        if not self.done:
            raise streamt1.InputError("Chunk 0 has the prompt of the take: begin a new take for another one.")
        if self.take.candidates:
            self.take.back(0)
        self.take.prompt(text, memory)

    def finish(self) -> None:
        """Choose the best branch, and write its video and page."""
        self.take.save()

    def park(self) -> None:
        """Close the take; its record can be opened again."""
        self.take.close()

    def view(self) -> dict[str, Any]:
        """What is to be seen of it."""
        self.take.run.background.wait()  # for the pictures
        return live_view(self.take)

    def pictures(self) -> dict[str, Picture]:
        """A strip of every candidate that waits; the record has pictures of those that were scored in full alone."""
        drawn = {each.id: strip(each.decoded.frames) for each in self.take.candidates if each.is_finished}
        return {name: picture for name, picture in drawn.items() if picture is not None}
