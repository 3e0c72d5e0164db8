"""The adapter `tinyworld`: causal Wan with the settings the bundled model was trained for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from streamt1_wan.adapter import CausalWanAdapter, Positive, Timestep


@dataclass(frozen=True, kw_only=True)
class TinyWorldAdapter(CausalWanAdapter):
    """The bundled model: causal Wan with the settings that it was trained for, 64 x 64 pixels. All can still be set.

    The first chunk has no context and takes 16 steps; with fewer, the object is often missing.
    """

    steps: Annotated[tuple[Timestep, ...], Field(min_length=1)] | None = (16, 4)
    shift: Annotated[float, Field(gt=0)] = 8.0
    height: Positive = 64
    width: Positive = 64
    max_sequence_length: Positive = 64
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
