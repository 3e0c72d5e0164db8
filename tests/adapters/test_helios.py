"""Helios beyond the contract: settings that stay exact, what is refused, and what upstream must keep doing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, HeliosPipeline, HeliosPyramidPipeline
from diffusers.callbacks import PipelineCallback
from PIL import Image

import streamt1_plugins as streamt1
from streamt1_helios.adapter import HeliosAdapter
from streamt1_plugins.api.adapter import MemoryPlan
from streamt1_plugins.errors import InputError, RecipeError, UnsupportedPipelineError
from streamt1_plugins.plugins.resolve import resolve_adapter
from tests.adapters.tiny import seeded
from tests.adapters.tiny import tiny_pipeline as tiny_wan
from tests.adapters.tiny_helios import tiny_pipeline, tiny_pyramid

if TYPE_CHECKING:
    from streamt1_helios.session import HeliosSession
    from streamt1_plugins.api.adapter import History

CALL: dict[str, Any] = {"prompt": "a red circle", "height": 32, "width": 32, "num_frames": 66, "guidance_scale": 1.0}
CALL |= {"max_sequence_length": 16, "output_type": "latent", "return_dict": False}
STEPS = {"num_inference_steps": 2}
PYRAMID = {"height": 64, "width": 64, "pyramid_num_inference_steps_list": [1, 1, 1]}


def picture(size: int = 32) -> Image.Image:
    return Image.linear_gradient("L").resize((size, size)).convert("RGB")


def clip(frames: int, size: int = 32) -> torch.Tensor:
    return torch.rand(1, frames, 3, size, size, generator=seeded(frames))


def opened(pipe: Any, **changes: Any) -> HeliosSession:
    """A session; a change of ... takes the argument away."""
    call = {name: value for name, value in {**CALL, **changes}.items() if value is not ...}
    return HeliosAdapter().open(pipe, call, MemoryPlan())


def rolled(session: HeliosSession, seed: int | None = None) -> History:
    history = session.root()
    for _ in range(session.num_chunks):
        generator = session.generator if seed is None else seeded(seed)
        latents = session.generate(history, session.draw(history, generator), [generator])
        history = session.commit(history, latents, session.decode(history, latents)[0], "discard")
    session.close()
    return history


def check_exact(pipe: Any, **changes: Any) -> None:
    """Latents, and the caller's generator afterwards."""
    ours, theirs = seeded(0), seeded(0)
    session = opened(pipe, generator=ours, **changes)
    found = session.finish(rolled(session))[0]
    call = {name: value for name, value in {**CALL, **changes}.items() if value is not ...}
    assert torch.equal(found, pipe(**call, generator=theirs)[0])
    assert torch.equal(ours.get_state(), theirs.get_state())


@pytest.fixture(scope="module")
def pipe() -> HeliosPipeline:
    return tiny_pipeline()


EXACT: list[dict[str, Any]] = [
    {"guidance_scale": 3.0, "negative_prompt": "blue"},
    {"num_frames": 40},
    {"num_frames": 1},
    {"num_frames": 99, "is_skip_first_chunk": True},
    {"num_frames": 99, "num_latent_frames_per_chunk": 5},
    {"num_frames": 99, "history_sizes": [2, 4, 1]},
    {"image": picture(), "add_noise_to_image_latents": False},
    {"image": picture(), "image_noise_sigma_min": 0.3, "image_noise_sigma_max": 0.4, "guidance_scale": 2.0},
    {"image": picture(), "num_frames": 99, "is_skip_first_chunk": True},
    {"video": clip(40)},
    {"video": clip(99), "video_noise_sigma_max": 0.5},
    {"video": clip(33), "add_noise_to_video_latents": False},
    {"sigmas": np.array([0.9, 0.4])},
    {"prompt": ["a red circle"]},
    {"prompt": ..., "prompt_embeds": torch.randn(1, 16, 32, generator=seeded(5))},
    {"height": 32, "width": 48},
]


@pytest.mark.parametrize("changes", EXACT, ids=lambda changes: "-".join(map(str, changes)))
def test_stays_exact(pipe: HeliosPipeline, changes: dict[str, Any]) -> None:
    check_exact(pipe, **STEPS, **changes)


PYRAMIDS: list[dict[str, Any]] = [
    {"guidance_scale": 3.0, "negative_prompt": "blue"},
    {"video": clip(40, 64)},
    {"image": picture(64), "is_amplify_first_chunk": True},
]


@pytest.mark.parametrize("distilled", [False, True], ids=["plain", "distilled"])
@pytest.mark.parametrize("changes", PYRAMIDS, ids=lambda changes: "-".join(map(str, changes)))
def test_a_pyramid_stays_exact(changes: dict[str, Any], distilled: bool) -> None:
    if changes.get("is_amplify_first_chunk") and not distilled:
        pytest.skip("only a distilled pyramid amplifies its first chunk")
    check_exact(tiny_pyramid(distilled=distilled), **PYRAMID, **changes)


def test_stays_exact_in_bfloat16() -> None:
    pipe = tiny_pipeline()
    pipe.transformer.to(torch.bfloat16)
    check_exact(pipe, **STEPS, guidance_scale=2.0)


def test_forwards_count_rows(pipe: HeliosPipeline) -> None:
    for scale, conditions in ((1.0, 1), (3.0, 2)):
        session = opened(pipe, **STEPS, guidance_scale=scale)
        root = session.root()
        session.generate(
            root, torch.cat([session.draw(root, seeded(seed)) for seed in range(3)]), [session.generator] * 3
        )
        assert session.forwards == 3 * 2 * conditions


@pytest.mark.parametrize("changes", [{}, {"image": picture(), "num_frames": 99, "add_noise_to_image_latents": False}])
def test_a_prediction_is_the_flow_of_a_step(pipe: HeliosPipeline, changes: dict[str, Any]) -> None:
    """One Euler step; what the pipeline shows to a host stays as its last call left it."""
    session = opened(pipe, num_inference_steps=1, sigmas=np.array([0.999]), guidance_scale=1.0, **changes)
    history = session.root()
    for seed in range(2):
        noise = session.draw(history, seeded(seed))
        latents = session.generate(history, noise, [session.generator])
        before = vars(pipe).copy()
        flow = session.predict(history, noise, float(pipe.scheduler.sigmas[0]))
        assert vars(pipe) == before
        torch.testing.assert_close(noise - float(pipe.scheduler.sigmas[0]) * flow, latents, atol=1e-4, rtol=1e-4)
        history = session.commit(history, latents, session.decode(history, latents)[0], "discard")


def test_a_pyramid_cannot_predict() -> None:
    """Its stages begin with enlarged latents; the error of a recipe has the reason, and adapters that can."""
    wrapped = streamt1.wrap(tiny_pyramid(), {"extends": "stream-t1", "rewards": {"long": {"self": {}}}})
    with pytest.raises(RecipeError, match=r"'helios' cannot .* HeliosPyramidPipeline .*Adapters that can: anyflow"):
        wrapped(**{**CALL, "height": 64, "width": 64}, generator=seeded(0))


def test_only_decode_decodes(pipe: HeliosPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline decodes inside its chunk loop; for candidates that would be done twice."""
    calls: list[int] = []
    decode = pipe.vae.decode
    monkeypatch.setattr(pipe.vae, "decode", lambda *args, **kwargs: calls.append(1) or decode(*args, **kwargs))
    session = opened(pipe, **STEPS)
    latents = session.generate(session.root(), session.draw(session.root(), seeded(0)), [session.generator])
    assert calls == []
    session.decode(session.root(), latents)
    assert calls == [1]


def test_offloads_once(pipe: HeliosPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(pipe, "maybe_free_model_hooks", lambda: calls.append(1))
    rolled(opened(pipe, **STEPS))
    assert calls == [1]


def test_a_long_video_is_decoded_by_chunks(pipe: HeliosPipeline) -> None:
    session = opened(pipe, **STEPS)
    history = rolled(session, seed=1)
    whole = session.decode(session.root(), torch.cat(history.latents, dim=2))[0].frames
    assert torch.equal(whole, torch.cat(history.frames))


def test_a_callback_object_names_its_own_tensors(pipe: HeliosPipeline) -> None:
    seen: list[tuple[str, ...]] = []

    class Watcher(PipelineCallback):
        @property
        def tensor_inputs(self) -> list[str]:
            return ["latents", "prompt_embeds"]

        def callback_fn(self, pipeline: Any, step_index: int, timestep: int, callback_kwargs: dict[str, Any]) -> Any:
            seen.append(tuple(callback_kwargs))
            return callback_kwargs

    rolled(opened(pipe, **STEPS, callback_on_step_end=Watcher(cutoff_step_ratio=None, cutoff_step_index=1)))
    assert seen == [("latents", "prompt_embeds")] * 4


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"latents": torch.zeros(1)}, "'latents' cannot be used here: noise is drawn"),
    ({"image_latents": torch.zeros(1)}, "'image_latents' cannot be used here: pass `image` or `video`"),
    ({"video_latents": torch.zeros(1)}, "'video_latents' cannot be used here"),
    ({"image": picture(), "video": clip(40)}, "cannot be provided simultaneously"),
    ({"video": clip(20)}, "Video must have at least 33 frames"),
    ({"keep_first_frame": False}, "`keep_first_frame` = False fails in this version of diffusers"),
    ({"height": 30}, "divisible by 16"),
    ({"num_frames": 33.5}, "`num_frames` has to be of type int, got float"),
    ({"guidance_scale": "3"}, "`guidance_scale` has to be of type float, got str"),
    ({"is_skip_first_chunk": 1}, "`is_skip_first_chunk` has to be of type bool, got int"),
    ({"pyramid_num_inference_steps_list": [1]}, "Unknown argument 'pyramid_num_inference_steps_list'"),
    ({"prompt_embeds": torch.zeros(1, 16, 32)}, "Cannot forward both"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=lambda case: str(case)[:50])
def test_arguments_are_refused(pipe: HeliosPipeline, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        opened(pipe, **changes)


def test_pipelines_are_refused() -> None:
    with pytest.raises(UnsupportedPipelineError, match="HeliosPyramidPipeline, got WanPipeline"):
        opened(tiny_wan())
    for change, message in (
        (lambda pipe: setattr(pipe.transformer, "_cache_config", object()), "step cache is enabled"),
        (lambda pipe: setattr(pipe, "vae", torch.nn.Identity()), "`vae` is a Identity"),
        (lambda pipe: setattr(pipe, "tokenizer", None), "no tokenizer or text encoder"),
    ):
        pipe = tiny_pipeline()
        change(pipe)
        with pytest.raises(UnsupportedPipelineError, match=message):
            opened(pipe)


def test_options_stand_in_for_the_call(pipe: HeliosPipeline) -> None:
    adapter = HeliosAdapter(num_inference_steps=1, height=32, width=32, num_frames=66, guidance_scale=1.0, fps=8.0)
    session = adapter.open(pipe, {"prompt": "a dog", "max_sequence_length": 16}, MemoryPlan())
    rolled(session)
    assert (session.fps, session.num_chunks, session.forwards) == (8.0, 2, 2)


def test_options_of_the_other_pipeline_are_named(pipe: HeliosPipeline) -> None:
    with pytest.raises(InputError, match="pyramid_num_inference_steps_list"):
        HeliosAdapter(pyramid_num_inference_steps_list=(1, 1, 1)).open(pipe, CALL, MemoryPlan())


def test_the_class_names_the_adapter(pipe: HeliosPipeline) -> None:
    assert {resolve_adapter(each, None).name for each in (pipe, tiny_pyramid())} == {"helios"}


def test_loads_with_a_wide_vae(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", lambda model, **how: asked.update(how, model=model))
    HeliosAdapter(dtype="float16").load("a-folder")
    assert asked == {"model": "a-folder", "dtype": {"default": torch.float16, "vae": torch.float32}}


# What upstream does today and this adapter relies on. When one of these fails after an upgrade, read its docstring.


def block_noise(pipe: HeliosPyramidPipeline, generator: Any) -> torch.Tensor:
    noise: torch.Tensor = pipe.sample_block_noise(2, 1, 1, 4, 4, (1, 2, 2), torch.device("cpu"), generator)
    return noise


def test_upstream_draws_block_noise_from_the_first_generator() -> None:
    """Why the pyramid declares `max_batch` = 1: rows of a batch do not have noise of their own.

    If this fails, upstream draws every row from its own generator: pass `generators` on in `HeliosSession.generate`,
    declare `max_batch` = None, and let the contract's batch test decide.
    """
    pipe, generators = tiny_pyramid(), [seeded(1), seeded(2)]
    untouched = generators[1].get_state()
    found = block_noise(pipe, generators)
    assert torch.equal(generators[1].get_state(), untouched)
    assert torch.equal(found, block_noise(pipe, seeded(1)))


def test_upstreams_default_gamma_makes_a_singular_covariance() -> None:
    """Why the tiny pyramids take a gamma of 0.25. On CPU the default 1/3 has no Cholesky factor in float32.

    If this fails, upstream has fixed its block noise: give the tiny pyramids the default gamma.
    """
    with pytest.raises(torch.linalg.LinAlgError):
        block_noise(tiny_pyramid(gamma=1 / 3), seeded(0))


def test_upstreams_cfg_zero_star_needs_contiguous_predictions() -> None:
    """`is_cfg_zero_star` fails in the pipeline itself, so it is not tested here.

    If this fails, upstream works: add a pyramid with `is_cfg_zero_star` to `test_contract_helios`.
    """
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        tiny_pyramid(is_cfg_zero_star=True)(**{**CALL, **PYRAMID, "guidance_scale": 3.0}, generator=seeded(0))


def test_upstream_cannot_drop_the_first_frame(pipe: HeliosPipeline) -> None:
    """Why `keep_first_frame` = False is refused.

    If this fails, upstream works: remove `_check_history` and let `HeliosSession._prefix` answer None.
    """
    with pytest.raises(RuntimeError, match="split_with_sizes"):
        pipe(**CALL, **STEPS, keep_first_frame=False, generator=seeded(0))


def test_upstream_prepares_latents_once_per_chunk(pipe: HeliosPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """The seam: one call of `prepare_latents` per chunk is all the noise a plain chunk begins with.

    If this fails, look where the pipeline draws its noise now and shadow that in `HeliosSession.generate`.
    """
    for each, steps in ((pipe, STEPS), (tiny_pyramid(), PYRAMID)):
        shapes: list[tuple[int, ...]] = []
        original = each.prepare_latents

        def noted(*args: Any, original: Any = original, shapes: Any = shapes, **kwargs: Any) -> torch.Tensor:
            noise: torch.Tensor = original(*args, **kwargs)
            shapes.append(tuple(noise.shape))
            return noise

        monkeypatch.setattr(each, "prepare_latents", noted)
        each(**{**CALL, **steps}, generator=seeded(0))
        size = 4 if each is pipe else 8
        assert shapes == [(1, 16, 9, size, size)] * 2
