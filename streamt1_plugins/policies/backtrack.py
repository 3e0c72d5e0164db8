"""Backtracking: where every candidate of a chunk has fallen behind its own branch, the search goes back.

Let l(0) .. l(t) be the calibrated long rewards along a candidate's branch, its own the last. Within a window of w
chunks, the branch has fallen by

    fall(t) = max(l(t - w) .. l(t - 1)) - l(t)

and chunk t has failed where the fall of every candidate is above a threshold, and has taken at least a `share` of the
raw rewards too. The unit of a calibrated reward is the spread of its own run: in a video where nothing goes wrong that
is small, and the reward's noise alone exceeds any threshold now and then. The last good chunk g is the newest one of
the window, on the branch that has fallen least, with

    l(g) >= max(l(t - w) .. l(t - 1)) - good * threshold

so that a slow decline is made anew from where it began, and a sudden fall from chunk t itself. The search returns to
the beams after chunk g, with fresh noise, at most a number of times in a video; the failed branch stays in the tree.
Where chunk t fails again, the n-th return goes back (n - 1) * `further` chunks more: what a branch loses in one chunk
may have been decided in the chunks before. A fall that no return avoids is part of the video, or of the reward, and is
accepted: later chunks are compared from there on, so that one fall does not take all returns.

Keeping the prefix before the first failed chunk instead of starting over is the idea of arXiv 2606.13861, which reports
22.7 % of solved cases against 0.7 % for best-of-n on its own task; the measure of failure here is a reward's fall.

Cost: every return repeats at most w chunks, so a video takes up to `times` * w chunks more. Nothing is added where no
chunk fails. While returns are left, the beams of w - 1 earlier chunks stay in memory, and a stream is as many chunks
late.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from streamt1_plugins.api.hookspecs import hookimpl
from streamt1_plugins.api.types import Revision, RevisionLimits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streamt1_plugins.api.candidate import Candidate
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.types import Chunk, Node, Reading


def fall(longs: Sequence[float], window: int) -> float:
    """How far the last value lies below the highest of the `window` before it; NaN where nothing was measured."""
    *before, last = longs
    known = [value for value in before[-window:] if math.isfinite(value)]
    return max(known) - last if known else math.nan


def lost_share(path: Sequence[Node], window: int) -> float:
    """The share of the highest of the `window` raw long rewards before it that the last node of a path has lost.

    The weighted mean of ``(top - last) / |top|`` over the rewards that decide: 1 where all of a positive reward is
    gone, below 0 where it has risen, NaN where nothing was measured. From a top of 0 it is the fall itself.
    """
    deciding = {name: reading for name, reading in _long(path[-1]).items() if reading.weight > 0}
    shares, total = 0.0, 0.0
    for name, reading in deciding.items():
        known = [_long(node)[name].raw for node in path[-window - 1 : -1] if name in _long(node)]
        top = max((raw for raw in known if math.isfinite(raw)), default=math.nan)
        shares += reading.weight * (top - reading.raw) / (abs(top) or 1.0)
        total += reading.weight
    return shares / total if total else math.nan


def last_good(longs: Sequence[float], window: int, slack: float) -> int:
    """The place of the newest value before the last, within the `window`, at most `slack` below the highest there."""
    before = list(longs[:-1])
    top = max(value for value in before[-window:] if math.isfinite(value))
    return max(place for place, value in enumerate(before) if value >= top - slack)


@dataclass(frozen=True)
class Backtrack:
    """Goes back to the last good chunk where the long reward of every candidate has fallen.

    threshold: a larger fall fails, in calibrated reward units. share: where it is also at least this share of the raw
    reward that it fell from; 0 for rewards whose zero means nothing. window: chunks before the judged one that it is
    compared with; the search goes back less than that. good: a chunk is good while it has lost at most this share of
    the threshold. times: returns in a video at most. attempts: returns from the same chunk at most. further: chunks
    that each of them goes back beyond the one before it, within the window.
    """

    needs_frames: ClassVar[bool] = False
    compares_chunks: ClassVar[bool] = True
    needs_search: ClassVar[bool] = True

    threshold: Annotated[float, Field(gt=0)] = 0.5
    window: Annotated[int, Field(ge=1, le=1000)] = 3
    share: Annotated[float, Field(ge=0, le=1)] = 0.0
    good: Annotated[float, Field(ge=0, le=1)] = 0.5
    times: Annotated[int, Field(ge=1, le=1000)] = 2
    attempts: Annotated[int, Field(ge=1, le=1000)] = 1
    further: Annotated[int, Field(ge=0, le=1000)] = 0

    @property
    def limits(self) -> RevisionLimits:
        """One round a chunk, and `times` returns within the window."""
        return RevisionLimits(reach=self.window - 1, returns=self.times, rounds=1)

    @hookimpl
    def streamt1_revise(self, run: Run, chunk: Chunk, candidates: Sequence[Candidate]) -> Revision | None:
        """A return where every candidate that can survive has fallen; a fall that was not measured is none."""
        made = [judged for judged, _ in run.tree.returns]
        again = made.count(chunk.index)
        if len(made) >= self.times or again >= self.attempts:
            return None
        accepted = max((judged for judged in made if judged < chunk.index), default=0)
        paths = [_since(accepted, each) for each in candidates if each.is_eligible]
        falls = [fall([node.long for node in path], self.window) for path in paths]
        shares = [lost_share(path, self.window) for path in paths]
        if not paths or not all(map(self._is_failed, falls, shares)):
            return None
        least = falls.index(min(falls))
        longs = [node.long for node in paths[least]]
        good = chunk.index - len(longs) + 1 + last_good(longs, self.window, self.good * self.threshold)
        back_to = max(good + 1 - again * self.further, run.earliest)
        share = f", the raw one by {shares[least]:.0%}" if self.share else ""
        return Revision(back_to=back_to, reason=f"The long reward fell by {falls[least]:.3f}{share}.")

    def _is_failed(self, fallen: float, share: float) -> bool:
        return fallen > self.threshold and (not self.share or share >= self.share)


def _since(chunk: int, candidate: Candidate) -> list[Node]:
    """The branch of a candidate from this chunk on, itself included."""
    return [node for node in (*candidate.beam.path, candidate) if node.chunk >= chunk]


def _long(node: Node) -> Mapping[str, Reading]:
    return node.readings.get("long", {})
