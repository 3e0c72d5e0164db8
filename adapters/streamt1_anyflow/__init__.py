"""AnyFlow-FAR: chunk-wise flow-map sampling through diffusers' `AnyFlowFARPipeline`, from text or after a video."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamt1_plugins.api.adapter import Capabilities
from streamt1_plugins.api.hookspecs import hookimpl

if TYPE_CHECKING:
    from streamt1_plugins.api.register import RegisterAdapter


CAPABILITIES = Capabilities(
    max_batch=None,
    # The whole cache is recomputed from all latents after every chunk, with old chunks as coarser tokens:
    # nothing leaves it, and a changed entry would be overwritten.
    routes=frozenset(),
    decode="carried",
    noise_stream="whole_video",
    stochastic_steps=False,
    refusals={
        "early_pruning": "a chunk's steps run in one go, without an estimate of the clean chunk between two of them",
        "previews": "no preview decoder is connected to its latents",
        "cost_estimate": "no outline of a call is computed; streamt1 recipes validate prints a formula per chunk",
        "memory_estimate": "nothing is computed from the files; a run on a GPU measures what it needs before it starts",
    },
)


@hookimpl
def streamt1_register_adapters(register: RegisterAdapter) -> None:
    """Declare `anyflow`."""
    register(
        "anyflow",
        pipelines=("AnyFlowFARPipeline",),
        target="streamt1_anyflow.adapter:AnyFlowAdapter",
        capabilities=CAPABILITIES,
        rewards={"short": {"basic": {}}, "long": {"basic": {}}},
    )
