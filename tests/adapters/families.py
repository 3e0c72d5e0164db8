"""A tiny pipeline and a short call of every family."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.adapters import tiny, tiny_anyflow, tiny_framepack, tiny_helios, tiny_skyreels

if TYPE_CHECKING:
    from collections.abc import Callable

SMALL: dict[str, Any] = {"height": 32, "width": 32, "max_sequence_length": 16, "output_type": "pt"}
FEW = {"num_inference_steps": 2}

# Per family: the pipeline, its call, the latent frames of its chunks.
FAMILIES: dict[str, tuple[Callable[[], Any], dict[str, Any], tuple[int, ...]]] = {
    "wan": (tiny.tiny_pipeline, {"num_frames": 33}, (3, 3, 3)),
    "anyflow": (tiny_anyflow.tiny_pipeline, {"num_frames": 25, **FEW}, (1, 2, 2, 2)),
    "helios": (tiny_helios.tiny_pipeline, {"num_frames": 99, **FEW}, (9, 9, 9)),
    "helios pyramid": (
        tiny_helios.tiny_pyramid,
        {"num_frames": 99, "height": 64, "width": 64, "pyramid_num_inference_steps_list": [1, 1, 1]},
        (9, 9, 9),
    ),
    "skyreels": (
        tiny_skyreels.tiny_skyreels,
        {"num_frames": 41, "base_num_frames": 17, "overlap_history": 5, **FEW},
        (5, 5, 5),
    ),
    "framepack": (
        tiny_framepack.tiny_framepack,
        {
            "image": tiny_skyreels.picture(),
            "sampling_type": "vanilla",
            "num_frames": 27,
            "latent_window_size": 3,
            **FEW,
        },
        (3, 3, 3),
    ),
}
