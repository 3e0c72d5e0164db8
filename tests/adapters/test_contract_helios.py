"""The Helios pipelines against the contract: from text, image and video, plain and as pyramids."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from PIL import Image

from streamt1_helios.adapter import HeliosAdapter
from streamt1_plugins.testing import AdapterContract, AdapterNumerics
from tests.adapters.tiny import seeded
from tests.adapters.tiny_helios import tiny_pipeline, tiny_pyramid


def picture(size: int) -> Image.Image:
    return Image.linear_gradient("L").resize((size, size)).convert("RGB")


class Helios(AdapterNumerics):
    name = "helios"
    long: ClassVar[dict[str, Any]] = {"num_frames": 12 * 33, "num_inference_steps": 1}

    def make_pipeline(self) -> Any:
        return tiny_pipeline()

    def make_adapter(self) -> HeliosAdapter:
        return HeliosAdapter()

    def call(self) -> dict[str, Any]:
        size = {"height": 32, "width": 32, "num_frames": 99, "max_sequence_length": 16}
        return {"prompt": "a red circle", "num_inference_steps": 2, "guidance_scale": 1.0, **size}


class TestHelios(Helios, AdapterContract):
    """The whole contract."""


class TestGuidedHelios(Helios):
    def call(self) -> dict[str, Any]:
        return {**super().call(), "guidance_scale": 3.0}


class TestHeliosFromAnImage(Helios):
    def call(self) -> dict[str, Any]:
        return {**super().call(), "image": picture(32)}


class TestHeliosAfterAVideo(Helios):
    def call(self) -> dict[str, Any]:
        return {**super().call(), "video": torch.rand(1, 40, 3, 32, 32, generator=seeded(8))}


class HeliosPyramid(Helios):
    """Its three stages start at a quarter of the size, so it needs 64 pixels."""

    long: ClassVar[dict[str, Any]] = {"num_frames": 8 * 33}

    def make_pipeline(self) -> Any:
        return tiny_pyramid()

    def call(self) -> dict[str, Any]:
        size = {"height": 64, "width": 64, "num_frames": 99, "max_sequence_length": 16}
        return {"prompt": "a red circle", "pyramid_num_inference_steps_list": [1, 1, 1], "guidance_scale": 1.0, **size}


class TestHeliosPyramid(HeliosPyramid, AdapterContract):
    """The whole contract: it is another pipeline, which takes one candidate at a time."""


class TestDistilledHeliosPyramid(HeliosPyramid):
    def make_pipeline(self) -> Any:
        return tiny_pyramid(distilled=True)

    def call(self) -> dict[str, Any]:
        return {**super().call(), "is_amplify_first_chunk": True}


class TestHeliosPyramidFromAnImage(HeliosPyramid):
    def call(self) -> dict[str, Any]:
        return {**super().call(), "image": picture(64)}
