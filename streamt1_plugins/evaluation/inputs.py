"""The inputs of rewards: frames of the two horizons and of whole videos, with the keys that identify each frame."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from streamt1_plugins.api.adapter import History
from streamt1_plugins.api.reward import RewardInput
from streamt1_plugins.api.scenes import scene_at
from streamt1_plugins.evaluation.thinning import thinned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from streamt1_plugins.api.candidate import Beam, Candidate
    from streamt1_plugins.api.reward import FrameKey
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.scenes import Scene
    from streamt1_plugins.api.types import Horizon
    from streamt1_plugins.config.rewards import Decode


def quantise(video: Tensor) -> Tensor:
    """Truncate to 8 bits, as frames written to PNG and read back (paper release)."""
    return (video * 255).floor() / 255


@dataclass(frozen=True)
class Frames:
    """The frames of a run as its recipe gives them to rewards: decoded how, how precise, with which keys."""

    run: Run

    def decode(self, horizon: Horizon) -> Decode:
        """Which frames a horizon shows. A plain run has no previews: its candidate is decoded in any case."""
        kind, has_previews = self.run.recipe.rewards.decode_of(horizon), self.run.beams[0].previews is not None
        return "carried" if kind in ("preview", "auto") and not has_previews else kind

    def are_cold(self, horizon: Horizon) -> bool:
        """Whether windows are decoded with an empty decoder (paper release) instead of the video's own."""
        return self.decode(horizon) == "cold"

    def have_keys(self, horizon: Horizon) -> bool:
        """Whether a frame key always means the same pixels: not when decoded anew, nor when later chunks revise it."""
        return not self.are_cold(horizon) and self.run.session.capabilities.decode != "blended"

    def pixels(self, video: Tensor) -> Tensor:
        """Frames in float32 whatever the decoder works in, truncated to 8 bits where the recipe wants it."""
        video = video.float()
        return quantise(video) if self.run.recipe.rewards.pixels == "uint8" else video

    def cold(self, latents: Sequence[Tensor]) -> Tensor:
        """Frames of these chunks from an empty decoder; where a call continues frames, its root is not empty."""
        beam = self.run.beams[0]
        is_continued = beam.history.index > len(beam.path)
        root = History() if is_continued else self.run.session.root()
        return self.run.session.decode(root, torch.cat(list(latents), dim=2))[0].frames

    def whole_videos(self) -> RewardInput:
        """The input of the surviving beams' whole videos, every frame of them to be judged: those of the video.

        Where the prompt changed, of its last scene.
        """
        run, histories, are_cold = self.run, [beam.history for beam in self.run.beams], self.are_cold("long")
        scene = scene_at(run.session, histories[0].index - 1)
        parts = [(h.latents if are_cold else h.frames)[scene.chunk :] for h in histories]
        videos = torch.stack([self.cold(part) if are_cold else torch.cat(part) for part in parts])
        return RewardInput(
            video=self.pixels(videos),
            prompts=(scene.prompt,) * len(run.beams),
            fps=run.session.fps,
            chunk=histories[0].index - 1,
            chunk_count=run.session.num_chunks,
            new_frames=slice(0, videos.shape[1]),
            anchor=_anchor(run.beams, scene),
            frame_ids=tuple(_keys(_counted(b)[scene.chunk :]) for b in run.beams) if self.have_keys("long") else (),
        )


@dataclass
class Inputs:
    """The inputs of one chunk's candidates. Each is made once, for all rewards that need it.

    `are_drafts`: they are unfinished, so that other frames will replace theirs, and get keys of their own.
    """

    frames: Frames
    candidates: Sequence[Candidate]
    are_drafts: bool = False
    _made: dict[tuple[Horizon, int, int], RewardInput] = field(default_factory=dict)

    def of(self, horizon: Horizon, lead: int, chosen: Sequence[Candidate], every: int = 1) -> RewardInput:
        """The input of the `chosen` candidates on a horizon, with each k-th frame for `every` = k.

        `lead`: frames before the new chunk on the short horizon, as far as there are any.
        """
        if horizon == "long" or self.frames.are_cold(horizon) or not self._has_past:
            lead = 0
        key = (horizon, lead, every)
        if key not in self._made and every > 1:
            whole = self.of(horizon, lead, self.candidates)
            self._made[key] = thinned(whole, every, self._first(whole))
        elif key not in self._made:
            self._made[key] = self._with_lead(lead) if lead else self._make(horizon)
        rows = {candidate.ordinal: row for row, candidate in enumerate(self.candidates)}
        return self._made[key].take([rows[candidate.ordinal] for candidate in chosen])

    def _first(self, inp: RewardInput) -> int:
        """The place in the video of an input's first frame."""
        candidate = self.candidates[0]
        frames = (*candidate.beam.history.frames, candidate.decoded.frames)
        return max(0, sum(map(len, frames)) - inp.video.shape[1])

    @property
    def _scene(self) -> Scene:
        """The scene of this chunk; what was before it is another video to rewards."""
        return scene_at(self.frames.run.session, self._chunk)

    @property
    def _chunk(self) -> int:
        return self.candidates[0].beam.history.index

    @property
    def _has_past(self) -> bool:
        """Whether frames come before this chunk in its scene: generated ones, or those that the call continues."""
        return bool(self.candidates[0].beam.history.frames) and self._chunk > self._scene.chunk

    def _make(self, horizon: Horizon) -> RewardInput:
        run, kind = self.frames.run, self.frames.decode(horizon)
        window = 1 if horizon == "short" else min(run.recipe.rewards.window, self._chunk - self._scene.chunk + 1)
        videos = torch.stack([self._video(candidate, window, kind) for candidate in self.candidates])
        has_keys, beams = self.frames.have_keys(horizon), [candidate.beam for candidate in self.candidates]
        new = min(len(self.candidates[0].decoded.frames), videos.shape[1])
        return RewardInput(
            video=self.frames.pixels(videos),
            prompts=(self._scene.prompt,) * len(self.candidates),
            fps=run.session.fps,
            chunk=self.candidates[0].chunk,
            chunk_count=run.session.num_chunks,
            new_frames=slice(videos.shape[1] - new, videos.shape[1]),
            anchor=_anchor(beams, self._scene, previewed=kind == "preview") if self._has_past else None,
            frame_ids=tuple(self._keys(c, window, kind) for c in self.candidates) if has_keys else (),
        )

    def _video(self, candidate: Candidate, window: int, kind: Decode) -> Tensor:
        """The last `window` chunks of a candidate's branch, its own included."""
        history, before = candidate.beam.history, window - 1
        if kind != "cold":
            return torch.cat([*_tail(_past(candidate.beam, kind), before), _own(candidate, kind)])
        latents = [*_tail(history.latents, before), candidate.latents]
        self.frames.run.cost.latent_frames_decoded += sum(each.shape[2] for each in latents)
        return self.frames.cold(latents)

    def _keys(self, candidate: Candidate, window: int, kind: Decode) -> tuple[FrameKey, ...]:
        name, own = candidate.id + ".preview" * self.are_drafts, len(candidate.decoded.frames)
        return _keys([*_counted(candidate.beam), (name, own)][-window:], kind)

    def _with_lead(self, lead: int) -> RewardInput:
        """The short horizon with the last frames of the chunk before; a chunk that is shorter gives what it has."""
        short, beams = self.of("short", 0, self.candidates), [candidate.beam for candidate in self.candidates]
        kind = self.frames.decode("short")
        before = torch.stack([_past(beam, kind)[-1][-lead:] for beam in beams])
        count = before.shape[1]
        keys = [_keys(_counted(beam)[-1:], kind)[-count:] for beam in beams] if short.frame_ids else []
        return replace(
            short,
            video=torch.cat([self.frames.pixels(before), short.video], dim=1),
            new_frames=slice(count, count + short.video.shape[1]),
            frame_ids=tuple(earlier + new for earlier, new in zip(keys, short.frame_ids, strict=True)),
        )


def _tail(items: tuple[Tensor, ...], count: int) -> tuple[Tensor, ...]:
    return items[len(items) - min(count, len(items)) :]


def _past(beam: Beam, kind: Decode) -> tuple[Tensor, ...]:
    """Frames of the chunks before, as far as a window reaches: those of the video, or the previews of them."""
    return beam.history.frames if kind != "preview" or beam.previews is None else beam.previews.frames


def _own(candidate: Candidate, kind: Decode) -> Tensor:
    """A candidate's frames of a kind."""
    return candidate.preview if kind == "preview" and candidate.preview is not None else candidate.decoded.frames


def _anchor(beams: Sequence[Beam], scene: Scene, *, previewed: bool = False) -> Tensor:
    """The first chunks of the scene, as previews where the frames beside them are."""
    first = scene.chunk
    firsts = [beam.previews.first if previewed and beam.previews else beam.history.frames[first] for beam in beams]
    return torch.stack([each for each in firsts if each is not None]).float()


def _counted(beam: Beam) -> list[tuple[str, int]]:
    """The chunks of a branch with the number of their frames; those that the call continues have no candidate."""
    given = len(beam.history.frames) - len(beam.path)
    names = [*(f"given.{index}" for index in range(given)), *(node.id for node in beam.path)]
    return [(name, len(frames)) for name, frames in zip(names, beam.history.frames, strict=True)]


def _keys(counted: Sequence[tuple[str, int]], kind: Decode = "carried") -> tuple[FrameKey, ...]:
    decoder = ".tiny" if kind == "preview" else ""
    return tuple((chunk + decoder, frame) for chunk, count in counted for frame in range(count))
