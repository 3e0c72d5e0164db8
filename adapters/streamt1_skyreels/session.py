"""One call of a SkyReels-V2 diffusion-forcing pipeline, window after window."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from diffusers.pipelines.skyreels_v2.pipeline_output import SkyReelsV2PipelineOutput

from streamt1_plugins.api.adapter import Capabilities, History
from streamt1_seams import appended, decode_chunk, postprocessed
from streamt1_skyreels import CAPABILITIES
from streamt1_skyreels.request import overlap_of
from streamt1_skyreels.state import own_global_rng

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Generator, Tensor

    from streamt1_plugins.api.adapter import Decoded
    from streamt1_plugins.api.types import MemoryRoute
    from streamt1_seams import InterruptSeam


def capabilities(pipe: Any, call: Mapping[str, Any]) -> Capabilities:
    """The capabilities of a session with these arguments.

    Noised conditions draw from torch's global generator; a transformer with a frame-rate embedding fails on batches.
    """
    is_noised = call["addnoise_condition"] > 0
    is_single = is_noised or pipe.transformer.config.inject_sample_info
    return replace(CAPABILITIES, max_batch=1 if is_single else None, stochastic_steps=is_noised, global_rng=is_noised)


class SkyReelsSession:
    """Implements `streamt1_plugins.api.adapter.Session` for the three SkyReels-V2 diffusion-forcing pipelines.

    Noise covers a whole window ``[1, C, F, h, w]``; from the second one on its first latent frames, the overlap, are
    not new: latents of a chunk are the new ones only, so that chunks add up to the video. The last window may be
    shorter. With `addnoise_condition` every candidate has a global generator of its own.
    """

    def __init__(self, pipe: Any, call: Mapping[str, Any], seam: InterruptSeam) -> None:
        self.capabilities = capabilities(pipe, call)
        self.num_chunks = len(seam.windows)
        self.fps = float(call["fps"])
        self.prompt = seam.prompt
        self._pipe, self._call, self._seam = pipe, call, seam
        self._overlap = overlap_of(seam.windows)
        overlaps = [0] + [self._overlap] * (self.num_chunks - 1)
        new = [window.noise.shape[2] - each for window, each in zip(seam.windows, overlaps, strict=True)]
        self._ends = list(accumulate(new))
        # A last image stays behind the video as one more latent frame, which is not decoded.
        self._behind = seam.blank[:, :, self._ends[-1] :].clone()

    @property
    def forwards(self) -> int:
        """Transformer forwards so far."""
        return self._seam.forwards

    @property
    def generator(self) -> Generator:
        """The pipeline's own noise stream."""
        return self._seam.generator

    def root(self) -> History:
        """The empty history."""
        return History()

    def draw(self, history: History, generator: Generator) -> Tensor:
        """Float32 noise ``[1, C, F, h, w]`` of the next window."""
        return self._seam.draw(history.index, generator)

    def generate(self, history: History, noise: Tensor, generators: Sequence[Generator]) -> Tensor:
        """Denoise N candidates of the next window; returns its new latent frames, ``[N, C, F - overlap, h, w]``."""
        if self.capabilities.max_batch is None:
            return self._denoise(history, noise)
        rows = zip(noise.unbind(), generators, strict=True)
        return torch.cat([self._denoise_alone(history, row[None], generator) for row, generator in rows])

    @torch.no_grad()
    def decode(self, history: History, latents: Tensor) -> list[Decoded]:
        """Frames ``[T, 3, H, W]`` in ``[0, 1]`` and decoder state per candidate, continuing the history's decoder."""
        return decode_chunk(self._pipe.vae, latents, history.decoder)

    def commit(self, history: History, latents: Tensor, decoded: Decoded, route: MemoryRoute) -> History:
        """Append one survivor; the next window reads its last frames, so nothing has to be computed or routed."""
        return appended(history, latents, decoded)

    def finish(self, history: History) -> Any:
        """`SkyReelsV2PipelineOutput`, or a tuple of one, from the frames that are decoded already.

        A video-to-video pipeline returns the given video in front of the new frames.
        """
        output_type = self._call["output_type"]
        if output_type == "latent":
            behind = [self._behind] if history.index == self.num_chunks else []
            video: Any = torch.cat([*history.latents, *behind], dim=2)
        else:
            frames = torch.cat([*self._given_frames(), *history.frames])
            video = postprocessed(self._pipe, frames, output_type)
        return SkyReelsV2PipelineOutput(frames=video) if self._call["return_dict"] else (video,)

    def close(self) -> None:
        """Give the pipeline back as it was; a second call does nothing."""
        self._seam.close()

    def _denoise(self, history: History, noise: Tensor) -> Tensor:
        index = history.index
        # The pipeline overwrites the overlap at the start of later windows with the end of the video so far.
        chunks = [_with_blank_start(chunk, self._overlap if i else 0) for i, chunk in enumerate(history.latents)]
        video = self._seam.run(index, chunks, noise)
        start = self._ends[index - 1] if index else 0
        new: Tensor = video[:, :, start : self._ends[index]]
        return new.clone()

    def _denoise_alone(self, history: History, noise: Tensor, generator: Generator) -> Tensor:
        # torch's global generator is a part of the plain pipeline's stream.
        if generator is self.generator or not self.capabilities.global_rng:
            return self._denoise(history, noise)
        with own_global_rng(noise.device, generator):
            return self._denoise(history, noise)

    def _given_frames(self) -> list[Tensor]:
        """The video that is continued, ``[T, 3, H, W]`` in ``[0, 1]``."""
        if "video" not in self._call:
            return []
        processor = self._pipe.video_processor
        video = processor.preprocess_video(self._call["video"], height=self._call["height"], width=self._call["width"])
        return [processor.denormalize(video.to(self._pipe._execution_device, torch.float32))[0].transpose(0, 1)]


def _with_blank_start(latents: Tensor, frames: int) -> Tensor:
    shape = list(latents.shape)
    shape[2] = frames
    return torch.cat([latents.new_zeros(shape), latents], dim=2)
