"""FramePack through the interrupt seam: exact, forkable, blended seams and all."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video_framepack import FramepackSamplingType
from transformers import AutoTokenizer

import streamt1_plugins as streamt1
from streamt1_framepack.adapter import FramepackAdapter
from streamt1_framepack.session import FramepackSession
from streamt1_plugins.api.adapter import History, MemoryPlan
from streamt1_plugins.errors import InputError, UnsupportedPipelineError
from streamt1_tinyworld import model_dir
from tests.adapters.tiny import seeded
from tests.adapters.tiny_framepack import tiny_framepack
from tests.adapters.tiny_skyreels import picture

CALL: dict[str, Any] = {"prompt": "a red circle", "image": picture(), "height": 32, "width": 32, "num_frames": 27}
CALL |= {"sampling_type": "vanilla", "latent_window_size": 3, "num_inference_steps": 2, "max_sequence_length": 16}
"""Three sections of 3 latent frames."""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def pipe() -> Any:
    return tiny_framepack()


def opened(pipe: Any, **changes: Any) -> FramepackSession:
    return FramepackAdapter().open(pipe, {**CALL, **changes}, MemoryPlan())


def rolled(session: FramepackSession, seed: int | None = None) -> History:
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
    generator = seeded(3)
    return pipe(**{**CALL, **changes}, generator=generator), generator.get_state()


MATRIX: dict[str, dict[str, Any]] = {
    "vanilla": {},
    "one section": {"num_frames": 9},
    "five sections": {"num_frames": 45},
    "one latent frame per section": {"latent_window_size": 1, "num_frames": 3},
    "real guidance": {"true_cfg_scale": 3.0, "negative_prompt": "blue"},
    "unused negative prompt": {"negative_prompt": "blue"},
    "two prompts": {"prompt_2": "a blue square"},
    "sigmas": {"sigmas": [1.0, 0.4]},
}


@pytest.mark.parametrize("case", MATRIX)
def test_exact(pipe: Any, case: str) -> None:
    """Latents after every section, frames and the caller's generator: all as the plain pipeline leaves them."""
    expected, state = theirs(pipe, output_type="latent", **MATRIX[case])
    found, our_state = ours(pipe, output_type="latent", **MATRIX[case])
    assert len(found.frames) == len(expected.frames)
    assert all(map(torch.equal, found.frames, expected.frames))
    assert torch.equal(state, our_state)
    expected, found = theirs(pipe, output_type="pt", **MATRIX[case])[0], ours(pipe, output_type="pt", **MATRIX[case])[0]
    assert torch.equal(found.frames, expected.frames)


SIDES = ("height", "width")
ENCODERS = [("text_encoder", "forward"), ("text_encoder_2", "forward"), ("image_encoder", "forward"), ("vae", "encode")]


def test_encoders_run_once_and_candidates_leave_the_generator_alone(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The image latents are sampled: in a plain run from the caller's generator, else from a copy."""
    calls: list[str] = []
    for part, method in ENCODERS:
        original = getattr(getattr(pipe, part), method)
        counted = lambda *a, part=part, original=original, **k: calls.append(part) or original(*a, **k)  # noqa: E731
        monkeypatch.setattr(getattr(pipe, part), method, counted)
    generator = seeded(3)
    session = opened(pipe, generator=generator)
    rolled(session, seed=0)
    session.close()
    assert sorted(calls) == sorted(part for part, _ in ENCODERS)
    assert torch.equal(generator.get_state(), seeded(3).get_state())


def test_a_section_revises_the_one_before(pipe: Any) -> None:
    session = opened(pipe)
    first = rolled_to(session, 1)
    before = [frames.clone() for frames in first.frames]
    second = rolled_to(session, 2, first)
    session.close()
    overlap = 9
    assert [len(frames) for frames in second.frames] == [13, 12]
    assert torch.equal(second.frames[0][:-overlap], before[0][:-overlap])
    assert not torch.equal(second.frames[0][-overlap:], before[0][-overlap:])
    assert all(map(torch.equal, first.frames, before)), "a commit changed the history it started from"


def rolled_to(session: FramepackSession, count: int, history: History | None = None) -> History:
    history = history or session.root()
    while history.index < count:
        latents = session.generate(history, session.draw(history, seeded(history.index)), [session.generator])
        history = session.commit(history, latents, session.decode(history, latents)[0], "discard")
    return history


def test_a_cold_decode_of_all_sections_is_the_video(pipe: Any) -> None:
    session = opened(pipe)
    history = rolled(session, seed=0)
    cold = session.decode(session.root(), torch.cat(history.latents, dim=2))[0].frames
    session.close()
    assert torch.equal(cold, torch.cat(history.frames))


def test_forwards_count_every_candidate_and_branch(pipe: Any) -> None:
    session = opened(pipe, true_cfg_scale=3.0, negative_prompt="blue")
    noise = torch.cat([session.draw(session.root(), seeded(seed)) for seed in range(3)])
    session.generate(session.root(), noise, [session.generator] * 3)
    session.close()
    assert session.forwards == 3 * 2 * 2


def test_precomputed_embeddings_are_exact_and_batch(pipe: Any) -> None:
    with torch.no_grad():
        prompt, pooled, mask = pipe.encode_prompt("a red circle", None, max_sequence_length=16)
    given = {"prompt": None, "prompt_embeds": prompt, "pooled_prompt_embeds": pooled, "prompt_attention_mask": mask}
    expected, found = theirs(pipe, output_type="np")[0], ours(pipe, output_type="np", **given)[0]
    assert np.array_equal(expected.frames, found.frames)
    session = opened(pipe, **given)
    noise = torch.cat([session.draw(session.root(), seeded(seed)) for seed in range(2)])
    batched = session.generate(session.root(), noise, [session.generator] * 2)
    alone = session.generate(session.root(), noise[1:], [session.generator])
    session.close()
    torch.testing.assert_close(batched[1:], alone, rtol=1e-4, atol=1e-4 * float(alone.abs().max()))


@pytest.mark.parametrize("state", ["bfloat16", "offloaded"])
def test_exact_in_other_states(state: str) -> None:
    pipe = tiny_framepack()
    if state == "bfloat16":
        pipe.to(torch.bfloat16)
    else:
        pipe.enable_model_cpu_offload(device="cpu")
    expected, found = theirs(pipe, output_type="pt")[0], ours(pipe, output_type="pt")[0]
    assert torch.equal(found.frames, expected.frames)


def test_tiled_decoding_is_exact() -> None:
    """Sections are decoded by the VAE's own `decode`, so its tiling works as in the pipeline."""
    pipe = tiny_framepack()
    tile = {f"tile_sample_{name}_{side}": size for name, size in (("min", 24), ("stride", 16)) for side in SIDES}
    pipe.vae.enable_tiling(**tile)
    expected, found = theirs(pipe, output_type="pt")[0], ours(pipe, output_type="pt")[0]
    untiled = theirs(tiny_framepack(), output_type="pt")[0]
    assert not torch.equal(expected.frames, untiled.frames)
    assert torch.equal(expected.frames, found.frames)


def test_search_over_sections(pipe: Any) -> None:
    overrides = ["search.candidates=2", "search.top_k=2", "adapter.call.sampling_type=vanilla"]
    wrapped = streamt1.wrap(pipe, overrides=overrides)
    call = {name: value for name, value in CALL.items() if name != "sampling_type"}
    frames = wrapped(**call, generator=seeded(0), output_type="np").frames
    assert frames.shape == (1, 37, 32, 32, 3)
    assert [len(wrapped.tree.chunk(index)) for index in range(3)] == [4, 4, 4]
    assert [{node.propagated for node in wrapped.tree.chunk(index)} for index in range(3)] == [{False}, {True}, {True}]
    assert any("cannot be routed" in note for note in wrapped.tree.notes)


ARGUMENTS = [
    ({"sampling_type": ...}, "'inverted_anti_drifting' .the pipeline's default.*Pass sampling_type='vanilla'"),
    ({"sampling_type": FramepackSamplingType.INVERTED_ANTI_DRIFTING}, "nothing streams"),
    ({"sampling_type": "forward"}, "refuses this call: `sampling_type` has to be one of"),
    ({"image": ...}, "`image` is missing: HunyuanVideoFramepackPipeline starts from it"),
    ({"image": [picture()] * 2}, "`image` has 2 entries"),
    ({"image_latents": torch.zeros(1)}, "'image_latents' cannot be used here: .* pass `image`"),
    ({"last_image": picture()}, "'last_image' cannot be used here: it belongs to inverted sampling"),
    ({"prompt": ...}, "No prompt"),
    ({"prompt": ["a", "b"]}, "`prompt` has 2 entries"),
    ({"prompt": None, "prompt_embeds": torch.zeros(1, 16, 16)}, "also needs `pooled_prompt_embeds` and `prompt_att"),
    ({"num_videos_per_prompt": 2}, "`num_videos_per_prompt` has to be 1"),
    ({"latents": torch.zeros(1)}, "Unknown argument 'latents'"),
    ({"imag": picture()}, "Unknown argument 'imag'. Did you mean 'image'?"),
]


@pytest.mark.parametrize(("changes", "message"), ARGUMENTS, ids=lambda value: str(value)[:30])
def test_arguments(pipe: Any, changes: dict[str, Any], message: str) -> None:
    call = {name: value for name, value in {**CALL, **changes}.items() if value is not ...}
    with pytest.raises(InputError, match=message):
        FramepackAdapter().open(pipe, call, MemoryPlan())


def test_pipelines_it_cannot_drive() -> None:
    with pytest.raises(UnsupportedPipelineError, match="drives HunyuanVideoFramepackPipeline, got dict"):
        FramepackAdapter().open({}, CALL, MemoryPlan())
    pipe = tiny_framepack()
    pipe.tokenizer_2 = None
    with pytest.raises(UnsupportedPipelineError, match=r"has no tokenizer_2.*pooled_prompt_embeds"):
        opened(pipe)
    pipe.transformer._cache_config = object()
    with pytest.raises(UnsupportedPipelineError, match="step cache"):
        opened(pipe)


def test_upstream_image_latents_alone_do_not_work(pipe: Any) -> None:
    """Without `image` preprocessing fails, with it `check_inputs` does.

    Fixed upstream: take `image_latents` out of REFUSED.
    """
    latents = torch.zeros(1, 4, 1, 4, 4)
    for image, message in ((None, "incorrect format"), (picture(), "Only one of `image` or `image_latents`")):
        with pytest.raises(ValueError, match=message):
            pipe(**{**CALL, "image": image}, image_latents=latents, generator=seeded(0))


def test_upstream_default_is_inverted(pipe: Any) -> None:
    """Changed upstream: the refusal of inverted sampling should no longer call it the default."""
    assert signature(type(pipe).__call__).parameters["sampling_type"].default == "inverted_anti_drifting"


@pytest.mark.parametrize("whole", [True, False])
def test_load(tmp_path: Path, whole: bool) -> None:
    """A saved pipeline, or a transformer of its own with the rest from a base."""
    saved = tiny_framepack()
    tokenizer = AutoTokenizer.from_pretrained(Path(model_dir()) / "tokenizer")
    saved.register_modules(tokenizer=tokenizer, tokenizer_2=tokenizer)
    saved.save_pretrained(tmp_path)
    if whole:
        pipe = FramepackAdapter(dtype="float32").load(str(tmp_path))
    else:
        adapter = FramepackAdapter(base=str(tmp_path), vision=str(tmp_path))
        pipe = adapter.load(str(tmp_path / "transformer"))
    assert type(pipe) is type(saved)
    assert pipe.transformer.dtype is pipe.vae.dtype is (torch.float32 if whole else torch.bfloat16)
    assert type(pipe.image_encoder) is type(saved.image_encoder)
