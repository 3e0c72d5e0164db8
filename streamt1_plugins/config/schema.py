"""The schema of recipes: every section and key, with its default."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, PrivateAttr, model_validator

from streamt1_plugins.config import yaml12
from streamt1_plugins.config.rewards import HORIZONS, MOST, Count, RewardSettings, Seconds, Section
from streamt1_plugins.config.trust import Origin
from streamt1_plugins.errors import RecipeError

Kept = Annotated[float, Field(gt=0, le=1)]

PARTS = ("adapter", "width", "noise", "scoring", "revision", "selection", "memory")
"""The sections that name one part each; its options stand beside the name."""


LONGEST = 1_000_000
"""Frames of a video; at 16 frames per second, 17 hours."""


class Part(Section):
    """A plugin by name; every other key is one of its options. A bare string is a name without options."""

    model_config = ConfigDict(extra="allow")
    name: str

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class AdapterPart(Part):
    """An adapter. Without a name the pipeline or the model decides which one the options are for."""

    name: str | None = None  # type: ignore[assignment]  # the only part that another argument can name


class WidthPart(Part):
    """The width policy: how many candidates a beam branches into."""

    name: str = "fixed"


class NoisePart(Part):
    """The noise policy: how beams branch."""

    name: str = "propagate"


class ScoringPart(Part):
    """The scoring policy: how readings become one number."""

    name: str = "hybrid"


class RevisionPart(Part):
    """The revision policy: whether a chunk's candidates are selected, get another round, or the search goes back."""

    name: str = "none"


class SelectionPart(Part):
    """The selection policy: which candidates survive a chunk."""

    name: str = "top_k"


class MemoryPart(Part):
    """The memory policy: what evicted context becomes."""

    name: str = "reward_feedback"


class SearchSettings(Section):
    """Width of the search. candidates: children per surviving beam (the first chunk has candidates * top_k);
    top_k: beams that survive a chunk; batch: candidates denoised together (1 is bit-reproducible whatever the width);
    final: `whole_video` lets the long rewards judge the survivors' whole videos, `last_chunk` keeps the best rank.
    offload: what becomes of the tensors of waiting candidates and beams. `none` leaves them on the device, `cpu` moves
    them to CPU memory, `recompute` drops decoder states and decodes the survivors again; see
    `streamt1_plugins.search.offload` for what each costs.
    """

    candidates: Count = 2
    top_k: Count = 2
    batch: Count = 1
    final: Literal["whole_video", "last_chunk"] = "whole_video"
    offload: Literal["none", "cpu", "recompute"] = "none"

    @model_validator(mode="after")
    def _is_not_a_slip(self) -> SearchSettings:
        if self.candidates * self.top_k > MOST:
            raise ValueError(f"candidates * top_k = {self.candidates * self.top_k} candidates a chunk, at most {MOST}")
        return self

    @property
    def is_wide(self) -> bool:
        """Whether there is anything to choose from."""
        return self.candidates > 1 or self.top_k > 1


Share = Annotated[float, Field(ge=0, le=1)]


class MemoryPlan(Section):
    """Sizes of a routed memory in chunks (paper: sinks plus a local window), for adapters that have one.

    sink_chunks: first chunks that are permanent sinks. window_chunks: the local window, the current chunk included.
    max_sink_chunks: sinks at most, appended ones included; where it is not above `sink_chunks` none is appended.
    ema_decay: of ``sink = decay * sink + (1 - decay) * evicted``. sink_precision: what that is computed and kept in; in
    the model's bfloat16 a decay of 0.999 changes almost nothing.

    Beyond the paper. pair_decays: of the second newest and the newest sink, for the route `ema_pair` (MemRoPE: 0.99 and
    0.9). recall_chunks: of the appended sinks only this many are read, those most alike to the newest chunk; left out,
    all. recall_gate: the likeness from which on a sink is read, -1..1.
    """

    sink_chunks: Count = 1
    window_chunks: Count = 3
    max_sink_chunks: Count = 5
    ema_decay: Share = 0.999
    sink_precision: Literal["float32", "model"] = "float32"
    pair_decays: Annotated[tuple[Share, Share], Field(strict=False)] = (0.99, 0.9)
    recall_chunks: Count | None = None
    recall_gate: Annotated[float, Field(ge=-1, le=1)] = -1.0


def _steps(value: Any) -> Any:
    """A number of steps or a share of them, 0 for none. Raises `ValueError` for anything else."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= MOST or (isinstance(value, float) and value >= 1):
        raise ValueError(f"expected a whole number of steps from 0 to {MOST}, or a share of them below 1")
    return value or 0


def _keep(value: Any) -> Any:
    """A share, or a list of them. Raises `ValueError` for anything else."""
    shares = value if isinstance(value, (list, tuple)) and len(value) <= MOST else [value]
    are_numbers = all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in shares)
    if not shares or not are_numbers or not all(0 < each <= 1 for each in shares):
        raise ValueError("expected a share above 0 and at most 1, or a list of them, one per chunk")
    return value


class EarlySettings(Section):
    """Early pruning: the first stage of rewards judges a preview of every candidate, and only the best are finished.

    steps: denoising steps before the preview, or a share of the chunk's steps below 1, at least one; 0 for no early
    pruning. Chunks of no more steps are made whole. keep: the share of a chunk's candidates that is finished, never
    fewer than `search.top_k`; of a list, one entry per chunk, the last one repeats.
    """

    steps: Annotated[
        Annotated[int, Field(ge=0, le=MOST)] | Annotated[float, Field(gt=0, lt=1)], BeforeValidator(_steps)
    ] = 0
    keep: Annotated[
        Kept | Annotated[tuple[Kept, ...], Field(min_length=1, max_length=MOST, strict=False)], BeforeValidator(_keep)
    ] = 0.5

    def steps_of(self, steps: int) -> int:
        """Steps before the preview of a chunk of `steps`; from `steps` on the chunk is made whole."""
        return self.steps if isinstance(self.steps, int) else max(1, round(self.steps * steps))

    def keep_in(self, chunk: int) -> float:
        """The share that is finished in the chunk of this index."""
        return self.keep[min(chunk, len(self.keep) - 1)] if isinstance(self.keep, tuple) else self.keep


def cannot_draft(adapter: str | None, reason: str = "") -> RecipeError:
    """The error for early pruning with an adapter that only makes whole candidates, with the adapter's own reason."""
    because = f" ({reason})" if reason else ""
    return RecipeError(
        f"early.steps: the adapter {adapter!r} cannot stop between two denoising steps{because}, so it has no previews "
        "to prune by. Switch early pruning off with early.steps=0."
    )


class ParallelSettings(Section):
    """Processes, where a launcher starts several; nothing here changes a result.

    candidates: processes that share the candidates of one video; prompts: groups of them, each at another prompt of a
    file. Their product has to be the number of processes started. Left out, all of them share a single prompt's
    candidates, or each takes prompts of its own from a file. timeout: seconds a process waits for another one.
    send: what the others get of a survivor, its `latents` (they decode again) or the `decoded` frames and state too.
    thumbnails: whether candidates of other processes have pictures on the run's page.
    """

    candidates: Count | None = None
    prompts: Count | None = None
    timeout: Seconds = 600.0
    send: Literal["latents", "decoded"] = "latents"
    thumbnails: bool = True


class PlacementSettings(Section):
    """CPU offload of a model that the command line loads, and CPU threads; nothing here changes a result.

    offload: components of the pipeline whose weights stay in CPU memory and come to the device when they run. check:
    whether a run that cannot fit into the GPU's free memory is refused before it starts. threads: CPU threads of a run;
    left out, as many as the adapter declares that the model gains from. Other threads may round otherwise. Rewards have
    devices of their own, see `rewards`.
    """

    offload: Annotated[tuple[str, ...], Field(strict=False)] = ()
    check: bool = True
    threads: Count | None = None


class VideoSettings(Section):
    """The size of the video, where the call leaves it out: null is the adapter's own default."""

    num_frames: Annotated[int, Field(ge=1, le=LONGEST)] | None = None
    height: Count | None = None
    width: Count | None = None

    @property
    def given(self) -> dict[str, int]:
        """The sizes that are set, as arguments of a pipeline's call."""
        sizes: dict[str, int | None] = self.model_dump()
        return {name: size for name, size in sizes.items() if size is not None}


class Recipe(Section):
    """A whole run. `model` and `adapter` may be left out: the caller's pipeline then decides."""

    version: Literal[1] = 1
    description: str = ""
    model: str | None = None
    adapter: AdapterPart = AdapterPart()
    seed: Annotated[int, Field(ge=0, lt=2**64)] = 42
    video: VideoSettings = VideoSettings()
    search: SearchSettings = SearchSettings()
    width: WidthPart = WidthPart()
    early: EarlySettings = EarlySettings()
    noise: NoisePart = NoisePart()
    scoring: ScoringPart = ScoringPart()
    revision: RevisionPart = RevisionPart()
    selection: SelectionPart = SelectionPart()
    memory: MemoryPart = MemoryPart()
    sinks: MemoryPlan = MemoryPlan()
    rewards: RewardSettings = RewardSettings()
    parallel: ParallelSettings = ParallelSettings()
    placement: PlacementSettings = PlacementSettings()
    observers: dict[str, dict[str, Any]] = {}  # noqa: RUF012  pydantic copies it
    _origin: Origin = PrivateAttr(default_factory=Origin)

    @property
    def origin(self) -> Origin:
        """Where the values come from; the user's own words unless they were read from a file or a record."""
        return self._origin

    def traced(self, origin: Origin) -> Recipe:
        """The same recipe with another origin."""
        copy = self.model_copy()
        copy._origin = origin
        return copy

    def with_video(self, **sizes: int) -> Recipe:
        """The recipe with other sizes of the video."""
        return self.model_copy(update={"video": self.video.model_copy(update=sizes)}) if sizes else self

    def sized(self, **sizes: int) -> Recipe:
        """The recipe with other `candidates` or `top_k`."""
        return self.model_copy(update={"search": self.search.model_copy(update=sizes)})

    def to_data(self) -> dict[str, Any]:
        """Plain data that loads back to an equal recipe.

        What does not count unless it is given is left out where it was not: a `seed`, and the keys of a reward, which
        the adapter's suggestion may have.
        """
        data = self.model_dump(mode="json", exclude=None if "seed" in self.model_fields_set else {"seed"})
        data["rewards"] |= self.rewards.model_dump(mode="json", include=set(HORIZONS), exclude_unset=True)
        return data

    def to_yaml(self) -> str:
        """The recipe as YAML that loads back to an equal one."""
        return yaml12.write(self.model_dump(mode="json"))
