"""The immutable values of a search: chunk, proposal, reading, node.

Tensors named `noise` or `latents` are ``[1, C, F, h, w]`` (F latent frames of one chunk); frames are
``[T, 3, H, W]`` float in ``[0, 1]``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping  # at run time: pydantic reads the fields of a node
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, WrapSerializer

if TYPE_CHECKING:
    from pydantic import SerializerFunctionWrapHandler
    from torch import Generator, Tensor


MemoryRoute = str
"""What becomes of a chunk's context when it leaves the memory window, one of the routes that the adapter declares.

The paper has `discard`, `ema` and `append`; `streamt1_plugins.api.routed_memory` has these and others.
"""

Horizon = Literal["short", "long"]
"""`short`: the frames of this chunk. `long`: the frames of the sliding window that ends with this chunk."""

Fate = Literal["kept", "pruned", "invalid"]

EARLY = 0
"""The `Node.stage` of candidates that early pruning left unfinished; stages of rewards count from 1."""

HORIZONS: tuple[Horizon, ...] = ("short", "long")

Number = Annotated[
    float,
    BeforeValidator(lambda value: math.nan if value is None else value),
    PlainSerializer(lambda value: value if math.isfinite(value) else None),
]
"""A float that is null in JSON where it is not finite."""


def _plain_readings(readings: Mapping[Any, Any], serialize: SerializerFunctionWrapHandler) -> Any:
    return serialize({horizon: dict(named) for horizon, named in readings.items()})


Readings = Annotated[Mapping[Horizon, Mapping[str, "Reading"]], WrapSerializer(_plain_readings), Field(alias="rewards")]
"""Readings by horizon and reward name; `rewards` in JSON."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One step of the video: `index` of `count` chunks."""

    index: int
    count: int

    @property
    def progress(self) -> float:
        """0 for the first chunk, 1 for the last one (0 when the video has a single chunk)."""
        return self.index / max(1, self.count - 1)

    @property
    def is_first(self) -> bool:
        return self.index == 0

    @property
    def is_last(self) -> bool:
        return self.index == self.count - 1


@dataclass(frozen=True, slots=True)
class Proposal:
    """One way to branch a beam: a seed and the noise that it leads to, see `api.noise`.

    `generator` made it; a session that draws more noise than it hands out continues the same stream. `propagated`:
    `noise` mixes in the parent's noise.
    """

    seed: int
    noise: Tensor
    generator: Generator
    propagated: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """One reward's score of one candidate on one horizon. `value` is `raw` after calibration; higher is better."""

    raw: Number
    value: Number
    weight: Annotated[float, Field(exclude=True)] = 1.0  # it stands in the recipe


def node_id(chunk: int, ordinal: int) -> str:
    """The name of a candidate in the tree: ``003.01``."""
    return f"{chunk:03d}.{ordinal:02d}"


@dataclass(frozen=True, kw_only=True)
class Node:
    """The record of a candidate, without tensors. Its fields are filled as it is generated, evaluated, scored, routed.

    `short` and `long` are the weighted means of the calibrated readings of that horizon, NaN where none was taken.
    `problem`: why the candidate is invalid. `ordinal` counts the candidates of one chunk over all beams; `parent` is
    the `id` of the node it continues, None in the first chunk. `rank` is the place among the survivors, 0 = best.
    `stage`: the stage of rewards after which it was pruned, None where all rewards judged it. With `EARLY` it was never
    finished, and its readings are those of its preview. `previewed`: its frames were the preview decoder's when it was
    scored; those of a survivor were decoded in full afterwards.
    """

    chunk: int
    ordinal: int
    parent: str | None
    seed: int
    propagated: bool = False
    readings: Readings = field(default_factory=dict)
    short: Number = float("nan")
    long: Number = float("nan")
    score: Number = float("nan")
    route: MemoryRoute | None = None
    fate: Fate | None = None
    rank: int | None = None
    problem: str | None = None
    stage: int | None = None
    previewed: bool = False
    seconds: Annotated[float, PlainSerializer(lambda seconds: round(seconds, 4))] = 0.0

    @property
    def id(self) -> str:
        return node_id(self.chunk, self.ordinal)

    @property
    def is_valid(self) -> bool:
        return self.problem is None

    @property
    def is_scored(self) -> bool:
        """Whether its score counts: a reward judged it, and the score is finite."""
        return bool(self.readings) and math.isfinite(self.score)

    @property
    def is_finished(self) -> bool:
        """Whether its latents, frames and readings are those of a whole candidate."""
        return self.stage != EARLY

    @property
    def is_eligible(self) -> bool:
        """Whether it can survive: valid, and not pruned by a stage of rewards or by early pruning."""
        return self.is_valid and self.stage is None
