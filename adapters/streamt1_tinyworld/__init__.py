"""The bundled tiny causal model: coloured shapes that move as the prompt describes, 64 x 64 pixels, fast on a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from streamt1_plugins.api.hookspecs import hookimpl
from streamt1_tinyworld.world import VOCABULARY
from streamt1_wan import CAPABILITIES

if TYPE_CHECKING:
    from streamt1_plugins.api.register import RegisterAdapter, RegisterReward


@hookimpl
def streamt1_register_adapters(register: RegisterAdapter) -> None:
    """Declare both models, without a pipeline class: they are plain `WanPipeline`s, which belong to `wan`."""
    for name, adapter in (("tinyworld", "TinyWorldAdapter"), ("tinyworld-student", "StudentAdapter")):
        register(
            name,
            pipelines=(),
            target=f"streamt1_tinyworld.adapter:{adapter}",
            capabilities=CAPABILITIES,
            model="streamt1_tinyworld:model_dir",
            rewards={
                "short": {"basic": {"calibration": "running"}},
                "long": {"tinyalign": {"calibration": "running"}},
            },
            vocabulary=VOCABULARY,
        )


@hookimpl
def streamt1_register_rewards(register: RegisterReward) -> None:
    """Declare the ground truth as a judge for comparisons."""
    register("tinyworld-judge", target="streamt1_tinyworld.judging:TinyWorldJudge")


PREVIEW = "preview.safetensors"
"""The preview decoder's weights, in the model's folder."""


def model_dir() -> str:
    """The folder of the packaged model."""
    return str(Path(__file__).parent / "model")
