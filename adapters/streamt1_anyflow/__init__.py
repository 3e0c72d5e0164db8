"""AnyFlow-FAR: chunk-wise flow-map sampling through diffusers' `AnyFlowFARPipeline`, from text or after a video."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamt1_plugins.hookspecs import hookimpl

if TYPE_CHECKING:
    from streamt1_plugins.registry import RegisterAdapter


@hookimpl
def streamt1_register_adapters(register: RegisterAdapter) -> None:
    """Declare `anyflow`."""
    register(
        "anyflow",
        pipelines=("AnyFlowFARPipeline",),
        target="streamt1_anyflow.adapter:AnyFlowAdapter",
        rewards={"short": {"basic": {}}, "long": {"basic": {}}},
    )
