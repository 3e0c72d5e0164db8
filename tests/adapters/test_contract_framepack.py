"""FramePack with vanilla sampling against the contract."""

from __future__ import annotations

from typing import Any, ClassVar

from streamt1_framepack.adapter import FramepackAdapter
from streamt1_plugins.testing import AdapterContract
from tests.adapters.tiny_framepack import tiny_framepack
from tests.adapters.tiny_skyreels import picture


class TestFramepack(AdapterContract):
    name = "framepack"
    long: ClassVar[dict[str, Any]] = {"num_frames": 10 * 5, "latent_window_size": 2, "num_inference_steps": 1}
    guidance: ClassVar[dict[str, Any]] = {"true_cfg_scale": 3.0}

    def make_pipeline(self) -> Any:
        return tiny_framepack()

    def make_adapter(self) -> FramepackAdapter:
        return FramepackAdapter()

    def video(self, **changes: Any) -> Any:
        return self.whole(super().video(**changes), **changes)

    def plain(self, **changes: Any) -> Any:
        return self.whole(super().plain(**changes), **changes)

    @staticmethod
    def whole(output: Any, output_type: str = "pil", return_dict: bool = True, **_: Any) -> Any:
        """The pipeline returns the latents after every section; the last ones are those of the whole video."""
        return (output[0][-1],) if output_type == "latent" and not return_dict else output

    def call(self) -> dict[str, Any]:
        """Three sections of 3 latent frames."""
        size = {"height": 32, "width": 32, "num_frames": 27, "latent_window_size": 3, "max_sequence_length": 16}
        call = {"prompt": "a red circle", "image": picture(), "sampling_type": "vanilla", "num_inference_steps": 2}
        return {**call, **size}
