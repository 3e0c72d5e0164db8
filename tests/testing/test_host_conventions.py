"""The conventions of hosts, run on every family."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch

from streamt1_anyflow.adapter import AnyFlowAdapter
from streamt1_framepack.adapter import FramepackAdapter
from streamt1_helios.adapter import HeliosAdapter
from streamt1_plugins.testing import HostConventions
from streamt1_plugins.testing.adapter_case import check_same
from streamt1_skyreels.adapter import SkyReelsAdapter
from streamt1_wan.adapter import CausalWanAdapter
from tests.adapters import tiny, tiny_anyflow, tiny_helios
from tests.adapters.tiny import seeded
from tests.adapters.tiny_framepack import tiny_framepack
from tests.adapters.tiny_skyreels import picture, tiny_skyreels

SMALL: dict[str, Any] = {"prompt": "a red circle", "height": 32, "width": 32, "max_sequence_length": 16}
FEW = {"num_inference_steps": 2, "guidance_scale": 1.0}


def with_tokenizer(pipe: Any) -> Any:
    from transformers import AutoTokenizer

    from streamt1_tinyworld import model_dir

    pipe.register_modules(tokenizer=AutoTokenizer.from_pretrained(Path(model_dir()) / "tokenizer"))
    return pipe


class TestHelios(HostConventions):
    name = "helios"

    def make_pipeline(self) -> Any:
        return tiny_helios.tiny_pipeline()

    def make_adapter(self) -> Any:
        return HeliosAdapter()

    def call(self) -> dict[str, Any]:
        return {**SMALL, **FEW, "num_frames": 18, "num_latent_frames_per_chunk": 3}

    def saveable(self, pipe: Any) -> Any:
        return with_tokenizer(pipe)


class TestHeliosPyramid(TestHelios):
    def make_pipeline(self) -> Any:
        return tiny_helios.tiny_pyramid()

    def call(self) -> dict[str, Any]:
        steps = {"pyramid_num_inference_steps_list": [1, 1, 1], "guidance_scale": 1.0}
        return {**SMALL, **steps, "height": 64, "width": 64, "num_frames": 18, "num_latent_frames_per_chunk": 3}


class TestAnyFlow(HostConventions):
    name = "anyflow"

    def make_pipeline(self) -> Any:
        return tiny_anyflow.tiny_pipeline(chunk_partition=(1, 2))

    def make_adapter(self) -> Any:
        return AnyFlowAdapter()

    def call(self) -> dict[str, Any]:
        return {**SMALL, **FEW, "num_frames": 9}

    def saveable(self, pipe: Any) -> Any:
        return with_tokenizer(pipe)


class TestSkyReels(HostConventions):
    name = "skyreels"
    task: ClassVar[str] = "t2v"

    def make_pipeline(self) -> Any:
        return tiny_skyreels(self.task)

    def make_adapter(self) -> Any:
        return SkyReelsAdapter()

    def call(self) -> dict[str, Any]:
        return {**SMALL, **FEW, "num_frames": 29, "base_num_frames": 17, "overlap_history": 5}

    def saveable(self, pipe: Any) -> Any:
        return with_tokenizer(pipe)


class TestSkyReelsFromAnImage(TestSkyReels):
    task = "i2v"
    pictures = ("image",)

    def call(self) -> dict[str, Any]:
        return {**super().call(), "image": torch.rand(1, 3, 32, 32, generator=seeded(3))}


class TestSkyReelsAfterAVideo(TestSkyReels):
    task = "v2v"
    pictures = ("video",)

    def call(self) -> dict[str, Any]:
        return {**super().call(), "video": torch.rand(1, 9, 3, 32, 32, generator=seeded(3))}

    def test_lists_of_pictures_are_videos_for_their_prompts(self) -> None:
        clips = [[picture(seed) for seed in range(start, start + 9)] for start in (0, 9)]
        both = {**self.several(2), "video": clips}
        self.check_equal(self.wrapped(), lambda: {**both, "generator": [seeded(1), seeded(2)]})
        searched = self.latents(self.searching(), **both, generator=[seeded(1), seeded(2)])
        for row in range(2):
            alone = {"prompt": both["prompt"][row], "video": clips[row], "generator": seeded(row + 1)}
            check_same(searched[row : row + 1], self.latents(self.searching(), **alone))


class TestFramepack(HostConventions):
    name = "framepack"
    embeddings = ("prompt_embeds", "pooled_prompt_embeds", "prompt_attention_mask")
    pictures = ("image",)

    def make_pipeline(self) -> Any:
        return tiny_framepack()

    def make_adapter(self) -> Any:
        return FramepackAdapter()

    def call(self) -> dict[str, Any]:
        sections = {"num_frames": 18, "latent_window_size": 3, "sampling_type": "vanilla"}
        return {**SMALL, **FEW, **sections, "image": torch.rand(1, 3, 32, 32, generator=seeded(3))}


class TestCausalWan(HostConventions):
    """A causal Wan has no call of its own to compare with: `WanPipeline` makes the whole video at once."""

    name = "wan"
    has_plain = False

    def make_pipeline(self) -> Any:
        return tiny.tiny_pipeline()

    def make_adapter(self) -> Any:
        return CausalWanAdapter()

    def call(self) -> dict[str, Any]:
        return {**SMALL, "guidance_scale": 1.0, "num_frames": 21}

    def saveable(self, pipe: Any) -> Any:
        return with_tokenizer(pipe)
