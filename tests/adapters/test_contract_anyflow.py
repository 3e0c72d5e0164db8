"""AnyFlow-FAR against the contract: from text, with guidance, and after a video."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from streamt1_anyflow.adapter import AnyFlowAdapter
from streamt1_plugins.testing import AdapterContract, AdapterNumerics
from tests.adapters.tiny import seeded
from tests.adapters.tiny_anyflow import tiny_pipeline


class AnyFlow(AdapterNumerics):
    name = "anyflow"
    long: ClassVar[dict[str, Any]] = {"num_frames": 45, "chunk_partition": [1] * 12, "num_inference_steps": 1}

    def make_pipeline(self) -> Any:
        return tiny_pipeline()

    def make_adapter(self) -> AnyFlowAdapter:
        return AnyFlowAdapter(num_inference_steps=2)

    def call(self) -> dict[str, Any]:
        return {"prompt": "a red circle", "height": 32, "width": 32, "num_frames": 25, "max_sequence_length": 16}

    def plain(self, **changes: Any) -> Any:
        return super().plain(**{"num_inference_steps": 2, **changes})


class TestAnyFlow(AnyFlow, AdapterContract):
    """The whole contract."""


class TestGuidedAnyFlow(AnyFlow):
    def call(self) -> dict[str, Any]:
        return {**super().call(), "guidance_scale": 3.0}


class TestAnyFlowAfterAVideo(AnyFlow):
    def call(self) -> dict[str, Any]:
        return {**super().call(), "video": torch.rand(1, 1, 3, 32, 32, generator=seeded(8))}
