"""Ground truth for clips of the moving-shapes world, measured from pixels. For evaluation only: no reward may use it.

Every pixel is classified as background or as the nearest colour of the palette. The mask of each thing in the prompt
gives its size, place and shape; its places give direction and speed. Frames in which two things touch do not count for
their shape and motion.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from streamt1_plugins.process.imports import deferred
from streamt1_tinyworld.scene import cover
from streamt1_tinyworld.world import BACKGROUNDS, COLOURS, DIRECTIONS, SHAPES, SIZE, Spec, Thing, parse

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
    from torch import Tensor
else:
    torch, F = deferred("torch"), deferred("torch.nn.functional")

FIRST_CHUNK, CHUNK = 9, 12  # frames
CONTRAST = 45.0  # RGB distance (0..255) below which a pixel is background
AREA = (90, 480)  # pixels of a thing of normal size
VISIBLE = 40  # pixels that place and shape need
MOVING = 0.25  # pixels per frame
FAST = 0.95  # pixels per frame between "slowly" and "quickly"
WORST_JERK = 9.0  # pixels per frame^2, for a thing never seen twice in a row
CROP = 20  # half width of the window in which shapes are compared


@dataclass(frozen=True)
class Scores:
    """Shares of frames (background, object, shape) or chunks (direction, speed) that are right; None: left open."""

    background: float | None = None
    object: float | None = None
    shape: float | None = None
    direction: float | None = None
    speed: float | None = None

    @property
    def mean(self) -> float:
        """The mean of the shares that are not None, or 1 without any."""
        shares = (self.background, self.object, self.shape, self.direction, self.speed)
        known = [value for value in shares if value is not None]
        return sum(known) / len(known) if known else 1.0


@dataclass(frozen=True)
class Verdict(Scores):
    """The scores of a whole clip, further measures, and the scores of each chunk."""

    score: float = 0.0  # mean of the five
    jerk: float | None = None  # pixels per frame^2, mean change of the velocity
    persistence: float | None = None  # 0..1, presence in the worst chunk
    size_drift: float | None = None  # |log| of the last chunk's area over the first's
    colour_drift: float | None = None  # RGB distance (0..255), last chunk against first
    background_drift: float = 0.0  # likewise
    chunks: tuple[Scores, ...] = ()


@dataclass(frozen=True)
class Track:
    """One thing, frame by frame."""

    area: Tensor  # [T]
    centre: Tensor  # [T, 2] pixels (x, y), nan where it is not visible
    shape: Tensor  # [T] index into SHAPES, -1 where it is not visible
    colour: Tensor  # [T, 3] in 0..255
    hidden: Tensor  # [T] bool: it touches another thing, or did so shortly before or after


@dataclass(frozen=True)
class Watched:
    """A clip as the judge sees it: what should be there, the background frame by frame, and where each thing is."""

    spec: Spec
    background: Tensor  # [T, 3] in 0..255
    tracks: list[Track]


def judge(frames: Tensor, prompt_or_spec: str | Spec) -> Verdict:
    """The verdict on frames [T, 3, 64, 64] in 0..1; attributes that the prompt leaves open do not count."""
    return verdict(watch(frames, prompt_or_spec))


def watch(frames: Tensor, prompt_or_spec: str | Spec) -> Watched:
    """The clip with its background and things measured."""
    spec = parse(prompt_or_spec) if isinstance(prompt_or_spec, str) else prompt_or_spec
    with torch.no_grad():
        pixels = frames.float().clamp(0, 1) * 255
        background = pixels.flatten(2).median(2).values
        return Watched(spec, background, _follow(pixels, background, spec))


def verdict(clip: Watched, first_chunk: int = FIRST_CHUNK, since: int = 0) -> Verdict:
    """The verdict on a clip whose first chunk has `first_chunk` frames; drifts count from chunk `since`."""
    spec, tracks, background, frames = clip.spec, clip.tracks, clip.background, len(clip.background)
    windows = _windows(frames, first_chunk)
    backdrop = _background_ok(background, spec)
    chunks = [_score_chunk(window, backdrop, tracks, spec) for window in windows]
    whole = _score_chunk(slice(0, frames), backdrop, tracks, spec)
    directions, speeds = (mean([getattr(chunk, name) for chunk in chunks]) for name in ("direction", "speed"))
    whole = replace(whole, direction=directions, speed=speeds)
    presence = [chunk.object for chunk in chunks if chunk.object is not None]
    first, last = windows[min(since, len(windows) - 1)], windows[-1]
    return Verdict(
        **vars(whole),
        score=whole.mean,
        jerk=mean([_jerk(track) for track in tracks]),
        persistence=min(presence, default=None),
        size_drift=mean([_size_drift(track, first, last) for track in tracks]),
        colour_drift=mean([_colour_drift(track, first, last) for track in tracks]),
        background_drift=float((background[last].mean(0) - background[first].mean(0)).norm()),
        chunks=tuple(chunks),
    )


def appearance(track: Track) -> tuple[float, Tensor] | None:
    """Mean area and colour of a thing over the frames that show it without overlap; None where no frame does."""
    shown = (track.area >= VISIBLE) & ~track.hidden
    return (float(track.area[shown].float().mean()), track.colour[shown].mean(0)) if shown.any() else None


def _windows(frames: int, first_chunk: int) -> list[slice]:
    edges = [0, *range(first_chunk, frames, CHUNK), frames] if frames > first_chunk else [0, frames]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def _background_ok(background: Tensor, spec: Spec) -> Tensor | None:
    if spec.background is None:
        return None
    palette = torch.tensor(list(BACKGROUNDS.values()), device=background.device)
    nearest = (background[:, None] - palette).norm(dim=2).argmin(1)
    right: Tensor = nearest == list(BACKGROUNDS).index(spec.background)
    return right.float()


def _follow(pixels: Tensor, background: Tensor, spec: Spec) -> list[Track]:
    masks = _masks(pixels, background, spec)
    near = [_around_core(mask) for mask in masks]
    tracks = []
    for index, mask in enumerate(masks):
        others = [
            near[index].flatten(1) & other.flatten(1) for other_index, other in enumerate(near) if other_index != index
        ]
        touching = torch.stack(others).any(0).any(1) if others else torch.zeros(len(pixels), dtype=torch.bool)
        area, colour = mask.sum((1, 2)), _colours(pixels, mask)
        centre = _centre(mask, _opacity(pixels, background, colour, near[index]))
        around = F.max_pool1d(touching.float()[None], 9, 1, 4)[0] > 0
        hidden = touching.to(area.device) | (around.to(area.device) & (area < VISIBLE))
        tracks.append(Track(area, centre, _shapes(mask, centre), colour, hidden))
    return tracks


def _masks(pixels: Tensor, background: Tensor, spec: Spec) -> list[Tensor]:
    """Masks [T, 64, 64] per thing. A thing without a colour gets all colours that no other thing has."""
    names = [name for name in COLOURS if name != spec.background]
    palette = torch.tensor([COLOURS[name] for name in names], device=pixels.device)
    contrast = _distance(pixels, background)
    distance, label = torch.stack([_distance(pixels, colour) for colour in palette], 1).min(1)
    label = label.masked_fill((contrast < CONTRAST) | (contrast < distance), -1)
    taken = [names.index(thing.colour) for thing in spec.things if thing.colour in names]
    free = (label >= 0) & ~torch.isin(label, torch.tensor(taken, device=label.device))
    return [label == names.index(t.colour) if t.colour in names else free for t in spec.things]


def _distance(pixels: Tensor, colour: Tensor) -> Tensor:
    """RGB distance [T, 64, 64] to a colour [3], or to one of each frame [T, 3]; `Tensor.norm` is ten times slower."""
    red, green, blue = (pixels - colour[..., None, None]).unbind(1)
    return (red * red + green * green + blue * blue).sqrt()


def _around_core(mask: Tensor) -> Tensor:
    """Masks [T, 64, 64] of a thing and one pixel around it, without stray pixels, which occur at blended edges."""
    core = -F.max_pool2d(-mask.float()[:, None], 3, 1, 1)
    return F.max_pool2d(core, 5, 1, 2)[:, 0] > 0


def _centre(mask: Tensor, weight: Tensor) -> Tensor:
    """Centre of mass [T, 2] on the torus, nan where the mask is too small."""
    angle = torch.arange(SIZE, device=mask.device) * (2 * math.pi / SIZE)
    found = []
    for axis in (1, 2):  # sums over rows leave columns: x first
        profile = weight.sum(axis)
        turn = torch.atan2(profile @ angle.sin(), profile @ angle.cos())
        found.append(turn.remainder(2 * math.pi) * SIZE / (2 * math.pi))
    unseen = (mask.sum((1, 2)) < VISIBLE) | (weight.sum((1, 2)) < 1)
    return torch.stack(found, 1).masked_fill(unseen[:, None], math.nan)


def _opacity(pixels: Tensor, background: Tensor, colour: Tensor, near: Tensor) -> Tensor:
    """Share [T, 64, 64] of the thing's colour in each pixel near it, for places finer than a pixel."""
    contrast, offset = colour - background, pixels - background[..., None, None]
    share = torch.einsum("tc,tchw->thw", contrast, offset) / contrast.pow(2).sum(1).clamp(min=1)[:, None, None]
    return share.clamp(0, 1) * near


def _shapes(mask: Tensor, centre: Tensor) -> Tensor:
    """Index [T] of the shape whose template of equal area overlaps best, at nine places around the centre."""
    result = torch.full((len(mask),), -1, device=mask.device)
    for rows in torch.split(torch.nonzero(~centre[:, 0].isnan())[:, 0], 64):
        at = centre[rows]
        grid = at.round()[:, :, None] + torch.arange(-CROP, CROP, device=mask.device)  # [n, 2, 40]
        index = grid.long().remainder(SIZE)
        crop = mask[rows[:, None, None], index[:, 1, :, None], index[:, 0, None, :]]
        dx, dy = (grid - at[:, :, None]).unbind(1)
        radius = (mask[rows].sum((1, 2)) / math.pi).sqrt()[:, None, None]
        overlaps = [_overlap(crop, _templates(shape, radius, dx, dy)) for shape in range(len(SHAPES))]
        result[rows] = torch.stack(overlaps, 1).argmax(1)
    return result


def _templates(shape: int, radius: Tensor, dx: Tensor, dy: Tensor) -> Tensor:
    """Templates [9, n, 40, 40] of the shape, shifted by -1, 0 or 1 pixels in each direction."""
    kind = torch.tensor(shape, device=dx.device)
    shifts = [(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1)]
    return torch.stack([cover(kind, radius, (dx - x)[:, None, :], (dy - y)[:, :, None]) > 0.5 for x, y in shifts])


def _overlap(crop: Tensor, templates: Tensor) -> Tensor:
    """Best intersection over union [n]."""
    both, either = (crop & templates).sum((2, 3)), (crop | templates).sum((2, 3))
    return (both / either.clamp(min=1)).amax(0)


def _colours(pixels: Tensor, mask: Tensor) -> Tensor:
    total = (pixels * mask[:, None]).sum((2, 3))
    return total / mask.sum((1, 2)).clamp(min=1)[:, None]


def _score_chunk(window: slice, backdrop: Tensor | None, tracks: list[Track], spec: Spec) -> Scores:
    pairs = list(zip(tracks, spec.things, strict=True))
    return Scores(
        background=None if backdrop is None else float(backdrop[window].mean()),
        object=mean([_presence(track, window) for track in tracks]),
        shape=mean([_shape_ok(track, window, thing) for track, thing in pairs]),
        direction=mean([_direction_ok(track, window, thing) for track, thing in pairs]),
        speed=mean([_speed_ok(track, window, thing) for track, thing in pairs]),
    )


def _clear(track: Track, window: slice) -> Tensor:
    """Mask of the window's frames without overlap, or of all frames if hardly any is without."""
    clear = ~track.hidden[window]
    return clear if clear.float().mean() >= 0.25 else torch.ones_like(clear)


def _presence(track: Track, window: slice) -> float:
    area = track.area[window][_clear(track, window)]
    return float(((area >= AREA[0]) & (area <= AREA[1])).float().mean())


def _shape_ok(track: Track, window: slice, thing: Thing) -> float | None:
    if thing.shape is None:
        return None
    return float((track.shape[window][_clear(track, window)] == SHAPES.index(thing.shape)).float().mean())


def _steps(track: Track) -> tuple[Tensor, Tensor]:
    """Velocities [T-1, 2] in pixels per frame, the short way round, nan where unknown; and which are hidden [T-1]."""
    step = track.centre.diff(dim=0)
    step = (step + SIZE / 2).remainder(SIZE) - SIZE / 2
    hidden = track.hidden[1:] | track.hidden[:-1]
    return step.masked_fill(hidden[:, None], math.nan), hidden


def _moves(track: Track, window: slice) -> Tensor | None:
    """Known velocities [n, 2] of a chunk, the step into it included; None: too few are clear; empty: it is absent."""
    velocities, hidden = (part[max(0, window.start - 1) : window.stop - 1] for part in _steps(track))
    unknown = velocities[:, 0].isnan()
    known = velocities[~unknown]
    if len(known) >= 4:
        return known
    return known[:0] if (unknown & ~hidden).float().sum() > len(velocities) / 2 else None


def _direction_ok(track: Track, window: slice, thing: Thing) -> float | None:
    moves = _moves(track, window)
    if thing.motion is None or moves is None:
        return None
    if len(moves) == 0:
        return 0.0
    if thing.motion == "bouncing":  # oblique, in any direction
        steep = moves.abs().median(0).values
        return float(moves.norm(dim=1).median() > MOVING and steep.min() > 0.25 * steep.max())
    velocity = moves.median(0).values
    ahead = float(velocity @ velocity.new_tensor(DIRECTIONS[thing.motion]))
    aside = float(velocity @ velocity.new_tensor(DIRECTIONS[thing.motion]).flip(0))
    return float(ahead > MOVING and ahead > 2 * abs(aside))


def _speed_ok(track: Track, window: slice, thing: Thing) -> float | None:
    moves = _moves(track, window)
    if thing.speed is None or moves is None:
        return None
    if len(moves) == 0:
        return 0.0
    speed = float(moves.norm(dim=1).median())
    return float(MOVING < speed < FAST if thing.speed == "slowly" else FAST <= speed < 2.2)


def _jerk(track: Track) -> float:
    change = _steps(track)[0].diff(dim=0).norm(dim=1)
    known = change[~change.isnan()]
    return float(known.mean()) if len(known) else WORST_JERK


def _size_drift(track: Track, first: slice, last: slice) -> float | None:
    areas = [track.area[window][track.area[window] >= VISIBLE].float() for window in (first, last)]
    return float((areas[1].mean() / areas[0].mean()).log().abs()) if all(len(area) for area in areas) else None


def _colour_drift(track: Track, first: slice, last: slice) -> float | None:
    colours = [track.colour[window][track.area[window] >= VISIBLE] for window in (first, last)]
    return float((colours[1].mean(0) - colours[0].mean(0)).norm()) if all(len(colour) for colour in colours) else None


def mean(values: Sequence[float | None], weights: Sequence[float] | None = None) -> float | None:
    """The mean of the values that are not None; None without any."""
    known = [(v, w) for v, w in zip(values, weights or [1] * len(values), strict=True) if v is not None]
    return sum(v * w for v, w in known) / sum(w for _, w in known) if known else None
