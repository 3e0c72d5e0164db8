"""What the adapter refuses, and that each message says what was wrong and what would be right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from diffusers import FirstBlockCacheConfig

from streamt1_plugins.api.adapter import MemoryPlan
from streamt1_plugins.errors import InputError, RecipeError, UnsupportedPipelineError
from streamt1_wan.adapter import CausalWanAdapter
from streamt1_wan.processor import AttentionOptions, ContextAttnProcessor
from tests.adapters.tiny import tiny_pipeline, tiny_transformer

if TYPE_CHECKING:
    from collections.abc import Callable

    from diffusers import WanPipeline

CALL: dict[str, Any] = {
    "prompt": "a red circle",
    "height": 32,
    "width": 32,
    "num_frames": 33,
    "max_sequence_length": 16,
}


def attempt(pipe: Any, **changes: Any) -> None:
    """Open and close a session; a change of ... takes the argument away."""
    call = {name: value for name, value in {**CALL, **changes}.items() if value is not ...}
    CausalWanAdapter().open(pipe, call, MemoryPlan()).close()


@pytest.fixture(scope="module")
def pipe() -> WanPipeline:
    return tiny_pipeline()


ARGUMENTS = [
    ({"prompt": ...}, "No prompt: pass `prompt`"),
    ({"prompt": None}, "No prompt"),
    ({"prompt": 3}, "`prompt` has to be a text .str., got int: 3"),
    ({"prompt": ["a", "b"]}, "`prompt` has 2 entries, but one call makes one video"),
    ({"prompt": []}, "`prompt` has 0 entries"),
    ({"prompt_embeds": torch.zeros(1, 16, 32)}, "either `prompt` or `prompt_embeds`, not both"),
    ({"prompt": ..., "prompt_embeds": torch.zeros(16, 32)}, r"has to be \[1, tokens, text_dim\], got \[16, 32\]"),
    ({"negative_prompt": "x", "negative_prompt_embeds": torch.zeros(1, 16, 32)}, "either `negative_prompt` or"),
    ({"negative_prompt_embeds": torch.zeros(1, 8, 32), "guidance_scale": 2.0}, "the same shape"),
    ({"num_frames": 34}, "does not fill whole chunks of 3 latent frames. Nearest: 33 or 45"),
    ({"num_frames": 80}, "Nearest: 69 or 81"),
    ({"num_frames": 1}, "Nearest: 9 or 21"),
    ({"num_frames": 0}, "Nearest: 9 or 21"),
    ({"num_frames": -7}, "Nearest: 9 or 21"),
    ({"num_frames": 33.0}, "`num_frames` has to be of type int, got float: 33.0"),
    ({"num_frames": 261}, "needs 66 latent frames, .* positions for 64 .* The longest video is 249 frames"),
    ({"height": 40}, "`height` has to be a multiple of 16 .*, got 40. Nearest: 32 or 48"),
    ({"width": 8}, "`width` has to be a multiple of 16 .*, got 8. Nearest: 16 or 32"),
    ({"height": "480"}, "`height` has to be of type int"),
    ({"guidance_scale": "high"}, "`guidance_scale` has to be a number"),
    ({"guidance_scale": True}, "`guidance_scale` has to be a number"),
    ({"generator": 42}, "`generator` has to be of type Generator, got int: 42"),
    ({"num_videos_per_prompt": 2}, "`num_videos_per_prompt` has to be 1, got 2"),
    ({"output_type": "mp4"}, "`output_type` has to be one of np, pil, pt, latent, got 'mp4'"),
    ({"max_sequence_length": 0}, "at least 1"),
    ({"num_frame": 33}, "Unknown argument 'num_frame'. Did you mean 'num_frames'?"),
    ({"zzzz": 1}, "Unknown argument 'zzzz'. Known: attention_kwargs"),
    ({"num_inference_steps": 0}, "`num_inference_steps` has to be at least 1, got 0"),
    ({"num_inference_steps": 2.5}, "`num_inference_steps` has to be of type int, got float: 2.5"),
    ({"latents": torch.zeros(1)}, r"`latents` is the noise of the whole video, \[1, 16, 9, 4, 4\] for this call"),
    ({"callback_on_step_end": 3}, "`callback_on_step_end` has to be a function, got int: 3"),
    ({"callback_on_step_end_tensor_inputs": ["latent"]}, "none of latents, .* Did you mean 'latents'?"),
    ({"guidance_scale_2": 2.0}, "second transformer"),
]


@pytest.mark.parametrize(("changes", "message"), ARGUMENTS, ids=lambda value: str(value)[:40])
def test_arguments(pipe: WanPipeline, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        attempt(pipe, **changes)
    assert type(pipe.transformer.blocks[0].attn1.processor).__name__ == "WanAttnProcessor"


@pytest.mark.parametrize("num_frames", [9, 21, 249])
def test_valid_lengths(pipe: WanPipeline, num_frames: int) -> None:
    attempt(pipe, num_frames=num_frames)


def test_what_wan_pipeline_accepts_is_accepted(pipe: WanPipeline) -> None:
    attempt(pipe, prompt=["a red circle"], negative_prompt=None, generator=None, callback_on_step_end=None)
    attempt(pipe, prompt=..., prompt_embeds=torch.zeros(1, 16, 32), num_videos_per_prompt=1)
    attempt(pipe, prompt="", negative_prompt=("a",), generator=[torch.Generator()])
    attempt(pipe, num_frames=np.int64(33), height=np.int32(32), guidance_scale=np.float32(2))
    attempt(pipe, latents=torch.zeros(1, 16, 9, 4, 4), num_inference_steps=50)


def test_a_text_that_is_cut_is_warned_of(pipe: WanPipeline, caplog: pytest.LogCaptureFixture) -> None:
    attempt(pipe, negative_prompt="word " * 20)  # unused without guidance
    assert not caplog.messages
    attempt(pipe, prompt="word " * 20)
    attempt(pipe, negative_prompt="word " * 20, guidance_scale=2.0)
    first, second = caplog.messages
    assert first.startswith("`prompt` has 21 tokens, but `max_sequence_length` is 16: the rest is ignored.")
    assert second.startswith("`negative_prompt` has 21 tokens")


def _second_transformer(pipe: WanPipeline) -> None:
    pipe.transformer_2 = tiny_transformer()


def _parallel(pipe: WanPipeline) -> None:
    pipe.transformer._parallel_config = object()


def _in_use(pipe: WanPipeline) -> None:
    attention = pipe.transformer.blocks[0].attn1
    attention.processor = ContextAttnProcessor(attention.processor, AttentionOptions("stock", shared_prefix=False))


def _without_text(pipe: WanPipeline) -> None:
    pipe.tokenizer = None


STATES: list[tuple[Callable[[WanPipeline], Any], str]] = [
    (_second_transformer, "transformer_2.*pipe.transformer_2 = None"),
    (_parallel, "Context parallelism is enabled.*one process per device"),
    (lambda pipe: pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.1)), "step cache.*disable_cache"),
    (lambda pipe: pipe.vae.enable_tiling(), "VAE tiling is enabled.*disable_tiling"),
    (
        lambda pipe: setattr(pipe, "transformer", torch.nn.Linear(1, 1)),
        "`transformer` is a Linear.*WanTransformer3DModel",
    ),
    (lambda pipe: setattr(pipe, "vae", torch.nn.Linear(1, 1)), "`vae` is a Linear.*AutoencoderKLWan"),
    (_in_use, "denoising for another call, in another thread"),
    (_without_text, "no tokenizer or text encoder.*prompt_embeds"),
]


@pytest.mark.parametrize(("change", "message"), STATES, ids=[message[:20] for _, message in STATES])
def test_states(change: Callable[[WanPipeline], Any], message: str) -> None:
    pipe = tiny_pipeline()
    change(pipe)
    with pytest.raises(UnsupportedPipelineError, match=message):
        attempt(pipe)


def test_other_pipelines() -> None:
    with pytest.raises(UnsupportedPipelineError, match="drives diffusers' WanPipeline, got dict"):
        attempt({})


def test_image_conditioned_transformers() -> None:
    pipe = tiny_pipeline(transformer=tiny_transformer(in_channels=36))
    with pytest.raises(UnsupportedPipelineError, match=r"conditioned on images .in_channels 36, latent channels 16"):
        attempt(pipe)


@pytest.mark.parametrize("timesteps", [(250, 500), (500, 500)])
def test_timesteps_have_to_fall(timesteps: tuple[int, ...]) -> None:
    with pytest.raises(RecipeError, match="fall from noisy to clean"):
        CausalWanAdapter(timesteps=timesteps)
