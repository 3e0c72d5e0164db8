"""What rewards are shown: the frames of the two horizons and of whole videos, with the keys that name them."""

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
class Views:
    """The inputs of one chunk's candidates. Each is made once, for all rewards that ask for it.

    `are_drafts`: their frames are previews, which other frames will replace, and have names of their own.
    """

    run: Run
    chunk: Chunk
    candidates: Sequence[Candidate]
    are_drafts: bool = False
    _made: dict[tuple[Horizon, int], RewardInput] = field(default_factory=dict)

    def of(self, horizon: Horizon, lead: int = 0) -> RewardInput:
        """The input of a horizon; `lead` frames before the new chunk on the short one, as far as there are any."""
        lead = lead if horizon == "short" and not self._is_cold and self._has_past else 0
        if (horizon, lead) not in self._made:
            self._made[horizon, lead] = self._with_lead(lead) if lead else self._make(horizon)
        return self._made[horizon, lead]

    def some(self, horizon: Horizon, lead: int, asked: Sequence[Candidate], rows: Sequence[int]) -> RewardInput:
        """The input of those of the `asked` candidates that `rows` picks."""
        places = {candidate.ordinal: place for place, candidate in enumerate(self.candidates)}
        return self.of(horizon, lead).take([places[asked[row].ordinal] for row in rows])

    @property
    def _is_cold(self) -> bool:
        return self.run.recipe.rewards.decode == "cold"

    @property
    def _has_past(self) -> bool:
        """Whether frames come before this chunk: generated ones, or those the call continues."""
        return bool(self.candidates[0].beam.history.frames)

    def _make(self, horizon: Horizon) -> RewardInput:
        window = 1 if horizon == "short" else self.run.recipe.rewards.window
        look = _cold if self._is_cold else _carried
        videos = torch.stack([look(self.run, candidate, window) for candidate in self.candidates])
        new = min(len(self.candidates[0].decoded.frames), videos.shape[1])
        return RewardInput(
            video=pixels(self.run, videos),
            prompts=(self.run.prompt,) * len(self.candidates),
            fps=self.run.session.fps,
            chunk=self.chunk.index,
            chunk_count=self.chunk.count,
            new_frames=slice(videos.shape[1] - new, videos.shape[1]),
            anchor=_anchor([candidate.beam for candidate in self.candidates]) if self._has_past else None,
            frame_ids=tuple(self._window_ids(c, window) for c in self.candidates) if have_names(self.run) else (),
        )

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
    beams = run.beams
    cold = run.recipe.rewards.decode == "cold"
    videos = torch.stack([_whole(run, beam, cold) for beam in beams])
    return RewardInput(
        video=pixels(run, videos),
        prompts=(run.prompt,) * len(beams),
        fps=run.session.fps,
        chunk=beams[0].history.index - 1,
        chunk_count=run.session.num_chunks,
        new_frames=slice(0, videos.shape[1]),
        anchor=_anchor(beams),
        frame_ids=tuple(_path_ids(beam) for beam in beams) if have_names(run) else (),
    )


def have_names(run: Run) -> bool:
    """Whether a frame of a node always has the same pixels: not when decoded anew, nor when later chunks revise it."""
    return run.recipe.rewards.decode == "carried" and run.session.capabilities.decode != "blended"


def pixels(run: Run, video: Tensor) -> Tensor:
    """Frames as the recipe lets rewards see them, float32 whatever the decoder works in."""
    video = video.float()
    return quantise(video) if run.recipe.rewards.pixels == "uint8" else video


def _whole(run: Run, beam: Beam, cold: bool) -> Tensor:
    if not cold:
        return torch.cat(beam.history.frames)
    return _from_nothing(run, torch.cat(beam.history.latents, dim=2))


def _tail(items: tuple[Tensor, ...], count: int) -> tuple[Tensor, ...]:
    return items[len(items) - min(count, len(items)) :]


def _carried(run: Run, candidate: Candidate, window: int) -> Tensor:
    return torch.cat([*_tail(candidate.beam.history.frames, window - 1), candidate.decoded.frames])


def _cold(run: Run, candidate: Candidate, window: int) -> Tensor:
    latents = torch.cat([*_tail(candidate.beam.history.latents, window - 1), candidate.latents], dim=2)
    run.cost.latent_frames_decoded += int(latents.shape[2])
    return _from_nothing(run, latents)


def _from_nothing(run: Run, latents: Tensor) -> Tensor:
    """Frames from an empty decoder; where a call continues frames, its root is not empty."""
    beam = run.beams[0]
    is_continued = beam.history.index > len(beam.path)
    return run.session.decode(History() if is_continued else run.session.root(), latents)[0].frames


def _anchor(beams: Sequence[Beam]) -> Tensor:
    return torch.stack([beam.history.frames[0] for beam in beams]).float()


def _path_ids(beam: Beam) -> tuple[FrameKey, ...]:
    return tuple(key for chunk, count in _counted(beam) for key in _ids(chunk, count))


def _counted(beam: Beam) -> list[tuple[str, int]]:
    """The chunks of a branch with the number of their frames; those the call continues have no candidate."""
    given = len(beam.history.frames) - len(beam.path)
    names = [*(f"given.{index}" for index in range(given)), *(node.id for node in beam.path)]
    return [(name, len(frames)) for name, frames in zip(names, beam.history.frames, strict=True)]


def _ids(chunk: str, count: int) -> tuple[FrameKey, ...]:
    return tuple((chunk, frame) for frame in range(count))
