"""Fewer frames for a reward: each k-th frame of the video, the same ones in every window and on every branch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamt1_plugins.api.reward import RewardInput


def thinned(inp: RewardInput, every: int, first: int) -> RewardInput:
    """The input with the frames whose place in the video is a multiple of `every`; `first`: place of its first frame.

    Of the new frames, and of those before them, at least the last one stays.
    """
    if every == 1:
        return inp
    start, stop, _ = inp.new_frames.indices(inp.video.shape[1])
    before, new = _chosen(range(start), every, first), _chosen(range(start, stop), every, first)
    frames = [*before, *new]
    return replace(
        inp,
        video=inp.video[:, frames],
        fps=inp.fps / every,
        new_frames=slice(len(before), len(before) + len(new)),
        anchor=None if inp.anchor is None else inp.anchor[:, ::every].contiguous(),
        frame_ids=tuple(tuple(keys[frame] for frame in frames) for keys in inp.frame_ids),
    )


def _chosen(frames: range, every: int, first: int) -> list[int]:
    return [frame for frame in frames if (first + frame) % every == 0] or list(frames[-1:])
