"""SkyReels-V2 diffusion forcing against the contract: text, image and video to video, sync and async."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch

from streamt1_plugins.testing import AdapterContract, AdapterFeatures, AdapterNumerics
from streamt1_plugins.testing.adapter_case import candidate, check_same
from streamt1_skyreels.adapter import SkyReelsAdapter
from tests.adapters.tiny import seeded
from tests.adapters.tiny_skyreels import picture, tiny_skyreels

if TYPE_CHECKING:
    from collections.abc import Mapping


class SkyReels(AdapterNumerics):
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

    def test_verbs_keep_to_their_shapes(self) -> None:
        """As in the contract, but noise covers the window and latents only what is new in it."""
        with self.session() as session:
            history = session.root()
            for index in range(session.num_chunks):
                noise = session.draw(history, seeded(index))
                latents, decoded = candidate(session, history, index)
                new = noise.shape[2] - (2 if index else 0)
                assert latents.shape == (*noise.shape[:2], new, *noise.shape[3:])
                assert decoded.frames.shape == (4 * new - (0 if index else 3), 3, 32, 32)
                assert bool((decoded.frames >= 0).all() and (decoded.frames <= 1).all())
                history = session.commit(history, latents, decoded, "discard")
                assert (history.index, len(history.latents), len(history.frames)) == (index + 1,) * 3

    def test_host_callbacks_are_called(self) -> None:
        """As in the contract, but every latent frame has a timestep of its own."""
        steps: dict[bool, list[tuple[bool, int, list[float]]]] = {True: [], False: []}

        def callback(ours: bool) -> Any:
            def step_end(pipe: Any, step: int, timestep: torch.Tensor, tensors: dict[str, Any]) -> dict[str, Any]:
                steps[ours].append((pipe is self.pipe, step, timestep.tolist()))
                return {"latents": 0.9 * tensors["latents"]}

            return step_end

        call = {"output_type": "latent", "return_dict": False}
        found = self.video(callback_on_step_end=callback(True), **call)[0]
        check_same(found, self.plain(callback_on_step_end=callback(False), **call)[0])
        assert steps[True]
        assert steps[True] == steps[False]


class TestSkyReels(SkyReels, AdapterContract):
    """The whole contract."""


class TestAsyncSkyReels(SkyReels):
    long: ClassVar[dict[str, Any]] = {"num_frames": 13 + 7 * 8, "num_inference_steps": 1}

    def call(self) -> dict[str, Any]:
        """Five windows of 4 latent frames in causal blocks of 2."""
        return {**super().call(), "ar_step": 1, "causal_block_size": 2, "base_num_frames": 13, "num_frames": 29}


class TestNoisedSkyReels(SkyReels):
    """The plain pipeline draws from torch's global generator, so every call starts from the same state of it."""

    def arguments(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        torch.manual_seed(9)
        return super().arguments(changes)

    def call(self) -> dict[str, Any]:
        return {**super().call(), "addnoise_condition": 20}


class TestSkyReelsFromAnImage(SkyReels, AdapterFeatures):
    def make_pipeline(self) -> Any:
        return tiny_skyreels("i2v")

    def call(self) -> dict[str, Any]:
        return {**super().call(), "image": picture()}


class TestSkyReelsAfterAVideo(SkyReels, AdapterFeatures):
    def make_pipeline(self) -> Any:
        return tiny_skyreels("v2v")

    def call(self) -> dict[str, Any]:
        return {**super().call(), "video": [picture(seed) for seed in range(9)]}
