"""One call of a FramePack pipeline, section after section."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from diffusers.pipelines.hunyuan_video.pipeline_output import HunyuanVideoFramepackPipelineOutput

from streamt1_framepack import CAPABILITIES
from streamt1_framepack.decode import Past, decode_sections, overlap, shown
from streamt1_plugins.api.adapter import Decoded, History

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Generator, Tensor

    from streamt1_plugins.api.types import MemoryRoute
    from streamt1_seams.interrupt import Replay


@dataclass(frozen=True, slots=True)
class Seam:
    """Decoder state of one candidate.

    `revised` are the frames ``[O, 3, H, W]`` in ``[0, 1]`` that replace the last ones of the history (None in the
    first section); `tail` are this candidate's own last frames, raw, ``[1, 3, O, H, W]``.
    """

    revised: Tensor | None
    tail: Tensor


class FramepackSession:
    """Implements `streamt1_plugins.api.adapter.Session` for `HunyuanVideoFramepackPipeline` with vanilla sampling.

    A chunk is a section of `latent_window_size` latent frames; the first one also shows the image. `decode` gives the
    frames a section adds; `commit` replaces the frames it revises at the end of the section before, so the frames of a
    chunk are final once the next one is committed.
    """

    capabilities = CAPABILITIES

    def __init__(self, pipe: Any, call: Mapping[str, Any], replay: Replay, fps: float) -> None:
        self.num_chunks = len(replay.windows)
        self.fps = fps
        self.prompt = call["prompt"] if isinstance(call["prompt"], str) else "".join(call["prompt"] or ())
        self._pipe, self._call, self._replay = pipe, call, replay
        self._window = int(replay.windows[0].noise.shape[2])
        self._overlap = overlap(pipe, self._window)
        # The pipeline returns the latents of the video so far, once per section; they begin with the image.
        self._image = replay.blank[0][:, :, : -self._window].clone()

    @property
    def forwards(self) -> int:
        """Transformer forwards so far."""
        return self._replay.forwards

    @property
    def generator(self) -> Generator:
        """The pipeline's own noise stream."""
        return self._replay.generator

    def root(self) -> History:
        """The empty history."""
        return History()

    def draw(self, history: History, generator: Generator) -> Tensor:
        """Float32 noise ``[1, C, F, h, w]`` of the next section."""
        return self._replay.draw(history.index, generator)

    def generate(self, history: History, noise: Tensor, generators: Sequence[Generator]) -> Tensor:
        """Denoise N candidates of the next section, ``[N, C, F, h, w]`` to the same shape; generators are not used."""
        sections = self._replay.run(history.index, history.latents, noise)
        return _own(sections[history.index][:, :, -self._window :])

    @torch.no_grad()
    def decode(self, history: History, latents: Tensor) -> list[Decoded]:
        """The frames ``[T, 3, H, W]`` each candidate adds, and its seam. A cold decode starts with the image."""
        past = Past(history.latents[-1], history.decoder.tail) if history.index else Past(self._image)
        revised = self._overlap if history.index else 0
        return [self._decoded(video, revised) for video in decode_sections(self._pipe, past, latents, self._window)]

    def commit(self, history: History, latents: Tensor, decoded: Decoded, route: MemoryRoute) -> History:
        """Append one survivor and let it revise the end of the section before."""
        seam: Seam = decoded.state
        frames = history.frames
        if seam.revised is not None:
            frames = (*frames[:-1], torch.cat([frames[-1][: -len(seam.revised)], seam.revised]))
        return History(
            index=history.index + 1,
            latents=(*history.latents, _own(latents)),
            frames=(*frames, _own(decoded.frames)),
            decoder=Seam(None, _own(seam.tail)),
        )

    def finish(self, history: History) -> Any:
        """`HunyuanVideoFramepackPipelineOutput`, or a tuple of one, from the frames that are decoded already.

        As in the pipeline, "latent" is a list with the latents of the video after every section, image first.
        """
        output_type = self._call["output_type"]
        if output_type == "latent":
            counts = range(1, history.index + 1)
            video: Any = [torch.cat([self._image, *history.latents[:count]], dim=2) for count in counts]
        else:
            frames = torch.cat(history.frames)
            # Ours are in [0, 1] already, so the processor only has to convert them.
            video = self._pipe.video_processor.postprocess_video(
                frames.transpose(0, 1).unsqueeze(0), output_type, do_denormalize=[False] * len(frames)
            )
        return HunyuanVideoFramepackPipelineOutput(frames=video) if self._call["return_dict"] else (video,)

    def close(self) -> None:
        """Give the pipeline back as it was; a second call does nothing."""
        self._replay.close()

    def _decoded(self, video: Tensor, revised: int) -> Decoded:
        """Split raw frames ``[3, T, H, W]`` into what they revise and what they add."""
        frames = shown(self._pipe, video)
        seam = Seam(frames[:revised] if revised else None, video[None, :, -self._overlap :])
        return Decoded(frames[revised:], seam)


def _own(x: Tensor) -> Tensor:
    """A tensor that keeps no larger one alive: parts of a batch or video are copied, the rest is returned as it is."""
    return x.clone() if x.untyped_storage().nbytes() > x.numel() * x.element_size() else x
