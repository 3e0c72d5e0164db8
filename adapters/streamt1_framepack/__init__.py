"""FramePack (HunyuanVideo): section after section from an image, in its streaming form (vanilla sampling, F1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamt1_plugins.api.adapter import Capabilities
from streamt1_plugins.api.hookspecs import hookimpl

if TYPE_CHECKING:
    from streamt1_plugins.api.register import RegisterAdapter


CAPABILITIES = Capabilities(
    max_batch=None,
    routes=frozenset(),
    decode="blended",
    noise_stream="per_chunk",
    stochastic_steps=False,
    refusals={
        "early_pruning": "a section is one call of the pipeline, which runs all its denoising steps",
        "previews": "every section revises the end of the last one, and no cheap decoder that can do so is known",
        "schedule": "the pipeline's own loop over sections reads one text",
        "predictions": "a section is one call of the pipeline, which begins with noise",
        "cost_estimate": "no outline of a call is computed; streamt1 recipes validate prints a formula per chunk",
        "memory_estimate": "nothing is computed from the files; a run on a GPU measures what it needs before it starts",
    },
)


@hookimpl
def streamt1_register_adapters(register: RegisterAdapter) -> None:
    """Declare `framepack`; the class name alone identifies the pipeline."""
    register(
        "framepack",
        pipelines=("HunyuanVideoFramepackPipeline",),
        target="streamt1_framepack.adapter:FramepackAdapter",
        capabilities=CAPABILITIES,
        rewards={"short": {"basic": {}}, "long": {"basic": {}}},
    )
