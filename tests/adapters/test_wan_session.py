"""The causal session: exact where it must be, block-causal, forkable, and gone without a trace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import torch

from streamt1_plugins.api.adapter import Decoded, History, MemoryPlan
from streamt1_wan.adapter import CausalWanAdapter
from streamt1_wan.processor import ContextAttnProcessor
from tests.adapters.tiny import seeded, tiny_pipeline, tiny_transformer

if TYPE_CHECKING:
    from diffusers import WanPipeline

    from streamt1_wan.session import CausalWanSession

CALL = {"prompt": "a red circle", "height": 32, "width": 32, "num_frames": 33, "max_sequence_length": 16}
FRAMES = Decoded(torch.zeros(1, 3, 8, 8))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def pipe() -> WanPipeline:
    return tiny_pipeline()


def opened(pipe: WanPipeline, plan: MemoryPlan | None = None, /, **changes: Any) -> CausalWanSession:
    options = {name: changes.pop(name) for name in list(changes) if name in CausalWanAdapter.__dataclass_fields__}
    for name in ("height", "width", "num_frames", "max_sequence_length", "guidance_scale"):
        changes.update({name: options.pop(name)} if name in options else {})
    return CausalWanAdapter(**options).open(pipe, {**CALL, **changes}, plan or MemoryPlan())


def rolled(session: CausalWanSession, routes: str = "discard", seed: int = 0) -> History:
    """The whole video, one candidate per chunk from its own generator."""
    history = session.root()
    for index in range(session.num_chunks):
        generator = seeded(seed + index)
        latents = session.generate(history, session.draw(history, generator), [generator])
        history = session.commit(history, latents, session.decode(history, latents)[0], routes)
    return history


@torch.no_grad()
def _text(pipe: WanPipeline) -> torch.Tensor:
    """What `WanPipeline.__call__` feeds the transformer for the prompt."""
    embeds, _ = pipe.encode_prompt("a red circle", do_classifier_free_guidance=False, max_sequence_length=16)
    return cast("torch.Tensor", embeds)


def test_an_open_session_leaves_the_plain_pipeline_exact(pipe: WanPipeline) -> None:
    call = {"prompt": "a red circle", "height": 32, "width": 32, "num_frames": 9, "num_inference_steps": 2}
    call |= {"max_sequence_length": 16, "output_type": "pt"}
    before = pipe(**call, generator=seeded(1)).frames
    session = opened(pipe)
    session.generate(session.root(), session.draw(session.root(), seeded(0)), [seeded(0)])
    assert not isinstance(pipe.transformer.blocks[0].attn1.processor, ContextAttnProcessor)
    during = pipe(**call, generator=seeded(1)).frames
    session.close()
    assert torch.equal(before, during)


def test_empty_history_equals_the_stock_transformer(pipe: WanPipeline) -> None:
    session = opened(pipe, timesteps=(1000,))
    noise = session.draw(session.root(), seeded(3))
    ours = session.generate(session.root(), noise, [seeded(3)])
    session.close()
    with torch.no_grad():
        flow = pipe.transformer(noise, torch.tensor([1000.0]), _text(pipe), return_dict=False)[0]
    assert torch.equal(ours, (noise.double() - flow.double()).float())


def test_cached_chunks_equal_one_block_causal_forward(pipe: WanPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clean chunks through the cache against all of them at once under a block-causal mask, one timestep per token."""
    session = opened(pipe, MemoryPlan(window_chunks=9), timesteps=(600,), context_noise=0, shift=1.0)
    history, chunks, flows = session.root(), [], []
    for index in range(session.num_chunks):
        noisy = session.draw(history, seeded(index))
        x0 = session.generate(history, noisy, [seeded(0)])
        flows.append((noisy - x0) / 0.6)
        chunks.append(noisy)
        history = session.commit(history, noisy, FRAMES, "discard")
    session.close()
    for index in range(session.num_chunks):
        full = _block_causal_flow(pipe, chunks, index, monkeypatch)
        torch.testing.assert_close(flows[index], full, atol=1e-5, rtol=0)


def _block_causal_flow(
    pipe: WanPipeline, chunks: list[torch.Tensor], index: int, monkeypatch: pytest.MonkeyPatch
) -> torch.Tensor:
    """The flow of chunk `index` at timestep 600 while the chunks before it are clean (timestep 0)."""
    video = torch.cat(chunks[: index + 1], dim=2)
    tokens = 3 * 2 * 2
    chunk_of = torch.arange(tokens * (index + 1)) // tokens
    mask = (chunk_of[None, :] <= chunk_of[:, None])[None, None]
    for block in pipe.transformer.blocks:
        inner = block.attn1.processor
        monkeypatch.setattr(block.attn1, "processor", lambda a, h, e, m, r, inner=inner: inner(a, h, e, mask, r))
    timestep = torch.where(chunk_of == index, 600.0, 0.0)[None]
    with torch.no_grad():
        flow = pipe.transformer(video, timestep, _text(pipe), return_dict=False)[0]
    monkeypatch.undo()
    return flow[:, :, -3:]


def test_forks_do_not_touch_each_other(pipe: WanPipeline) -> None:
    session = opened(pipe, MemoryPlan(window_chunks=1, ema_decay=0.5))
    parent = session.root()
    for index in range(2):
        parent = session.commit(parent, session.draw(parent, seeded(index)), FRAMES, "ema")
    before = [tensor.clone() for block in parent.memory.blocks for tensor in (*block.keys, *block.values)]
    left = session.generate(parent, session.draw(parent, seeded(5)), [seeded(6)])
    fork = session.commit(parent, session.draw(parent, seeded(7)), FRAMES, "append")
    session.generate(fork, session.draw(fork, seeded(8)), [seeded(9)])
    again = session.generate(parent, session.draw(parent, seeded(5)), [seeded(6)])
    after = [tensor for block in parent.memory.blocks for tensor in (*block.keys, *block.values)]
    session.close()
    assert torch.equal(left, again)
    assert all(map(torch.equal, before, after))


def test_generate_and_decode_commit_nothing(pipe: WanPipeline) -> None:
    session = opened(pipe)
    root = session.root()
    session.decode(root, session.generate(root, session.draw(root, seeded(0)), [seeded(0)]))
    session.close()
    assert root == session.root() or (root.index, root.latents, root.memory.blocks) == (0, (), ())


@pytest.mark.parametrize("shared_prefix", [False, True])
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_batched_candidates_equal_single_ones(pipe: WanPipeline, guidance_scale: float, shared_prefix: bool) -> None:
    session = opened(pipe, guidance_scale=guidance_scale, shared_prefix=shared_prefix)
    parent = session.commit(session.root(), session.draw(session.root(), seeded(0)), FRAMES, "discard")
    single, noises = [], []
    for seed in range(3):
        generator = seeded(seed)
        noises.append(session.draw(parent, generator))
        single.append(session.generate(parent, noises[-1], [generator]))
    generators = [seeded(seed) for seed in range(3)]
    for generator in generators:
        session.draw(parent, generator)
    batched = session.generate(parent, torch.cat(noises), generators)
    frames = [decoded.frames for decoded in session.decode(session.root(), batched)]
    session.close()
    torch.testing.assert_close(batched, torch.cat(single), atol=1e-5, rtol=0)
    for index, latents in enumerate(single):
        torch.testing.assert_close(frames[index], session.decode(session.root(), latents)[0].frames, atol=1e-5, rtol=0)


def test_guidance_is_two_single_condition_branches(pipe: WanPipeline) -> None:
    """Guided flow from one session against the formula on two sessions, one per text, fed the same chunks."""

    def flows(prompt: str, **changes: Any) -> list[torch.Tensor]:
        session = opened(pipe, prompt=prompt, timesteps=(1000,), num_frames=21, **changes)
        first = session.draw(session.root(), seeded(0))
        history = session.commit(session.root(), first, FRAMES, "discard")
        noise = session.draw(history, seeded(1))
        found = [noise - session.generate(state, noise, [session.generator]) for state in (session.root(), history)]
        session.close()
        return found

    guided = flows("a red circle", guidance_scale=4.0, negative_prompt="blue")
    for ours, cond, uncond in zip(guided, flows("a red circle"), flows("blue"), strict=True):
        torch.testing.assert_close(ours, uncond + 4.0 * (cond - uncond), atol=1e-4, rtol=0)


def test_plain_stream_draws_from_the_calls_generator(pipe: WanPipeline) -> None:
    """Per chunk: the initial noise, then one draw per step but the last, all as [frames, channels, h, w]."""
    session = opened(pipe, generator=seeded(4), num_frames=9)
    ours = session.generate(session.root(), session.draw(session.root(), session.generator), [session.generator])
    other = seeded(4)
    theirs = session.generate(session.root(), session.draw(session.root(), other), [other])
    first = torch.randn(1, 3, 16, 4, 4, generator=seeded(4)).transpose(1, 2)
    assert torch.equal(session.draw(session.root(), seeded(4)), first)
    session.close()
    assert torch.equal(ours, theirs)


def test_carried_frames_equal_the_whole_decode(pipe: WanPipeline) -> None:
    session = opened(pipe)
    history = rolled(session)
    video = session.finish(history).frames
    cold = session.decode(session.root(), torch.cat(history.latents, dim=2))[0].frames
    session.close()
    latents = torch.cat(history.latents, dim=2)
    mean = torch.tensor(pipe.vae.config.latents_mean).view(1, -1, 1, 1, 1)
    inverse = 1.0 / torch.tensor(pipe.vae.config.latents_std).view(1, -1, 1, 1, 1)
    with torch.no_grad():
        whole = pipe.vae.decode(latents / inverse + mean, return_dict=False)[0]
    assert [len(frames) for frames in history.frames] == [9, 12, 12]
    assert np.array_equal(video, pipe.video_processor.postprocess_video(whole, "np"))
    assert torch.equal(cold, torch.cat(history.frames))


def test_forward_count(pipe: WanPipeline) -> None:
    """Four steps per chunk and a clean pass for every chunk but the last."""
    session = opened(pipe)
    rolled(session)
    session.close()
    assert session.forwards == 3 * 4 + 2


def test_steps_per_chunk(pipe: WanPipeline) -> None:
    session = opened(pipe, steps=(5, 2))
    rolled(session)
    session.close()
    assert session.forwards == 5 + 2 + 2 + 2


def test_close_restores_everything(pipe: WanPipeline) -> None:
    processors = [block.attn1.processor for block in pipe.transformer.blocks]
    keys = list(pipe.transformer.state_dict())
    session = opened(pipe)
    session.close()
    session.close()
    assert [block.attn1.processor for block in pipe.transformer.blocks] == processors
    assert list(pipe.transformer.state_dict()) == keys
    with pytest.raises(RuntimeError, match="closed"):
        session.generate(session.root(), session.draw(session.root(), seeded(0)), [session.generator])


def test_failed_open_leaves_the_pipeline_alone(pipe: WanPipeline) -> None:
    processors = [block.attn1.processor for block in pipe.transformer.blocks]
    pipe.transformer.blocks[1].attn1.processor = object()
    with pytest.raises(TypeError, match="object"):
        opened(pipe)
    assert pipe.transformer.blocks[0].attn1.processor is processors[0]


@pytest.mark.parametrize("output_type", ["np", "pt", "pil", "latent"])
def test_output_types(pipe: WanPipeline, output_type: str) -> None:
    session = opened(pipe, output_type=output_type, return_dict=False, num_frames=9)
    (video,) = session.finish(rolled(session))
    session.close()
    if output_type == "pil":
        assert [image.size for image in video[0]] == [(32, 32)] * 9
    else:
        shapes = {"np": (1, 9, 32, 32, 3), "pt": (1, 9, 3, 32, 32), "latent": (1, 16, 3, 4, 4)}
        assert tuple(video.shape) == shapes[output_type]


def test_bfloat16_runs_and_keeps_moving_averages_wide() -> None:
    pipe = tiny_pipeline(transformer=tiny_transformer().to(torch.bfloat16))
    session = opened(pipe, MemoryPlan(window_chunks=1), num_frames=33)
    history = rolled(session, "ema")
    session.close()
    assert history.latents[0].dtype == torch.bfloat16
    assert history.memory.sinks[0].keys[0].dtype == torch.float32
    assert torch.isfinite(torch.cat(history.frames)).all()


def test_official_rms_norm_differs_only_in_rounding() -> None:
    wide, narrow = tiny_pipeline(), tiny_pipeline(transformer=tiny_transformer().to(torch.bfloat16))
    results = {}
    for name, pipe in (("wide", wide), ("narrow", narrow)):
        for order in ("stock", "official"):
            session = opened(pipe, rms_norm=order, num_frames=9)
            noise = session.draw(session.root(), seeded(0))
            results[name, order] = session.generate(session.root(), noise, [seeded(0)])
            session.close()
    torch.testing.assert_close(results["wide", "stock"], results["wide", "official"], atol=1e-5, rtol=0)
    assert not torch.equal(results["narrow", "stock"], results["narrow", "official"])


def test_survivors_do_not_keep_the_batch_alive(pipe: WanPipeline) -> None:
    session = opened(pipe)
    root = session.root()
    noise = torch.cat([session.draw(root, seeded(seed)) for seed in range(4)])
    decoded = session.decode(root, noise)
    history = session.commit(root, noise[1:2], decoded[1], "discard")
    session.close()
    tensors = [history.latents[0], history.frames[0], *(x for x in history.decoder if isinstance(x, torch.Tensor))]
    assert all(x.untyped_storage().nbytes() == x.numel() * x.element_size() for x in tensors)
    assert torch.equal(history.frames[0], decoded[1].frames)


def test_fused_projections_and_backend_setting(pipe: WanPipeline) -> None:
    session = opened(pipe, num_frames=9)
    plain = rolled(session).latents[0]
    session.close()
    pipe.transformer.set_attention_backend("native")
    pipe.transformer.fuse_qkv_projections()
    session = opened(pipe, num_frames=9)
    assert pipe.transformer.blocks[0].attn1.processor._attention_backend is not None
    fused = rolled(session).latents[0]
    session.close()
    torch.testing.assert_close(plain, fused, atol=1e-5, rtol=0)
