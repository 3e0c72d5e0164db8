"""SkyReels-V2 diffusion forcing: long videos in overlapping windows, from text, an image or a video."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamt1_plugins.hookspecs import hookimpl

if TYPE_CHECKING:
    from streamt1_plugins.registry import RegisterAdapter


@hookimpl
def streamt1_register_adapters(register: RegisterAdapter) -> None:
    """Declare `skyreels`; the class names alone tell that it fits."""
    register(
        "skyreels",
        pipelines=(
            "SkyReelsV2DiffusionForcingPipeline",
            "SkyReelsV2DiffusionForcingImageToVideoPipeline",
            "SkyReelsV2DiffusionForcingVideoToVideoPipeline",
        ),
        target="streamt1_skyreels.adapter:SkyReelsAdapter",
        rewards={"short": {"basic": {}}, "long": {"basic": {}}},
    )
