"""The call argument `on_chunk_end`, in the manner of diffusers' `callback_on_step_end`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamt1_plugins.api.hookspecs import hookimpl
from streamt1_plugins.errors import StreamT1Error, foreign_code

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.types import Chunk


@dataclass(eq=False)
class OnChunkEnd:
    """Calls ``callback(pipe, chunk_index, callback_kwargs)`` after every chunk.

    `callback_kwargs` holds `best`, the chunk's best candidate, and its `latents` and `frames`; the `nodes` of all its
    candidates in the order they were made; and the `run`. Its return value is ignored: the search owns its tensors.
    ``pipe._interrupt = True``, set at any time during the call, ends the search after the current chunk, as in
    diffusers; the video then has the chunks so far.
    """

    pipe: Any
    callback: Callable[[Any, int, dict[str, Any]], Any]

    @hookimpl
    def streamt1_chunk_selected(self, run: Run, chunk: Chunk) -> None:
        best = run.beams[0]
        given = {
            "best": best.path[-1],
            "latents": best.history.latents[-1],
            "frames": best.history.frames[-1],
            "nodes": run.tree.chunk(chunk.index),
            "run": run,
        }
        with foreign_code("The callback on_chunk_end", passes=(StreamT1Error, KeyboardInterrupt)):
            self.callback(self.pipe, chunk.index, given)
        run.stop = run.stop or self.pipe._interrupt
