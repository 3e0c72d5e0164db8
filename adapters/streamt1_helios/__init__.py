"""Helios: one chunk per call of diffusers' `HeliosPipeline` and `HeliosPyramidPipeline`, from text, image or video."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamt1_plugins.api.adapter import Capabilities
from streamt1_plugins.api.hookspecs import hookimpl

if TYPE_CHECKING:
    from streamt1_plugins.api.register import RegisterAdapter


PLAIN = Capabilities(
    max_batch=None,
    routes=frozenset(),  # no cache to route: the model reads latents of fixed age
    decode="independent",
    noise_stream="per_chunk",
    stochastic_steps=False,
    refusals={
        "early_pruning": "a chunk is one call of the pipeline, which runs all its denoising steps",
        "previews": "no cheap decoder that continues from chunk to chunk is known for its latents",
        "cost_estimate": "no outline of a call is computed; streamt1 recipes validate prints a formula per chunk",
        "memory_estimate": "nothing is computed from the files; a run on a GPU measures what it needs before it starts",
    },
)


@hookimpl
def streamt1_register_adapters(register: RegisterAdapter) -> None:
    """Declare `helios`."""
    register(
        "helios",
        pipelines=("HeliosPipeline", "HeliosPyramidPipeline"),
        target="streamt1_helios.adapter:HeliosAdapter",
        capabilities=PLAIN,
        rewards={"short": {"basic": {}}, "long": {"basic": {}}},
    )
