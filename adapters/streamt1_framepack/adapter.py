"""The adapter `framepack`: a dataclass whose fields are its options; `open` starts a session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from streamt1_framepack.request import check_kind, check_pipeline, parse
from streamt1_plugins.api.adapter import MemoryPlan
from streamt1_plugins.process.imports import deferred
from streamt1_seams import check_folder

if TYPE_CHECKING:
    import diffusers
    import torch

    import streamt1_seams as seams
    from streamt1_framepack import session
else:  # reading the options of a recipe needs none of these
    diffusers, torch = deferred("diffusers"), deferred("torch")
    seams, session = deferred("streamt1_seams"), deferred("streamt1_framepack.session")


@dataclass(frozen=True, kw_only=True)
class FramepackAdapter:
    """Section after section through the stock `HunyuanVideoFramepackPipeline`, which runs unmodified.

    Streaming needs ``sampling_type="vanilla"``, the one F1 checkpoints are trained for. The memory is the image and
    the compressed latents of the last 19 frames, recomputed for every section, so there is nothing to route.

    base: a HunyuanVideo pipeline for all components but the transformer; `load` then takes a FramePack transformer
        (such as the F1 checkpoint) instead of a whole pipeline.
    vision: with `base`, the source of the image encoder and feature extractor.
    dtype: of the weights that `load` loads.
    fps: frames per second in training.
    call: defaults for arguments of the call, e.g. ``{sampling_type: vanilla}``.
    """

    base: str | None = None
    vision: str = "lllyasviel/flux_redux_bfl"
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    fps: Annotated[float, Field(gt=0)] = 30.0
    call: Mapping[str, Any] = field(default_factory=dict)

    def load(self, model: str) -> Any:
        """Load a diffusers folder or hub id. Raises what `from_pretrained` raises for a missing model."""
        dtype = getattr(torch, self.dtype)
        if self.base is None:
            check_folder(model)
            return diffusers.HunyuanVideoFramepackPipeline.from_pretrained(model, dtype=dtype)
        from transformers import SiglipImageProcessor, SiglipVisionModel

        return diffusers.HunyuanVideoFramepackPipeline.from_pretrained(
            self.base,
            transformer=diffusers.HunyuanVideoFramepackTransformer3DModel.from_pretrained(model, dtype=dtype),
            image_encoder=SiglipVisionModel.from_pretrained(self.vision, subfolder="image_encoder", dtype=dtype),
            feature_extractor=SiglipImageProcessor.from_pretrained(self.vision, subfolder="feature_extractor"),
            dtype=dtype,
        )

    def open(self, pipe: Any, call: Mapping[str, Any], memory: MemoryPlan) -> session.FramepackSession:
        """A session for one call, with text and image encoded; `memory` is ignored.

        Raises `UnsupportedPipelineError` for an unsupported pipeline and `InputError` for unusable arguments.
        """
        check_pipeline(pipe)
        request = parse(pipe, {**self.call, **call})
        once = ("encode_prompt", "encode_image", "prepare_image_latents")
        seam = seams.InterruptSeam(pipe, request, once=once, embeddings=("prompt_embeds",))
        return session.FramepackSession(pipe, request, seam, self.fps)

    def own_call(self, pipe: Any, call: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments for the pipeline's own call, which makes the same video without a search."""
        check_kind(pipe)
        return {**self.call, **call}
