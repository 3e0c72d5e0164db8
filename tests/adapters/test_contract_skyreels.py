"""SkyReels-V2 diffusion forcing against the contract: text, image and video to video, sync and async."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch

from streamt1_plugins.testing import AdapterContract
from streamt1_skyreels.adapter import SkyReelsAdapter
from tests.adapters.tiny_skyreels import picture, tiny_skyreels

if TYPE_CHECKING:
    from collections.abc import Mapping


class TestSkyReels(AdapterContract):
    name = "skyreels"
    tolerance = 1e-3  # of frames: the tiny decoder multiplies what a batch changes in the last bits
    long: ClassVar[dict[str, Any]] = {"num_frames": 17 + 7 * 12, "num_inference_steps": 1}

    def make_pipeline(self) -> Any:
        return tiny_skyreels()

    def make_adapter(self) -> SkyReelsAdapter:
        return SkyReelsAdapter()

    def call(self) -> dict[str, Any]:
        """Three windows of 5 latent frames that share 2."""
        size = {"height": 32, "width": 32, "num_frames": 41, "base_num_frames": 17, "overlap_history": 5}
        call = {"prompt": "a red circle", "num_inference_steps": 2, "guidance_scale": 1.0, "max_sequence_length": 16}
        return {**call, **size}


class TestAsyncSkyReels(TestSkyReels):
    long: ClassVar[dict[str, Any]] = {"num_frames": 13 + 7 * 8, "num_inference_steps": 1}

    def call(self) -> dict[str, Any]:
        """Five windows of 4 latent frames in causal blocks of 2."""
        return {**super().call(), "ar_step": 1, "causal_block_size": 2, "base_num_frames": 13, "num_frames": 29}


class TestNoisedSkyReels(TestSkyReels):
    """The plain pipeline draws from torch's global generator, so every call starts from the same state of it."""

    def arguments(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        torch.manual_seed(9)
        return super().arguments(changes)

    def call(self) -> dict[str, Any]:
        return {**super().call(), "addnoise_condition": 20}


class TestSkyReelsFromAnImage(TestSkyReels):
    def make_pipeline(self) -> Any:
        return tiny_skyreels("i2v")

    def call(self) -> dict[str, Any]:
        return {**super().call(), "image": picture()}


class TestSkyReelsAfterAVideo(TestSkyReels):
    def make_pipeline(self) -> Any:
        return tiny_skyreels("v2v")

    def call(self) -> dict[str, Any]:
        return {**super().call(), "video": [picture(seed) for seed in range(9)]}
