"""SkyReels-V2 through the interrupt seam: exact where the plain pipeline is, forkable, and gone without a trace."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.api.adapter import History, MemoryPlan
from streamt1_skyreels.adapter import SkyReelsAdapter
from streamt1_skyreels.session import SkyReelsSession
from tests.adapters.tiny import seeded
from tests.adapters.tiny_skyreels import picture, tiny_skyreels

CALL: dict[str, Any] = {"prompt": "a red circle", "height": 32, "width": 32, "max_sequence_length": 16}
CALL |= {"num_inference_steps": 2, "guidance_scale": 3.0}
LONG = {"num_frames": 41, "base_num_frames": 17, "overlap_history": 5}
"""Three windows of 5 latent frames, 2 of them shared."""
SHORT_END = {**LONG, "num_frames": 37}
"""The last window has 4 latent frames."""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def pipes() -> dict[str, Any]:
    return {task: tiny_skyreels(task) for task in ("t2v", "i2v", "v2v")}


def opened(pipe: Any, **changes: Any) -> SkyReelsSession:
    return SkyReelsAdapter().open(pipe, {**CALL, **LONG, **changes}, MemoryPlan())


def rolled(session: SkyReelsSession, seed: int | None = None) -> History:
    """The whole video, one candidate per chunk: the plain stream, or one generator per chunk."""
    history = session.root()
    for index in range(session.num_chunks):
        generator = session.generator if seed is None else seeded(seed + index)
        latents = session.generate(history, session.draw(history, generator), [generator])
        history = session.commit(history, latents, session.decode(history, latents)[0], "discard")
    return history


def ours(pipe: Any, **changes: Any) -> tuple[Any, torch.Tensor]:
    """What a session makes of the plain stream, and the state the caller's generator is left in."""
    generator = seeded(3)
    session = opened(pipe, generator=generator, **changes)
    result = session.finish(rolled(session))
    session.close()
    return result, generator.get_state()


def theirs(pipe: Any, **changes: Any) -> tuple[Any, torch.Tensor]:
    """The plain pipeline, its transformer's config put back afterwards (upstream leaves `causal_block_size` there)."""
    generator, before = seeded(3), pipe.transformer.config.num_frame_per_block
    result = pipe(**{**CALL, **LONG, **changes}, generator=generator)
    pipe.transformer.register_to_config(num_frame_per_block=before)
    return result, generator.get_state()


ASYNC = {"ar_step": 1, "causal_block_size": 2, "base_num_frames": 13, "num_frames": 37}
I2V, V2V = {"image": picture()}, {"video": [picture(i) for i in range(9)]}
MATRIX: dict[str, tuple[str, dict[str, Any]]] = {
    "t2v": ("t2v", {}),
    "t2v, one window": ("t2v", {"num_frames": 17}),
    "t2v, short last window": ("t2v", SHORT_END),
    "t2v, no guidance": ("t2v", {"guidance_scale": 1.0}),
    "t2v, negative prompt": ("t2v", {"negative_prompt": "blue"}),
    "t2v, ar_step": ("t2v", {"ar_step": 1}),
    "t2v, ar_step and blocks": ("t2v", ASYNC),
    "t2v, prefix cut to whole blocks": ("t2v", {**ASYNC, "num_frames": 29, "overlap_history": 9}),
    "t2v, noised condition": ("t2v", {"addnoise_condition": 20}),
    "t2v, other fps": ("t2v", {"fps": 16}),
    "t2v, length is rounded": ("t2v", {"num_frames": 42}),
    "i2v": ("i2v", I2V),
    "i2v, one window, last image": ("i2v", {**I2V, "num_frames": 17, "last_image": picture(5)}),
    "i2v, windows, last image": ("i2v", {**I2V, "num_frames": 33, "overlap_history": 1, "last_image": picture(5)}),
    "i2v, ar_step": ("i2v", {**I2V, "ar_step": 1}),
    "i2v, noised condition": ("i2v", {**I2V, "addnoise_condition": 20}),
    "v2v": ("v2v", V2V),
    "v2v, short last window": ("v2v", {**V2V, **SHORT_END}),
    "v2v, ar_step and blocks": ("v2v", {**V2V, **ASYNC}),
}


@pytest.mark.parametrize("case", MATRIX)
def test_exact(pipes: dict[str, Any], case: str) -> None:
    """Latents, frames, the caller's generator and torch's global one: all as the plain pipeline leaves them."""
    task, changes = MATRIX[case]
    for output_type in ("latent", "pt"):
        torch.manual_seed(9)
        expected, state = theirs(pipes[task], output_type=output_type, **changes)
        global_state = torch.get_rng_state()
        torch.manual_seed(9)
        found, our_state = ours(pipes[task], output_type=output_type, **changes)
        assert torch.equal(found.frames, expected.frames), output_type
        assert torch.equal(state, our_state)
        assert torch.equal(global_state, torch.get_rng_state())


def test_frame_rate_embeddings() -> None:
    """Checkpoints with a frame-rate embedding; they take one candidate at a time, since upstream fails on batches."""
    pipe = tiny_skyreels(inject_sample_info=True)
    expected, found = theirs(pipe, output_type="latent", fps=16)[0], ours(pipe, output_type="latent", fps=16)[0]
    assert torch.equal(found.frames, expected.frames)
    session = opened(pipe, guidance_scale=1.0)
    noise = torch.cat([session.draw(session.root(), seeded(seed)) for seed in range(2)])
    assert session.generate(session.root(), noise, [seeded(0), seeded(1)]).shape == noise.shape
    session.close()
    assert session.capabilities.max_batch == 1


def _half(pipe: Any) -> None:
    pipe.transformer.to(torch.bfloat16)


def _offloaded(pipe: Any) -> None:
    pipe.enable_model_cpu_offload(device="cpu")


def _compiled(pipe: Any) -> None:
    pipe.transformer = torch.compile(pipe.transformer, backend="eager")


@pytest.mark.parametrize("change", [_half, _offloaded, _compiled])
def test_exact_in_other_states(change: Any) -> None:
    pipe = tiny_skyreels("i2v")
    change(pipe)
    expected = pipe(**CALL, **LONG, **I2V, output_type="pt", generator=seeded(3)).frames
    assert torch.equal(ours(pipe, output_type="pt", **I2V)[0].frames, expected)


def test_a_host_that_interrupts_stops_the_rest(pipes: dict[str, Any]) -> None:
    """As in a plain run: the steps that are left are skipped, in this window and in later ones."""

    def stop(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        seen.append(step)
        pipe._interrupt = len(seen) == 3
        return {}

    seen: list[int] = []
    expected, _ = theirs(pipes["t2v"], output_type="latent", callback_on_step_end=stop)
    assert seen == [0, 1, 0]
    seen.clear()
    found, _ = ours(pipes["t2v"], output_type="latent", callback_on_step_end=stop)
    assert seen == [0, 1, 0]
    assert torch.equal(found.frames, expected.frames)


def test_encoders_run_once(pipes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    pipe = pipes["v2v"]
    text, encode = pipe.text_encoder.forward, pipe.vae.encode
    monkeypatch.setattr(pipe.text_encoder, "forward", lambda *a, **k: calls.append("text") or text(*a, **k))
    monkeypatch.setattr(pipe.vae, "encode", lambda *a, **k: calls.append("vae") or encode(*a, **k))
    ours(pipe, **V2V)
    assert sorted(calls) == ["text", "text", "vae"]  # the prompt and the negative prompt


def test_forwards_count_every_candidate_and_branch(pipes: dict[str, Any]) -> None:
    session = opened(pipes["t2v"])
    assert session.forwards == 0
    noise = torch.cat([session.draw(session.root(), seeded(seed)) for seed in range(3)])
    session.generate(session.root(), noise, [seeded(seed) for seed in range(3)])
    session.close()
    assert session.forwards == 3 * 2 * 2  # candidates, steps, branches of guidance


def test_the_overlap_is_not_new(pipes: dict[str, Any]) -> None:
    session = opened(pipes["t2v"], **SHORT_END)
    history = rolled(session, seed=0)
    noise = [session.draw(History(index=index), seeded(0)).shape[2] for index in range(3)]
    session.close()
    assert noise == [5, 5, 4]
    assert [latents.shape[2] for latents in history.latents] == [5, 3, 2]
    assert [len(frames) for frames in history.frames] == [17, 12, 8]


def test_images_of_a_batch(pipes: dict[str, Any]) -> None:
    """First and last images go to every candidate of a batch."""
    session = opened(pipes["i2v"], **I2V, num_frames=17, last_image=picture(5))
    noises = [session.draw(session.root(), seeded(seed)) for seed in range(3)]
    single = torch.cat([session.generate(session.root(), noise, [session.generator]) for noise in noises])
    batched = session.generate(session.root(), torch.cat(noises), [session.generator] * 3)
    session.close()
    torch.testing.assert_close(batched, single, rtol=1e-4, atol=1e-4 * float(single.abs().max()))


def test_noised_candidates_depend_on_their_seed_alone(pipes: dict[str, Any]) -> None:
    session = opened(pipes["i2v"], **I2V, addnoise_condition=20)
    found = []
    for state in (1, 2):
        torch.manual_seed(state)
        generators = [seeded(4), seeded(5)]
        noise = torch.cat([session.draw(session.root(), generator) for generator in generators])
        found.append(session.generate(session.root(), noise, generators))
    alone = session.generate(session.root(), session.draw(session.root(), generator := seeded(5)), [generator])
    session.close()
    assert (session.capabilities.max_batch, session.capabilities.global_rng) == (1, True)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0][1:], alone)


def test_close_leaves_nothing(pipes: dict[str, Any]) -> None:
    """Not even the block size that upstream would leave in the transformer's config."""
    pipe = pipes["t2v"]
    session = opened(pipe, **ASYNC)
    latents = session.generate(session.root(), session.draw(session.root(), session.generator), [session.generator])
    session.close()
    session.close()
    assert pipe.transformer.config.num_frame_per_block == 1
    assert not {"prepare_latents", "encode_prompt", "progress_bar", "maybe_free_model_hooks"} & set(vars(pipe))
    assert not pipe.transformer._forward_pre_hooks
    assert not pipe.interrupt
    with pytest.raises(RuntimeError, match="closed"):
        session.generate(session.root(), latents, [session.generator])


def test_search_over_windows(pipes: dict[str, Any]) -> None:
    """Equal windows inherit noise, the shorter last one cannot; the run says that there is nothing to route."""
    overrides = ["search.candidates=2", "search.top_k=2", "adapter.call.overlap_history=5"]
    wrapped = streamt1.wrap(pipes["t2v"], overrides=overrides)
    call = {**CALL, **SHORT_END}
    del call["overlap_history"]
    frames = wrapped(**call, generator=seeded(0)).frames
    assert frames.shape == (1, 37, 32, 32, 3)
    propagated = [{node.propagated for node in wrapped.tree.chunk(index)} for index in range(3)]
    assert propagated == [{False}, {True}, {False}]
    assert [len(wrapped.tree.chunk(index)) for index in range(3)] == [4, 4, 4]
    assert any("cannot be routed" in note for note in wrapped.tree.notes)
    again = wrapped(**call, generator=seeded(0)).frames
    assert (frames == again).all()
