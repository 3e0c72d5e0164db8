"""The adapters of the bundled models: causal Wan with the settings that they were trained for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from streamt1_plugins.process.imports import deferred
from streamt1_tinyworld import PREVIEW, model_dir
from streamt1_wan.adapter import ITEMSIZES, CausalWanAdapter, Positive, Timestep
from streamt1_wan.preview import LATENTS, Preview, file_of

if TYPE_CHECKING:
    from streamt1_plugins.api.adapter import Outline
    from streamt1_tinyworld import preview as decoder
else:  # reading the options of a recipe needs no torch
    decoder = deferred("streamt1_tinyworld.preview")


@dataclass(frozen=True, kw_only=True)
class TinyWorldAdapter(CausalWanAdapter):
    """The bundled model: causal Wan with the settings that it was trained for, 64 x 64 pixels. All can still be set.

    The first chunk has no context and takes 16 steps; with fewer, the object is often missing. The weights of the
    preview decoder are `preview.safetensors` in the model's folder.
    """

    steps: Annotated[tuple[Timestep, ...], Field(min_length=1)] | None = (16, 4)
    shift: Annotated[float, Field(gt=0)] = 8.0
    height: Positive = 64
    width: Positive = 64
    max_sequence_length: Positive = 64
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"

    def outline(self, num_frames: int | None = None) -> Outline:
        return replace(super().outline(num_frames), previews=self._preview(model_dir()).exists)

    def _preview(self, folder: str | None, pipe: Any = None) -> Preview:
        file = file_of(self.preview, folder, (PREVIEW,))
        return Preview(lambda: decoder.load(pipe, file), file)

    def _preview_state(self, size: tuple[int, int]) -> int:
        return LATENTS * (size[0] // 8) * (size[1] // 8) * ITEMSIZES["float32"]


@dataclass(frozen=True, kw_only=True)
class StudentAdapter(TinyWorldAdapter):
    """The bundled few-step model, distilled from `tinyworld`: 4 steps in every chunk, the first one too.

    Its transformer is the variant `student` of the weights in the same folder; all other parts are shared.
    """

    steps: Annotated[tuple[Timestep, ...], Field(min_length=1)] | None = (4,)
    shift: Annotated[float, Field(gt=0)] = 5.0
    variant: Annotated[str, Field(pattern=r"^\w+$")] | None = field(default="student", metadata={"acts": "text"})
