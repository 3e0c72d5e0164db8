"""The `parallel` and `placement` sections of a recipe: how many processes search, and where weights wait."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from streamt1_plugins.reward_settings import Section


class ParallelSettings(Section):
    """Processes, where a launcher starts several; nothing here changes a result.

    candidates: processes that share the candidates of one video; prompts: groups of them, each at another prompt of a
    file. Their product has to be the number of processes started. Left out, all of them share a single prompt's
    candidates, or each takes prompts of its own from a file. timeout: seconds a process waits for another one.
    send: what the others get of a survivor, its `latents` (they decode again) or the `decoded` frames and state too.
    previews: whether candidates made elsewhere have pictures on the run's page.
    """

    candidates: Annotated[int, Field(ge=1)] | None = None
    prompts: Annotated[int, Field(ge=1)] | None = None
    timeout: Annotated[float, Field(gt=0)] = 600.0
    send: Literal["latents", "decoded"] = "latents"
    previews: bool = True


class PlacementSettings(Section):
    """Where a model's weights wait when the command line loads it; nothing here changes a result.

    offload: components of the pipeline whose weights stay in CPU memory and come to the device when they run. check:
    whether a run that cannot fit into the GPU's free memory is refused before it starts. Rewards have devices of their
    own, see `rewards`.
    """

    offload: tuple[str, ...] = ()
    check: bool = True
