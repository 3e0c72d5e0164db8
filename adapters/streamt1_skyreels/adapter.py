"""The adapter `skyreels`: a dataclass whose fields are its options; `open` starts a session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from streamt1_plugins.api.adapter import MemoryPlan
from streamt1_plugins.process.imports import deferred
from streamt1_seams import check_folder
from streamt1_skyreels.request import check_kind, check_pipeline, check_windows, parse

if TYPE_CHECKING:
    import diffusers
    import torch

    import streamt1_seams as seams
    from streamt1_skyreels import session, state
else:  # reading the options of a recipe needs none of these
    diffusers, torch, seams = deferred("diffusers"), deferred("torch"), deferred("streamt1_seams")
    session, state = deferred("streamt1_skyreels.session"), deferred("streamt1_skyreels.state")

TASKS = {
    "t2v": "SkyReelsV2DiffusionForcingPipeline",
    "i2v": "SkyReelsV2DiffusionForcingImageToVideoPipeline",
    "v2v": "SkyReelsV2DiffusionForcingVideoToVideoPipeline",
}
"""The classes of diffusers by task."""


@dataclass(frozen=True, kw_only=True)
class SkyReelsAdapter:
    """Window after window through the stock SkyReels-V2 diffusion-forcing pipelines, which run unmodified.

    A chunk is one window without the frames it shares with the window before. Its memory is that overlap, so there is
    nothing to route.

    task: of the pipeline that `load` loads: text, image or video to video (the checkpoints are the same).
    dtype: of the transformer and text encoder that `load` loads; the VAE stays in float32.
    call: defaults for arguments of the call, e.g.
        ``{num_frames: 257, overlap_history: 17}``; the pipeline's defaults make a single window, one chunk.
    """

    task: Literal["t2v", "i2v", "v2v"] = "t2v"
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    call: Mapping[str, Any] = field(default_factory=dict)

    def load(self, model: str) -> Any:
        """Load a diffusers folder or hub id. Raises what `from_pretrained` raises for a missing model."""
        check_folder(model)
        dtypes = {"default": getattr(torch, self.dtype), "vae": torch.float32}
        return getattr(diffusers, TASKS[self.task]).from_pretrained(model, dtype=dtypes)

    def open(self, pipe: Any, call: Mapping[str, Any], memory: MemoryPlan) -> session.SkyReelsSession:
        """A session for one call, with text, image or video encoded; `memory` is ignored.

        Raises `UnsupportedPipelineError` for an unsupported pipeline and `InputError` for unusable arguments.
        """
        check_pipeline(pipe, _kinds())
        request = parse(pipe, {**self.call, **call})
        around = partial(state.kept_block_size, pipe.transformer)
        seam = seams.InterruptSeam(pipe, request, once=("encode_prompt",), around=around)
        check_windows(request, seam.windows)
        return session.SkyReelsSession(pipe, request, seam)

    def own_call(self, pipe: Any, call: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments for the pipeline's own call, which makes the same video without a search."""
        check_kind(pipe, _kinds())
        return {**self.call, **call}


def _kinds() -> tuple[type, ...]:
    return tuple(getattr(diffusers, name) for name in TASKS.values())
