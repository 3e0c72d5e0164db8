"""AnyFlow-FAR beyond the contract: settings that stay exact, what is refused, and what upstream must keep doing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from diffusers import AnyFlowFARPipeline
from diffusers.models.transformers.transformer_anyflow_far import AnyFlowCausalAttnProcessor

import streamt1_plugins as streamt1
from streamt1_anyflow.adapter import AnyFlowAdapter
from streamt1_plugins.api.adapter import MemoryPlan
from streamt1_plugins.errors import InputError, UnsupportedPipelineError
from streamt1_plugins.plugins.resolve import resolve_adapter
from tests.adapters.tiny import seeded
from tests.adapters.tiny import tiny_pipeline as tiny_wan
from tests.adapters.tiny_anyflow import tiny_pipeline

if TYPE_CHECKING:
    from streamt1_anyflow.session import AnyFlowSession
    from streamt1_plugins.api.tree import Tree

CALL: dict[str, Any] = {"prompt": "a red circle", "height": 32, "width": 32, "num_frames": 25}
CALL |= {"num_inference_steps": 2, "max_sequence_length": 16, "output_type": "latent", "return_dict": False}


def clip(frames: int) -> torch.Tensor:
    return torch.rand(1, frames, 3, 32, 32, generator=seeded(frames))


def opened(pipe: Any, **changes: Any) -> AnyFlowSession:
    """A session; a change of ... takes the argument away."""
    call = {name: value for name, value in {**CALL, **changes}.items() if value is not ...}
    return AnyFlowAdapter().open(pipe, call, MemoryPlan())


def video(pipe: Any, **changes: Any) -> torch.Tensor:
    session = opened(pipe, generator=seeded(0), **changes)
    history = session.root()
    for _ in range(history.index, session.num_chunks):
        latents = session.generate(history, session.draw(history, session.generator), [session.generator])
        history = session.commit(history, latents, session.decode(history, latents)[0], "discard")
    session.close()
    found: torch.Tensor = session.finish(history)[0]
    return found


def searched(pipe: Any, **changes: Any) -> Tree:
    """The tree of a small search."""
    recipe = {"extends": "stream-t1", "rewards": {"long": {"basic": {}}}}
    wrapped = streamt1.wrap(pipe, recipe)
    wrapped(**{**CALL, **changes}, generator=seeded(0))
    return wrapped.tree


@pytest.fixture(scope="module")
def pipe() -> AnyFlowFARPipeline:
    return tiny_pipeline()


EXACT: list[dict[str, Any]] = [
    {"guidance_scale": 3.0, "negative_prompt": "blue"},
    {"video": clip(9)},
    {"video": clip(9), "guidance_scale": 3.0, "output_type": "pt"},
    {"video_latents": torch.randn(1, 1, 16, 4, 4, generator=seeded(4)), "output_type": "pt"},
    {"num_frames": 24},
    {"num_frames": 33, "chunk_partition": [1, 3, 3, 2]},
    {"sigmas": [1.0, 0.6, 0.2]},
    {"timesteps": [1000.0, 700.0, 400.0]},
    {"use_mean_velocity": False},
    {"prompt": ["a red circle"]},
    {"prompt": ..., "prompt_embeds": torch.randn(1, 16, 32, generator=seeded(5))},
    {"height": 32, "width": 48},
]


@pytest.mark.parametrize("changes", EXACT, ids=lambda changes: "-".join(map(str, changes)))
def test_stays_exact(pipe: AnyFlowFARPipeline, changes: dict[str, Any]) -> None:
    call = {name: value for name, value in {**CALL, **changes}.items() if value is not ...}
    assert torch.equal(video(pipe, **changes), pipe(**call, generator=seeded(0))[0])


def test_stays_exact_in_bfloat16() -> None:
    pipe = tiny_pipeline()
    pipe.transformer.to(torch.bfloat16)
    expected = pipe(**CALL, guidance_scale=2.0, generator=seeded(0))[0]
    found = video(pipe, guidance_scale=2.0)
    assert found.dtype == expected.dtype == torch.bfloat16
    assert torch.equal(found, expected)


def test_plain_noise_is_the_whole_videos(pipe: AnyFlowFARPipeline) -> None:
    """One draw for all chunks, so a chunk's slice is not what a generator of its own would give."""
    session = opened(pipe, generator=seeded(2))
    whole = torch.randn(1, 16, 7, 4, 4, generator=seeded(2))
    assert torch.equal(session.draw(session.root(), session.generator), whole[:, :, :1])
    assert session.draw(session.root(), seeded(2)).shape == (1, 16, 1, 4, 4)


def test_forwards_count_rows(pipe: AnyFlowFARPipeline) -> None:
    """Four chunks of two steps and three caches; with guidance everything twice."""
    for scale, rows in ((1.0, 1), (3.0, 2)):
        session = opened(pipe, guidance_scale=scale)
        history = session.root()
        for _ in range(4):
            latents = session.generate(history, session.draw(history, seeded(0)), [session.generator])
            history = session.commit(history, latents, session.decode(history, latents)[0], "discard")
        assert session.forwards == rows * (4 * 2 + 3)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_a_prediction_is_the_flow_of_a_step(pipe: AnyFlowFARPipeline, scale: float) -> None:
    """One Euler step from pure noise without guidance; with it, the prompt's share of the step."""
    session = opened(pipe, num_inference_steps=1, use_mean_velocity=False, guidance_scale=scale)
    history = session.root()
    latents = session.generate(history, session.draw(history, seeded(0)), [session.generator])
    history = session.commit(history, latents, session.decode(history, latents)[0], "discard")
    noise = session.draw(history, seeded(1))
    flow, empty = (session.predict(history, noise, 1.0, prompted=each) for each in (True, False))
    step = noise - session.generate(history, noise, [session.generator])
    if scale == 1.0:
        torch.testing.assert_close(flow, step)
    assert not torch.equal(flow, empty)


def test_a_video_is_continued_not_generated(pipe: AnyFlowFARPipeline) -> None:
    """The given chunks stand in the root: rewards see their frames, and no candidate is made for them."""
    root = opened(pipe, video=clip(9)).root()
    assert [latents.shape[2] for latents in root.latents] == [1, 2]
    assert [len(frames) for frames in root.frames] == [1, 8]
    found = [node.chunk for node in searched(pipe, video=clip(9))]
    assert found == [2] * 4 + [3] * 4


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"latents": torch.zeros(1, 16, 7, 4, 4)}, "'latents' cannot be used here: noise is drawn"),
    ({"use_kv_cache": False}, "'use_kv_cache' cannot be used here: the search forks the cache"),
    ({"num_frames": 33}, r"\[1, 2, 2, 2\] has 7 latent frames, but `num_frames` = 33 needs 9. Pass `num_frames` = 25"),
    ({"num_frames": "many"}, "`num_frames` has to be of type int, got str: 'many'"),
    ({"num_frames": True}, "`num_frames` has to be of type int, got bool"),
    ({"chunk_partition": [0, 7]}, "positive numbers that add up to 7"),
    ({"height": 30}, "divisible by 16"),
    ({"video": clip(8)}, "num_frames=8"),
    ({"video": clip(5)}, "2 latent frames, which does not end with a chunk .* Possible: 1, 3, 5"),
    ({"video": clip(25)}, "7 latent frames, which does not end with a chunk before the last"),
    ({"video_latents": torch.zeros(1, 1, 16, 2, 2)}, r"latents \[1, 1, 16, 2, 2\], expected \[1, frames, 16, 4, 4\]"),
    ({"video": clip(9), "video_latents": torch.zeros(1, 1, 16, 4, 4)}, "not both"),
    ({"prompt_embeds": torch.zeros(1, 16, 32)}, "Cannot forward both"),
    ({"callback_on_step_end_tensor_inputs": ["noise"]}, "has to be in"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=lambda case: str(case)[:50])
def test_arguments_are_refused(pipe: AnyFlowFARPipeline, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        opened(pipe, **changes)


def test_pipelines_are_refused() -> None:
    with pytest.raises(UnsupportedPipelineError, match="drives diffusers' AnyFlowFARPipeline, got WanPipeline"):
        opened(tiny_wan())
    for change, message in (
        (lambda pipe: pipe.vae.enable_tiling(), "VAE tiling is enabled"),
        (lambda pipe: setattr(pipe, "vae", torch.nn.Identity()), "`vae` is a Identity"),
        (lambda pipe: setattr(pipe.transformer, "_parallel_config", object()), "Context parallelism"),
        (lambda pipe: setattr(pipe, "tokenizer", None), "no tokenizer or text encoder"),
    ):
        pipe = tiny_pipeline()
        change(pipe)
        with pytest.raises(UnsupportedPipelineError, match=message):
            opened(pipe)


def test_options_stand_in_for_the_call(pipe: AnyFlowFARPipeline) -> None:
    adapter = AnyFlowAdapter(num_inference_steps=1, height=32, width=32, num_frames=25, fps=8.0)
    session = adapter.open(pipe, {"prompt": "a dog", "max_sequence_length": 16}, MemoryPlan())
    session.generate(session.root(), session.draw(session.root(), seeded(0)), [session.generator])
    assert (session.fps, session.forwards) == (8.0, 1)


def test_the_class_names_the_adapter(pipe: AnyFlowFARPipeline) -> None:
    assert resolve_adapter(pipe, None).name == "anyflow"


def test_loads_with_a_wide_vae(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(AnyFlowFARPipeline, "from_pretrained", lambda model, **how: asked.update(how, model=model))
    AnyFlowAdapter().load("a-folder")
    assert asked == {"model": "a-folder", "dtype": {"default": torch.bfloat16, "vae": torch.float32}}


# What upstream does today and this adapter relies on. When one of these fails after an upgrade, read its docstring.


@torch.no_grad()
def test_upstream_pads_keys_with_zeros(pipe: AnyFlowFARPipeline) -> None:
    """Without a mask the padding takes part in the softmax. We call their forward, so we pad alike.

    If this fails, upstream has masked the padding (or stopped padding): videos of the plain pipeline change, ours with
    them. Check that `test_stays_exact` holds, then turn this test round.
    """
    attention = pipe.transformer.blocks[0].attn1
    assert isinstance(attention.processor, AnyFlowCausalAttnProcessor)
    hidden = torch.randn(1, 12, 24, generator=seeded(0))

    def heads(layer: Any, norm: Any = None) -> torch.Tensor:
        x: torch.Tensor = layer(hidden) if norm is None else norm(layer(hidden))
        return x.unflatten(2, (attention.heads, -1)).transpose(1, 2)

    query, value = heads(attention.to_q, attention.norm_q), heads(attention.to_v)
    key = heads(attention.to_k, attention.norm_k)
    found = attention(hidden)

    def attended(padding: int) -> torch.Tensor:
        keys, values = (torch.nn.functional.pad(x, (0, 0, 0, padding)) for x in (key, value))
        out = torch.nn.functional.scaled_dot_product_attention(query, keys, values)
        result: torch.Tensor = attention.to_out[0](out.transpose(1, 2).flatten(2))
        return result

    torch.testing.assert_close(found, attended(116), atol=1e-5, rtol=0)
    assert float((found - attended(0)).abs().max()) > 1e-3


def test_upstream_leaves_half_a_chunk_of_context_empty(pipe: AnyFlowFARPipeline) -> None:
    """A video that ends inside a chunk: the rest of that chunk is never generated, which is why we refuse it.

    If this fails, upstream generates the rest: let `_context_chunks` accept such videos and drive them the same way.
    """
    found = pipe(**CALL, video=clip(5), generator=seeded(0))[0]
    assert found[:, :, 2].abs().max() == 0
    assert found[:, :, 1].abs().max() > 0


@torch.no_grad()
def test_upstream_computes_the_whole_cache_from_the_latents(pipe: AnyFlowFARPipeline) -> None:
    """`commit` starts from an empty cache because nothing in an earlier one is read.

    If this fails, upstream updates the cache step by step: give `encode_kv_cache` a copy of the parent's cache.
    """
    session = opened(pipe)
    history = session.root()
    for seed in range(2):
        latents = session.draw(history, seeded(seed))
        history = session.commit(history, latents, session.decode(history, latents)[0], "discard")
    dirty = {i: {name: torch.full_like(x, 9.0) for name, x in part.items()} for i, part in history.memory.items()}
    again = pipe.encode_kv_cache(
        dirty,
        {"num_cached_chunks": 1, "is_cache_step": False},
        chunk_partition=[1, 2],
        chunk_idx=1,
        output=torch.cat(history.latents, dim=2).transpose(1, 2),
        prompt_embeds=session._plan.text[-1],
        negative_prompt_embeds=None,
    )
    for layer, part in history.memory.items():
        tokens = 3 * 4  # of the three latent frames so far
        assert torch.equal(again[layer]["full_cache"][..., :tokens, :], part["full_cache"][..., :tokens, :])
