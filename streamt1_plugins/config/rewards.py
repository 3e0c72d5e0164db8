"""The `rewards` section of a recipe: what is measured, how the numbers are mixed, where the rewards run."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

MOST = 10_000
"""The largest count in a recipe (candidates, chunks, steps); beyond it lies a slip of the keyboard."""

HORIZONS = ("short", "long")
"""The keys that hold rewards by name."""

Count = Annotated[int, Field(ge=1, le=MOST)]
Seconds = Annotated[float, Field(gt=0, le=10_000_000)]
DEVICE = r"(cpu|cuda|mps|xpu|npu|hpu|mtia|xla|meta)(:\d{1,3})?"
Device = Annotated[str, Field(pattern=f"^{DEVICE}$")]
"""A device as torch writes it, with or without a number."""


class Section(BaseModel):
    """A section of a recipe: unknown keys are errors, and values keep their type and their value."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class FixedCalibration(Section):
    """``(raw - mean) / std``, comparable across chunks and runs."""

    mean: float = 0.0
    std: Annotated[float, Field(gt=0)] = 1.0


def _address(url: str) -> str:
    """The URL of a server. Raises `ValueError` where it names no host, or a port that is none."""
    try:
        parts = urlsplit(url)
        is_right = bool(parts.hostname) and parts.port != 0 and not re.search(r"\s", url)
    except ValueError:  # a port that is no number, half an IPv6 address
        is_right = False
    if not is_right:
        raise ValueError("expected an address like http://127.0.0.1:8700")
    return url


class Place(Section):
    """The process in which a reward runs, if not this one; a bare string is a URL or an interpreter.

    url: a server started with `streamt1 serve-reward`. python: an interpreter that can import the reward; it is
    started with the run and ended with it. timeout: seconds one call may take. start_timeout: seconds an interpreter
    may take to load the reward. retries: how often a connection that fails is tried again, and how often an
    interpreter that died is started again.
    """

    url: Annotated[str, Field(pattern=r"^https?://"), AfterValidator(_address)] | None = None
    python: str | None = None
    timeout: Seconds = 300.0
    start_timeout: Seconds = 600.0
    retries: Annotated[int, Field(ge=0, le=1_000_000)] = 1

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"url" if value.startswith(("http://", "https://")) else "python": value}
        return value

    @model_validator(mode="after")
    def _is_one_place(self) -> Place:
        if (self.url is None) == (self.python is None):
            raise ValueError("name either `url` or `python`")
        return self


class RewardPart(Section):
    """One reward: its weight in the horizon's mean, its calibration, where it runs and its own options.

    weight: 0 records the reward without letting it decide. calibration: `none` keeps raw values; `running`
    standardises by every candidate measured so far; `group` by the candidates of this chunk; `rank` gives 0..1 by
    rank among them; or fixed numbers. every: the reward gets each k-th frame of the video, at that rate. veto: a
    candidate with a lower raw value is invalid, whatever the weight. stage: rewards of stage 2 score only candidates
    that stage 1 kept (see `RewardSettings.keep`).

    on_error: `invalidate` the candidates the reward fails on; `skip` leaves the reward out for all candidates of the
    chunk; `raise` ends the run. device: `auto` is the pipeline's. offload: leave the device between chunks. unload:
    free the weights when a run ends. where: another process, see `Place`.
    """

    weight: Annotated[float, Field(ge=0, le=1e9)] = 1.0
    calibration: Literal["none", "running", "group", "rank"] | FixedCalibration = "none"
    every: Count = 1
    veto: float | None = None
    stage: Count = 1
    on_error: Literal["invalidate", "skip", "raise"] = "invalidate"
    device: Annotated[str, Field(pattern=f"^(auto|{DEVICE})$")] = "auto"
    offload: bool = False
    unload: bool = False
    where: Place | None = None
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _server_has_its_own_options(self) -> RewardPart:
        if self.where is not None and self.where.url is not None and self.options:
            raise ValueError("a reward behind a `url` takes its options where its server is started (serve-reward -o)")
        return self

    @property
    def is_comparable(self) -> bool:
        """Whether its values mean the same in every chunk; `group` and `rank` only compare within one."""
        return self.calibration not in ("group", "rank")


Decode = Literal["carried", "auto", "preview", "cold"]


class DecodeByHorizon(Section):
    """Which frames rewards score, by horizon; the values are those of `rewards.decode`."""

    short: Decode = "carried"
    long: Decode = "carried"


AnyDecode = Annotated[
    Annotated[Decode, Tag("literal[Decode]")] | Annotated[DecodeByHorizon, Tag("DecodeByHorizon")],
    Discriminator(lambda value: "DecodeByHorizon" if isinstance(value, (dict, Section)) else "literal[Decode]"),
]
"""One of them for both horizons, or a section; an error is about the one that was meant."""


class RewardSettings(Section):
    """The rewards of a run, and the frames that they score.

    window: length of the long horizon in chunks. decode: `carried` scores the frames the video will contain; `preview`
    scores those of the adapter's preview decoder, and only survivors are decoded in full; `auto` does so where there
    is one; `cold` decodes the chunk (short) and the window (long) from an empty decoder, as the authors' release does;
    or one of these per horizon.
    pixels: `float` as decoded, or `uint8` truncated to 8 bits as the release does.
    keep: the share of candidates a stage of rewards hands on to the next one, never fewer than `search.top_k`.
    replace: the rewards named here take the place of all others. Without it they are added to those of the recipe that
    this one extends, and to those that the adapter suggests.
    """

    window: Count = 10
    decode: AnyDecode = "carried"
    pixels: Literal["float", "uint8"] = "float"
    keep: Annotated[float, Field(gt=0, le=1)] = 0.5
    replace: bool = False
    short: dict[str, RewardPart] = {}
    long: dict[str, RewardPart] = {}

    @property
    def are_named(self) -> bool:
        return bool(self.short or self.long)

    def decode_of(self, horizon: Literal["short", "long"]) -> Decode:
        """Which frames the rewards of a horizon score."""
        return self.decode if isinstance(self.decode, str) else getattr(self.decode, horizon)
