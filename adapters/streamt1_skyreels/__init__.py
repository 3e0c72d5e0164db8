"""SkyReels-V2 diffusion forcing: long videos in overlapping windows, from text, an image or a video."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamt1_plugins.api.adapter import Capabilities
from streamt1_plugins.api.hookspecs import hookimpl

if TYPE_CHECKING:
    from streamt1_plugins.api.register import RegisterAdapter


CAPABILITIES = Capabilities(
    max_batch=None,
    routes=frozenset(),
    decode="carried",
    noise_stream="per_chunk",
    stochastic_steps=False,
    refusals={
        "early_pruning": "a window is one call of the pipeline, which runs all its denoising steps",
        "previews": "no preview decoder is connected to its latents",
        "schedule": "the pipeline's own loop over windows reads one text",
        "predictions": "the levels of a window's frames differ, and its call begins with noise",
        "cost_estimate": "no outline of a call is computed; streamt1 recipes validate prints a formula per chunk",
        "memory_estimate": "nothing is computed from the files; a run on a GPU measures what it needs before it starts",
    },
)


@hookimpl
def streamt1_register_adapters(register: RegisterAdapter) -> None:
    """Declare `skyreels`; the class names alone identify the pipelines."""
    register(
        "skyreels",
        pipelines=(
            "SkyReelsV2DiffusionForcingPipeline",
            "SkyReelsV2DiffusionForcingImageToVideoPipeline",
            "SkyReelsV2DiffusionForcingVideoToVideoPipeline",
        ),
        target="streamt1_skyreels.adapter:SkyReelsAdapter",
        capabilities=CAPABILITIES,
        rewards={"short": {"basic": {}}, "long": {"basic": {}}},
    )
