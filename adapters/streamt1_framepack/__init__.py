"""FramePack (HunyuanVideo): section after section from an image, in its streaming form (vanilla sampling, F1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamt1_plugins.hookspecs import hookimpl

if TYPE_CHECKING:
    from streamt1_plugins.registry import RegisterAdapter


@hookimpl
def streamt1_register_adapters(register: RegisterAdapter) -> None:
    """Declare `framepack`; the class name alone tells that it fits."""
    register(
        "framepack",
        pipelines=("HunyuanVideoFramepackPipeline",),
        target="streamt1_framepack.adapter:FramepackAdapter",
        rewards={"short": {"basic": {}}, "long": {"basic": {}}},
    )
