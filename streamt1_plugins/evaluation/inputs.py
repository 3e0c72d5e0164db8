"""The inputs of rewards: frames of the two horizons and of whole videos, with the keys that identify each frame."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from streamt1_plugins.api.adapter import History
from streamt1_plugins.api.reward import RewardInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from streamt1_plugins.api.candidate import Beam, Candidate
    from streamt1_plugins.api.reward import FrameKey
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.types import Chunk, Horizon


def quantise(video: Tensor) -> Tensor:
    """Truncate to 8 bits, as frames written to PNG and read back (paper release)."""
    return (video * 255).floor() / 255


@dataclass
class Inputs:
    """The inputs of one chunk's candidates. Each is made once, for all rewards that need it.

    `are_drafts`: their frames are previews, which other frames will replace, and get keys of their own.
    """

    run: Run
    chunk: Chunk
    candidates: Sequence[Candidate]
    are_drafts: bool = False
    _made: dict[tuple[Horizon, int], RewardInput] = field(default_factory=dict)

    def of(self, horizon: Horizon, lead: int = 0) -> RewardInput:
        """The input of a horizon; `lead` frames before the new chunk on the short one, as far as there are any."""
        lead = lead if horizon == "short" and not _is_cold(self.run) and self._has_past else 0
        if (horizon, lead) not in self._made:
            self._made[horizon, lead] = self._with_lead(lead) if lead else self._make(horizon)
        return self._made[horizon, lead]

    def of_candidates(self, horizon: Horizon, lead: int, chosen: Sequence[Candidate]) -> RewardInput:
        """The input of the `chosen` candidates alone."""
        rows = {candidate.ordinal: row for row, candidate in enumerate(self.candidates)}
        return self.of(horizon, lead).take([rows[candidate.ordinal] for candidate in chosen])

    @property
    def _has_past(self) -> bool:
        """Whether frames come before this chunk: generated ones, or those that the call continues."""
        return bool(self.candidates[0].beam.history.frames)

    def _make(self, horizon: Horizon) -> RewardInput:
        window = 1 if horizon == "short" else self.run.recipe.rewards.window
        videos = torch.stack([self._video(candidate, window) for candidate in self.candidates])
        new = min(len(self.candidates[0].decoded.frames), videos.shape[1])
        return RewardInput(
            video=pixels(self.run, videos),
            prompts=(self.run.prompt,) * len(self.candidates),
            fps=self.run.session.fps,
            chunk=self.chunk.index,
            chunk_count=self.chunk.count,
            new_frames=slice(videos.shape[1] - new, videos.shape[1]),
            anchor=_anchor([candidate.beam for candidate in self.candidates]) if self._has_past else None,
            frame_ids=tuple(self._window_ids(c, window) for c in self.candidates) if have_keys(self.run) else (),
        )

    def _video(self, candidate: Candidate, window: int) -> Tensor:
        """The last `window` chunks of a candidate's branch, its own included."""
        history = candidate.beam.history
        if not _is_cold(self.run):
            return torch.cat([*_tail(history.frames, window - 1), candidate.decoded.frames])
        latents = torch.cat([*_tail(history.latents, window - 1), candidate.latents], dim=2)
        self.run.cost.latent_frames_decoded += int(latents.shape[2])
        return _cold_frames(self.run, latents)

    def _window_ids(self, candidate: Candidate, window: int) -> tuple[FrameKey, ...]:
        name = candidate.id + ".preview" * self.are_drafts
        counted = [*_counted(candidate.beam), (name, len(candidate.decoded.frames))]
        return tuple(key for chunk, count in counted[-window:] for key in _ids(chunk, count))

    def _with_lead(self, lead: int) -> RewardInput:
        """The short horizon with the last frames of the chunk before; a chunk that is shorter gives what it has."""
        short, beams = self.of("short"), [candidate.beam for candidate in self.candidates]
        before = torch.stack([beam.history.frames[-1][-lead:] for beam in beams])
        count = before.shape[1]
        ids = [_ids(*_counted(beam)[-1])[-count:] for beam in beams] if short.frame_ids else []
        return replace(
            short,
            video=torch.cat([pixels(self.run, before), short.video], dim=1),
            new_frames=slice(count, count + short.video.shape[1]),
            frame_ids=tuple(earlier + new for earlier, new in zip(ids, short.frame_ids, strict=True)),
        )


def whole_videos(run: Run) -> RewardInput:
    """The whole videos of the surviving beams, every frame of them to be judged."""
    videos = torch.stack([_whole(run, beam) for beam in run.beams])
    return RewardInput(
        video=pixels(run, videos),
        prompts=(run.prompt,) * len(run.beams),
        fps=run.session.fps,
        chunk=run.beams[0].history.index - 1,
        chunk_count=run.session.num_chunks,
        new_frames=slice(0, videos.shape[1]),
        anchor=_anchor(run.beams),
        frame_ids=tuple(_path_ids(beam) for beam in run.beams) if have_keys(run) else (),
    )


def have_keys(run: Run) -> bool:
    """Whether a frame key always means the same pixels: not when decoded anew, nor when later chunks revise it."""
    return run.recipe.rewards.decode == "carried" and run.session.capabilities.decode != "blended"


def pixels(run: Run, video: Tensor) -> Tensor:
    """Frames with the precision that the recipe gives to rewards, float32 whatever the decoder works in."""
    video = video.float()
    return quantise(video) if run.recipe.rewards.pixels == "uint8" else video


def _is_cold(run: Run) -> bool:
    return run.recipe.rewards.decode == "cold"


def _whole(run: Run, beam: Beam) -> Tensor:
    history = beam.history
    return _cold_frames(run, torch.cat(history.latents, dim=2)) if _is_cold(run) else torch.cat(history.frames)


def _tail(items: tuple[Tensor, ...], count: int) -> tuple[Tensor, ...]:
    return items[len(items) - min(count, len(items)) :]


def _cold_frames(run: Run, latents: Tensor) -> Tensor:
    """Frames decoded with an empty decoder; where a call continues frames, its root is not empty."""
    beam = run.beams[0]
    is_continued = beam.history.index > len(beam.path)
    return run.session.decode(History() if is_continued else run.session.root(), latents)[0].frames


def _anchor(beams: Sequence[Beam]) -> Tensor:
    return torch.stack([beam.history.frames[0] for beam in beams]).float()


def _path_ids(beam: Beam) -> tuple[FrameKey, ...]:
    return tuple(key for chunk, count in _counted(beam) for key in _ids(chunk, count))


def _counted(beam: Beam) -> list[tuple[str, int]]:
    """The chunks of a branch with the number of their frames; those that the call continues have no candidate."""
    given = len(beam.history.frames) - len(beam.path)
    names = [*(f"given.{index}" for index in range(given)), *(node.id for node in beam.path)]
    return [(name, len(frames)) for name, frames in zip(names, beam.history.frames, strict=True)]


def _ids(chunk: str, count: int) -> tuple[FrameKey, ...]:
    return tuple((chunk, frame) for frame in range(count))
