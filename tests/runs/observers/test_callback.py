"""`on_chunk_end`, in the manner of diffusers' callback_on_step_end."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.errors import PluginError
from tests.toy import ToyPipeline


def test_it_is_called_after_every_chunk_with_what_was_made() -> None:
    pipe, seen = streamt1.wrap(ToyPipeline()), []

    def look(given: Any, index: int, kwargs: dict[str, Any]) -> None:
        assert given is pipe
        assert torch.equal(kwargs["frames"], kwargs["run"].beams[0].history.frames[index])
        assert kwargs["latents"].shape == (1, 2, 3, 2, 2)
        assert kwargs["best"].rank == 0
        assert kwargs["best"] == kwargs["run"].beams[0].path[-1]
        assert kwargs["best"].score == max(node.score for node in kwargs["nodes"])
        seen.append((index, len(kwargs["nodes"])))

    pipe("a prompt", on_chunk_end=look)
    assert seen == [(0, 4), (1, 4), (2, 4), (3, 4)]


def test_it_can_end_the_video_early_and_the_next_call_is_whole_again() -> None:
    pipe = streamt1.wrap(ToyPipeline())

    def stop(given: streamt1.StreamPipeline, index: int, _: dict[str, Any]) -> None:
        given._interrupt = index == 1

    short = pipe("a prompt", on_chunk_end=stop)
    assert len(pipe.tree.winner) == 2
    whole = pipe("a prompt")
    assert len(whole) == 2 * len(short)


def test_a_callback_that_fails_is_named() -> None:
    with pytest.raises(PluginError, match="on_chunk_end failed: ZeroDivisionError"):
        streamt1.wrap(ToyPipeline())("a prompt", on_chunk_end=lambda *_: 1 / 0)


class Enough:
    """Any part may end a run."""

    @streamt1.hookimpl
    def streamt1_chunk_selected(self, run: streamt1.Run, chunk: streamt1.Chunk) -> None:
        run.stop = chunk.index == 2


def test_an_observer_can_end_the_video_early() -> None:
    pipe = streamt1.wrap(ToyPipeline(), observers={"enough": Enough()})
    pipe("a prompt")
    assert len(pipe.tree.winner) == 3
