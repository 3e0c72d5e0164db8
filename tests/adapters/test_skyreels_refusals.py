"""What the SkyReels adapter refuses, and the upstream bugs it refuses or works around.

Every test named after upstream fails when upstream changes; its comment says what to do then.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from diffusers import UniPCMultistepScheduler

from streamt1_plugins.api.adapter import MemoryPlan
from streamt1_plugins.errors import InputError, UnsupportedPipelineError
from streamt1_skyreels.adapter import SkyReelsAdapter
from tests.adapters.tiny import seeded, tiny_pipeline
from tests.adapters.tiny_skyreels import picture, tiny_skyreels

if TYPE_CHECKING:
    from collections.abc import Callable

CALL: dict[str, Any] = {"prompt": "a red circle", "height": 32, "width": 32, "max_sequence_length": 16}
CALL |= {"num_inference_steps": 2, "guidance_scale": 1.0, "output_type": "latent"}
CALL |= {"num_frames": 41, "base_num_frames": 17, "overlap_history": 5}
I2V, V2V = {"image": picture()}, {"video": [picture()] * 9}


@pytest.fixture(scope="module")
def pipes() -> dict[str, Any]:
    torch.set_num_threads(1)
    return {task: tiny_skyreels(task) for task in ("t2v", "i2v", "v2v")}


def attempt(pipe: Any, **changes: Any) -> None:
    """Open and close a session; a change of ... takes the argument away."""
    call = {name: value for name, value in {**CALL, **changes}.items() if value is not ...}
    SkyReelsAdapter().open(pipe, call, MemoryPlan()).close()


ARGUMENTS: list[tuple[str, dict[str, Any], str]] = [
    ("t2v", {"prompt": ...}, "No prompt: pass `prompt`"),
    ("t2v", {"prompt": 3}, "`prompt` has to be a text .str., got int: 3"),
    ("t2v", {"prompt": ["a", "b"]}, "`prompt` has 2 entries, but one call makes one video"),
    ("t2v", {"prompt": ..., "prompt_embeds": torch.zeros(2, 16, 32)}, "`prompt_embeds` has 2 entries"),
    ("t2v", {"prompt_embeds": torch.zeros(1, 16, 32)}, "refuses this call: Cannot forward both"),
    ("t2v", {"num_frame": 33}, "Unknown argument 'num_frame'. Did you mean 'num_frames'?"),
    ("t2v", {"image": picture()}, "Unknown argument 'image'"),
    ("t2v", {"num_videos_per_prompt": 2}, "`num_videos_per_prompt` has to be 1, got 2"),
    ("t2v", {"output_type": "mp4"}, "`output_type` has to be one of np, pil, pt, latent, got 'mp4'"),
    ("t2v", {"generator": [seeded(0)]}, "`generator` has to be of type Generator, got list"),
    ("t2v", {"latents": torch.zeros(1)}, "'latents' cannot be used here: .* pass `generator` to fix it"),
    ("t2v", {"height": 40}, "refuses this call: `height` and `width` have to be divisible by 16"),
    ("t2v", {"overlap_history": None}, "refuses this call: `overlap_history` is required"),
    ("t2v", {"causal_block_size": 2, "ar_step": 1}, r"\[5, 5, 5\] latent frames, but .* needs multiples of 2"),
    ("i2v", {}, "`image` is missing: SkyReelsV2DiffusionForcingImageToVideoPipeline starts from it"),
    ("i2v", {"image": [picture()] * 2}, "`image` has 2 entries"),
    ("i2v", {"image": torch.zeros(2, 3, 32, 32)}, "`image` has 2 entries"),
    ("i2v", {**I2V, "image_embeds": torch.zeros(1)}, "'image_embeds' cannot be used here: .* pass `image`"),
    ("i2v", {**I2V, "num_frames": 37}, "last window has 4 latent frames, the others 5: .* Raise `num_frames` by 4"),
    ("i2v", {**I2V, "last_image": picture()}, "`last_image` works in a single window"),
    ("v2v", {}, "`video` is missing"),
    ("v2v", {"video": torch.zeros(2, 9, 3, 32, 32)}, "`video` has 2 entries"),
    ("v2v", {**V2V, "overlap_history": None}, "`overlap_history` is missing"),
    ("t2v", {"overlap_history": 17}, "`overlap_history` = 17 leaves nothing new"),
    ("v2v", {**V2V, "num_frames": 5, "base_num_frames": 5}, "leaves nothing new in a window of `base_num_frames` = 5"),
    ("v2v", {**V2V, "num_frames": 5}, "too short for `base_num_frames` = 17"),
]


@pytest.mark.parametrize(("task", "changes", "message"), ARGUMENTS, ids=lambda value: str(value)[:40])
def test_arguments(pipes: dict[str, Any], task: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        attempt(pipes[task], **changes)
    assert "prepare_latents" not in vars(pipes[task])


def test_what_the_pipeline_accepts_is_accepted(pipes: dict[str, Any]) -> None:
    attempt(pipes["t2v"], prompt=["a red circle"], generator=None, negative_prompt=None)
    attempt(pipes["t2v"], prompt="")
    attempt(pipes["t2v"], prompt=..., prompt_embeds=torch.zeros(1, 16, 32))
    attempt(pipes["v2v"], **V2V, num_frames=9, base_num_frames=9)
    attempt(pipes["i2v"], image=torch.zeros(1, 3, 32, 32))


STATES: list[tuple[Callable[[Any], Any], str]] = [
    (lambda pipe: setattr(pipe.transformer, "_cache_config", object()), "step cache.*disable_cache"),
    (lambda pipe: setattr(pipe.transformer, "_parallel_config", object()), "Context parallelism is enabled"),
    (lambda pipe: pipe.vae.enable_tiling(), "VAE tiling is enabled.*disable_tiling"),
    (lambda pipe: setattr(pipe, "vae", torch.nn.Linear(1, 1)), "`vae` is a Linear.*AutoencoderKLWan"),
    (lambda pipe: setattr(pipe, "tokenizer", None), "no tokenizer or text encoder.*prompt_embeds"),
]


@pytest.mark.parametrize(("change", "message"), STATES, ids=[message[:20] for _, message in STATES])
def test_states(change: Callable[[Any], Any], message: str) -> None:
    pipe = tiny_skyreels()
    change(pipe)
    with pytest.raises(UnsupportedPipelineError, match=message):
        attempt(pipe)


def test_other_pipelines() -> None:
    with pytest.raises(UnsupportedPipelineError, match=r"SkyReelsV2DiffusionForcingPipeline.*got WanPipeline"):
        attempt(tiny_pipeline())


@pytest.mark.parametrize("task", ["t2v", "i2v", "v2v"])
def test_load(pipes: dict[str, Any], task: str, tmp_path: Path) -> None:
    """One checkpoint serves the three tasks; the VAE stays in float32."""
    saved = deepcopy(pipes["t2v"])
    saved.register_modules(tokenizer=_tokenizer())
    saved.save_pretrained(tmp_path)
    pipe = SkyReelsAdapter(task=task).load(str(tmp_path))
    assert type(pipe) is type(pipes[task])
    assert (pipe.transformer.dtype, pipe.vae.dtype) == (torch.bfloat16, torch.float32)


def _tokenizer() -> Any:
    from transformers import AutoTokenizer

    from streamt1_tinyworld import model_dir

    return AutoTokenizer.from_pretrained(Path(model_dir()) / "tokenizer")


def plain(pipe: Any, **changes: Any) -> torch.Tensor:
    latents: torch.Tensor = pipe(**{**CALL, **changes}, generator=seeded(0)).frames
    return latents


def test_upstream_latents_do_not_work(pipes: dict[str, Any]) -> None:
    """`prepare_latents` returns a bare tensor where four values are unpacked.

    Fixed upstream: nothing to do; `latents` stays refused, since noise comes from the policy.
    """
    with pytest.raises(ValueError, match="not enough values to unpack"):
        plain(pipes["t2v"], latents=torch.zeros(1, 16, 5, 4, 4), num_frames=17)


def test_upstream_noised_conditions_take_the_global_generator(pipes: dict[str, Any]) -> None:
    """`addnoise_condition` uses `torch.randn_like`.

    Fixed upstream: drop `own_global_rng`, pass the candidates' generators into the pipeline, and let `capabilities`
    say so.
    """
    found = []
    for state in (1, 2):
        torch.manual_seed(state)
        found.append(plain(pipes["t2v"], addnoise_condition=20))
    assert not torch.equal(*found)


def test_upstream_fails_on_batches_with_a_frame_rate_embedding() -> None:
    """The embedding of ``[b]`` rates is repeated to ``[f * b, 6, d]`` and added to ``[b, f, 6, d]``.

    Fixed upstream: drop `inject_sample_info` from `capabilities`; see that rows come batch first, not frame first.
    """
    with pytest.raises(RuntimeError, match="must match the size"):
        plain(tiny_skyreels(inject_sample_info=True), prompt=["a", "b"], num_frames=17)


def test_upstream_scheduler_keeps_a_view_of_its_sample() -> None:
    """UniPC's corrector reads `last_sample`, which the pipeline overwrites in place right after the step.

    The interrupt seam runs the same statements on a tensor of its own, so it is exact either way. Fixed upstream:
    delete this test.
    """
    scheduler = UniPCMultistepScheduler(flow_shift=8.0, use_flow_sigmas=True)
    scheduler.set_timesteps(4)
    latents = torch.randn(1, 16, 5, 4, 4, generator=seeded(0))
    scheduler.step(latents[:, :, 2].clone(), scheduler.timesteps[0], latents[:, :, 2])
    assert scheduler.last_sample.untyped_storage().data_ptr() == latents.untyped_storage().data_ptr()


def test_upstream_leaves_the_block_size_behind() -> None:
    """A call with `causal_block_size` changes the transformer's config for calls without.

    Fixed upstream: drop `kept_block_size`.
    """
    pipe = tiny_skyreels()
    plain(pipe, causal_block_size=5, num_frames=17)
    assert pipe.transformer.config.num_frame_per_block == 5


def test_upstream_halves_the_images_of_a_batch(pipes: dict[str, Any]) -> None:
    """Without a last image, three candidates have three first images, of which half are used.

    We give a lone image to the whole batch. Fixed upstream: drop `single` from `_repeated` in
    `streamt1_seams.interrupt`.
    """
    with pytest.raises(RuntimeError, match="must match"):
        plain(pipes["i2v"], prompt=["a"] * 3, **I2V, num_frames=17)


def test_upstream_fails_on_lengths_we_refuse(pipes: dict[str, Any]) -> None:
    """Fixed upstream: drop the matching check in `check_windows` or `_check_video` and move the case to the matrix."""
    with pytest.raises(IndexError):
        plain(pipes["i2v"], **I2V, num_frames=37)
    with pytest.raises(RuntimeError):
        plain(pipes["i2v"], **I2V, last_image=picture())
    with pytest.raises(ZeroDivisionError):
        plain(pipes["t2v"], overlap_history=17)
    assert plain(pipes["v2v"], **V2V, num_frames=5) is None
    cut = plain(tiny_skyreels(), causal_block_size=2, num_frames=17)
    noise = torch.randn(1, 16, 5, 4, 4, generator=seeded(0))
    assert torch.equal(cut[:, :, 4:], noise[:, :, 4:])
