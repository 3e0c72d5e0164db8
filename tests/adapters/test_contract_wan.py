"""Causal Wan keeps every promise that does not need a plain pipeline to compare with: there is none."""

from __future__ import annotations

from typing import Any, ClassVar

from diffusers import UniPCMultistepScheduler

from streamt1_plugins.testing import AdapterContract, AdapterNumerics
from streamt1_wan.adapter import CausalWanAdapter
from tests.adapters.tiny import tiny_pipeline


class CausalWan(AdapterNumerics):
    name = "wan"
    has_plain = False
    has_callbacks = False  # there is no plain pipeline to compare with: see test_wan_conventions
    long: ClassVar[dict[str, Any]] = {"num_frames": 12 * 12 - 3}

    def make_pipeline(self) -> Any:
        return tiny_pipeline()

    def make_adapter(self) -> CausalWanAdapter:
        return CausalWanAdapter(timesteps=(1000, 500))

    def call(self) -> dict[str, Any]:
        return {"prompt": "a red circle", "height": 32, "width": 32, "num_frames": 33, "max_sequence_length": 16}


class TestCausalWan(CausalWan, AdapterContract):
    """The whole contract."""


class TestUniformCausalWan(CausalWan):
    """More steps in the first chunk than in those after it."""

    def make_adapter(self) -> CausalWanAdapter:
        return CausalWanAdapter(steps=(5, 3))


class TestGuidedCausalWan(CausalWan):
    def call(self) -> dict[str, Any]:
        return {**super().call(), "guidance_scale": 2.0}


class TestEulerCausalWan(CausalWan):
    """The chunk follows from its initial noise."""

    def make_adapter(self) -> CausalWanAdapter:
        return CausalWanAdapter(sampler="euler", steps=(5, 3))


class TestScheduledCausalWan(CausalWan):
    """A multistep scheduler of the pipeline, which remembers the steps before."""

    def make_pipeline(self) -> Any:
        pipe = tiny_pipeline()
        pipe.scheduler = UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        )
        return pipe

    def make_adapter(self) -> CausalWanAdapter:
        return CausalWanAdapter(sampler="scheduler", steps=(5, 4))
