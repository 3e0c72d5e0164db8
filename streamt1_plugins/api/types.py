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

Fate = Literal["kept", "pruned", "invalid", "abandoned"]
"""`abandoned`: the search went back behind this chunk; the rank of one that had survived stays."""

Draws = Literal["initial", "all"]
"""Which draws of a chunk's noise: the `initial` one, or `all` that its sampler takes from its session (`HasDraws`)."""

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


@dataclass(frozen=True, slots=True)
class Variation:
    """How a candidate's noise was made from that of the candidate `of`, of the same chunk and parent.

    `strength`: the share of fresh noise, see `api.noise.varied`; `draws`: what was varied.
    """

    of: str
    strength: float
    draws: Draws = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """What becomes of a chunk whose candidates are judged, instead of its selection.

    Without `back_to`, another round: more candidates join those that there are. `count`: how many for every beam that
    branches, None for as many as the width policy wants. `varied`: candidates of this chunk, by id, whose noise the new
    ones vary in turn, with `strength` and `draws` as in `Variation`; only their beams branch. Without them every beam
    branches from fresh noise.

    With `back_to`, the search returns to the beams as they were before that chunk, this one or an earlier one, and
    makes it anew with fresh noise; what was made of it and after it is abandoned. `reason`: for the note in the tree.
    """

    back_to: int | None = None
    count: int | None = None
    varied: tuple[str, ...] = ()
    strength: float = 1.0
    draws: Draws = "all"
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionLimits:
    """The most that a revision policy answers, its attribute `limits`; None is any number.

    `reach`: how many chunks before the one that is judged it may go back. The search keeps the beams of as many, and a
    stream holds them back. `returns`: how often in a video. `rounds`: rounds of candidates in one chunk, the first
    included; `shared`: whether they share the width instead of having it each.
    """

    reach: int | None = 0
    returns: int | None = None
    rounds: int | None = None
    shared: bool = False


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
    finished, and its readings are those of its preview. `round`: in which round of candidates of its chunk it was made,
    over all attempts at the chunk, from 0. `varies`: where its noise varies that of another candidate. `previewed`: its
    frames were the preview decoder's when it was scored; those of a survivor were decoded in full afterwards.
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
    round: int = 0
    varies: Variation | None = None
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
