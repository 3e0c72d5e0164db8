"""Helios: one chunk per call of diffusers' `HeliosPipeline` and `HeliosPyramidPipeline`, from text, image or video."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamt1_plugins.hookspecs import hookimpl

if TYPE_CHECKING:
    from streamt1_plugins.registry import RegisterAdapter


@hookimpl
def streamt1_register_adapters(register: RegisterAdapter) -> None:
    """Declare `helios`."""
    register(
        "helios",
        pipelines=("HeliosPipeline", "HeliosPyramidPipeline"),
        target="streamt1_helios.adapter:HeliosAdapter",
        rewards={"short": {"basic": {}}, "long": {"basic": {}}},
    )
