"""Ground truth for videos of several scenes: each by its own prompt, how fast it begins, and what comes back in it.

A thing comes back where a scene names the colour and shape of one from an earlier scene, and a scene between the two
does not. Captions never name size and tint, so only a memory of the first scene can keep them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamt1_tinyworld.judge import CHUNK, Verdict, Watched, appearance, mean, verdict, watch

if TYPE_CHECKING:
    from torch import Tensor

    from streamt1_tinyworld.world import Thing

SETTLED = 0.9
"""The score of a chunk from which on a scene counts as begun."""
SAME_SIZE, SAME_COLOUR = 0.15, 10.0
"""|log| of a ratio of areas and RGB distance (0..255) up to which a thing that comes back counts as the same: later
frames of the same clip always do, 7 of 100 pairs of clips with one caption do by chance."""


@dataclass(frozen=True)
class ScenesVerdict(Verdict):
    """The verdict on a video of several scenes.

    Scores, jerk and drifts are means over the scenes by their frames. Drifts are those inside a scene; after a cut they
    count from its second chunk, as the first one fades in. `persistence` is that of the worst chunk. None: nothing of
    the kind is in the video.
    """

    after_cut: float | None = None  # score of the first chunk after a cut, mean over the cuts
    settled_in: float | None = None  # chunks before the first one of SETTLED or more, mean over the cuts
    return_size: float | None = None  # |log| of the area of a thing that comes back over its first one
    return_colour: float | None = None  # RGB distance (0..255), likewise
    scenes: tuple[float, ...] = ()  # scores
    returned: float | None = None  # share of the things that come back which look the same, those not seen included


def judge_scenes(scenes: Sequence[tuple[Tensor, str]]) -> ScenesVerdict:
    """The verdict on (frames [T, 3, 64, 64] in 0..1, prompt) of the scenes of one video, in order."""
    clips = [watch(frames, prompt) for frames, prompt in scenes]
    each = [verdict(clip, CHUNK, since=1) if index else verdict(clip) for index, clip in enumerate(clips)]
    sizes = [len(clip.background) for clip in clips]
    means = {
        name: mean([getattr(one, name) for one in each], sizes)
        for name in ("background", "object", "shape", "direction", "speed", "jerk", "size_drift", "colour_drift")
    }
    pairs = list(_returns(clips))
    return ScenesVerdict(
        **means,
        score=mean([one.score for one in each], sizes) or 0.0,
        persistence=min((one.persistence for one in each if one.persistence is not None), default=None),
        background_drift=mean([one.background_drift for one in each], sizes) or 0.0,
        chunks=tuple(chunk for one in each for chunk in one.chunks),
        scenes=tuple(one.score for one in each),
        after_cut=mean([one.chunks[0].mean for one in each[1:]]),
        settled_in=mean([_settled_in(one) for one in each[1:]]),
        return_size=mean([None if pair is None else pair[0] for pair in pairs]),
        return_colour=mean([None if pair is None else pair[1] for pair in pairs]),
        returned=mean([float(pair is not None and _is_same(*pair)) for pair in pairs]),
    )


def _settled_in(scene: Verdict) -> int:
    """The chunks of a scene before the first right one; all of them where none is."""
    right = [index for index, chunk in enumerate(scene.chunks) if chunk.mean >= SETTLED]
    return right[0] if right else len(scene.chunks)


def _returns(clips: Sequence[Watched]) -> list[tuple[float, float] | None]:
    """(change of size, of colour) of each thing that comes back, None where it is not seen in one of the scenes."""
    found = []
    for now, clip in enumerate(clips):
        for place, thing in enumerate(clip.spec.things):
            earlier = [_place_of(thing, other) for other in clips[:now]]
            first = next((index for index, at in enumerate(earlier) if at is not None), now)
            if None in earlier[first:]:
                found.append(_change(clips[first], earlier[first] or 0, clip, place))
    return found


def _place_of(thing: Thing, clip: Watched) -> int | None:
    """The place of the thing of the same colour and shape in another scene, None where there is none."""
    known = [(each.colour, each.shape) for each in clip.spec.things]
    named = (thing.colour, thing.shape)
    return known.index(named) if named in known and None not in named else None


def _change(first: Watched, before: int, now: Watched, after: int) -> tuple[float, float] | None:
    one, other = appearance(first.tracks[before]), appearance(now.tracks[after])
    if one is None or other is None:
        return None
    return abs(math.log(other[0] / one[0])), float((other[1] - one[1]).norm())


def _is_same(size: float, colour: float) -> bool:
    return size <= SAME_SIZE and colour <= SAME_COLOUR
