"""A wrapped causal Wan pipeline keeps the conventions of `WanPipeline`'s own call."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
import torch
from diffusers import WanPipeline
from diffusers.callbacks import PipelineCallback

import streamt1_plugins as streamt1
from streamt1_plugins.api.adapter import MemoryPlan
from streamt1_plugins.errors import InputError, UnsupportedPipelineError
from streamt1_tinyworld.adapter import TinyWorldAdapter
from streamt1_wan.adapter import CausalWanAdapter
from streamt1_wan.schedule import listed, uniform
from tests.adapters.tiny import seeded, tiny_pipeline

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamt1_wan.session import CausalWanSession

CALL: dict[str, Any] = {
    "prompt": "a red circle",
    "height": 32,
    "width": 32,
    "num_frames": 21,
    "max_sequence_length": 16,
    "output_type": "latent",
}
ADAPTER = {"name": "wan", "timesteps": [1000, 500]}
PLAIN = {"extends": "plain", "adapter": ADAPTER}
SEARCH: dict[str, Any] = {
    "extends": "stream-t1",
    "adapter": ADAPTER,
    "search": {"candidates": 2, "top_k": 1},
    "rewards": {"short": {"basic": {}}, "long": {"basic": {}}},
}
GUIDED = {"guidance_scale": 2.0, "negative_prompt": "blue"}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def pipe() -> WanPipeline:
    return tiny_pipeline()


def wrapped(pipe: WanPipeline, recipe: dict[str, Any] | None = None) -> streamt1.StreamPipeline:
    return streamt1.wrap(pipe, recipe or PLAIN)


def latents(pipe: WanPipeline, /, recipe: dict[str, Any] | None = None, **changes: Any) -> torch.Tensor:
    call = {**CALL, "generator": seeded(3), **changes}
    found: torch.Tensor = wrapped(pipe, recipe)(**call).frames
    return found


def is_stock(pipe: WanPipeline) -> bool:
    return {type(block.attn1.processor).__name__ for block in pipe.transformer.blocks} == {"WanAttnProcessor"}


# Callbacks.


class Seen:
    """A callback that keeps what it was called with, and returns what `change` makes of it."""

    def __init__(self, change: Callable[[Any, int, dict[str, Any]], dict[str, Any]] | None = None) -> None:
        self.calls: list[tuple[Any, int, float, dict[str, Any]]] = []
        self.change = change

    def __call__(self, pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        self.calls.append((pipe, step, float(timestep), dict(tensors)))
        return self.change(pipe, len(self.calls), tensors) if self.change else tensors


def test_a_callback_is_called_after_every_step(pipe: WanPipeline) -> None:
    seen = Seen()
    names = ["latents", "prompt_embeds", "negative_prompt_embeds"]
    found = latents(pipe, callback_on_step_end=seen, callback_on_step_end_tensor_inputs=names, **GUIDED)
    assert [step for _, step, _, _ in seen.calls] == [0, 1, 0, 1]
    assert [round(timestep) for _, _, timestep, _ in seen.calls] == [1000, 833] * 2
    assert all(called is pipe for called, *_ in seen.calls)
    assert {name: tuple(x.shape) for name, x in seen.calls[0][3].items()} == {
        "latents": (1, 16, 3, 4, 4),
        "prompt_embeds": (1, 16, 32),
        "negative_prompt_embeds": (1, 16, 32),
    }
    assert torch.equal(seen.calls[-1][3]["latents"], found[:, :, 3:]), "the last step's latents are the result"
    assert torch.equal(latents(pipe, **GUIDED), found), "looking changes nothing"


def test_only_the_tensors_that_were_asked_for_are_given(pipe: WanPipeline) -> None:
    seen = Seen()
    latents(pipe, callback_on_step_end=seen)
    assert list(seen.calls[0][3]) == ["latents"]


def test_latents_from_a_callback_are_used(pipe: WanPipeline) -> None:
    found = latents(pipe, callback_on_step_end=lambda p, i, t, k: {"latents": torch.zeros_like(k["latents"])})
    assert not found.any()


def test_latents_changed_in_the_first_step_change_what_follows(pipe: WanPipeline) -> None:
    def halved(pipe: Any, call: int, tensors: dict[str, Any]) -> dict[str, Any]:
        return {"latents": tensors["latents"] / 2} if call == 1 else {}

    found, plain = latents(pipe, callback_on_step_end=Seen(halved)), latents(pipe)
    assert not torch.equal(found[:, :, :3], plain[:, :, :3])
    assert not torch.equal(found[:, :, 3:], plain[:, :, 3:]), "the next chunk sees the changed one"


@pytest.mark.parametrize("by", ["prompt_embeds", "negative_prompt_embeds"])
def test_texts_changed_by_a_callback_last(pipe: WanPipeline, by: str) -> None:
    """Changed at the end of the first chunk, the second chunk is that of a call with the other text."""
    other = torch.randn(1, 16, 32, generator=seeded(9))

    def swap(pipe: Any, call: int, tensors: dict[str, Any]) -> dict[str, Any]:
        return {by: other} if call == 2 else {}

    seen = Seen(swap)
    names = ["prompt_embeds", "negative_prompt_embeds"]
    found = latents(pipe, callback_on_step_end=seen, callback_on_step_end_tensor_inputs=names, **GUIDED)
    plain = latents(pipe, **GUIDED)
    assert torch.equal(found[:, :, :3], plain[:, :, :3])
    assert not torch.equal(found[:, :, 3:], plain[:, :, 3:])
    assert torch.equal(seen.calls[2][3][by], other)
    assert torch.equal(seen.calls[3][3][by], other)


def test_guidance_changed_by_a_callback_lasts(pipe: WanPipeline) -> None:
    def raise_it(pipe: Any, call: int, tensors: dict[str, Any]) -> dict[str, Any]:
        pipe._guidance_scale += 1.0
        return tensors

    found = latents(pipe, callback_on_step_end=Seen(raise_it), **GUIDED)
    assert pipe.guidance_scale == 2.0 + 2 * pipe.num_timesteps
    assert not torch.equal(found, latents(pipe, **GUIDED))


def test_guidance_switched_off_halves_the_forwards(pipe: WanPipeline) -> None:
    def off(pipe: Any, call: int, tensors: dict[str, Any]) -> dict[str, Any]:
        pipe._guidance_scale = 1.0
        return tensors

    whole, cut = wrapped(pipe), wrapped(pipe)
    whole(**CALL, **GUIDED)
    cut(**CALL, **GUIDED, callback_on_step_end=Seen(off))
    assert whole.last_run.cost.forwards == 2 * (2 + 2) + 2
    assert cut.last_run.cost.forwards == 2 + 1 + 1 + 1 + 2, "the clean pass keeps the context of both conditions"


def test_guidance_cannot_begin_in_the_middle(pipe: WanPipeline) -> None:
    def on(pipe: Any, call: int, tensors: dict[str, Any]) -> dict[str, Any]:
        pipe._guidance_scale = 5.0
        return tensors

    with pytest.raises(InputError, match="Begin with `guidance_scale` above 1"):
        latents(pipe, callback_on_step_end=Seen(on))
    assert is_stock(pipe)


class CutOff(PipelineCallback):
    """In the manner of diffusers' own: it names the tensors it wants, and switches guidance off."""

    tensor_inputs: ClassVar = ["prompt_embeds"]

    def callback_fn(self, pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if step == int(pipeline.num_timesteps * self.config.cutoff_step_ratio):
            pipeline._guidance_scale = 0.0
            tensors["prompt_embeds"] = tensors["prompt_embeds"][-1:]
        return tensors


def test_official_callbacks(pipe: WanPipeline) -> None:
    found = wrapped(pipe)
    found(**CALL, **GUIDED, callback_on_step_end=CutOff(cutoff_step_ratio=0.5))
    assert pipe.guidance_scale == 0.0
    assert not pipe.do_classifier_free_guidance


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "has to return a dict .* got NoneType"),
        ({"latents": torch.zeros(1, 16, 2, 4, 4)}, r"`latents` \[1, 16, 2, 4, 4\], expected a tensor \[1, 16, 3, 4, 4"),
        ({"latents": 3}, "`latents` int"),
        ({"prompt_embeds": torch.zeros(1, 16, 31)}, r"`prompt_embeds` \[1, 16, 31\], expected .*tokens, 32"),
        ({"prompt_embeds": torch.zeros(2, 16, 32)}, r"`prompt_embeds` \[2, 16, 32\]"),
        ({"prompt_embeds": torch.zeros(1, 8, 32)}, "of different shapes"),
    ],
)
def test_unusable_returns_are_named(pipe: WanPipeline, returned: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        latents(pipe, callback_on_step_end=lambda *_: returned, **GUIDED)
    assert is_stock(pipe)


def test_in_a_search_every_batch_is_seen_and_changes_stay_with_it(pipe: WanPipeline) -> None:
    """A callback that does the same to every candidate leaves a seed's candidate what it is alone."""

    def shrink(pipe: Any, call: int, tensors: dict[str, Any]) -> dict[str, Any]:
        pipe._guidance_scale += 1.0
        return {"prompt_embeds": tensors["prompt_embeds"] * 0.5}

    names = {"callback_on_step_end_tensor_inputs": ["prompt_embeds"]}
    seen = Seen(shrink)
    session = opened(pipe, callback_on_step_end=seen, **names, **GUIDED)
    first, second, again = (_candidate(session, seed) for seed in (1, 2, 1))
    session.close()
    assert len(seen.calls) == 6
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_drafts_keep_what_callbacks_change(pipe: WanPipeline) -> None:
    def shrink(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        pipe._guidance_scale += 1.0
        return {"prompt_embeds": tensors["prompt_embeds"] * 0.5, "latents": tensors["latents"] * 0.9}

    names = {"callback_on_step_end_tensor_inputs": ["prompt_embeds", "latents"]}
    session = opened(pipe, callback_on_step_end=shrink, **names, **GUIDED)
    whole = _candidate(session, 1)
    generators = [seeded(1), seeded(2)]
    noise = [session.draw(session.root(), generator) for generator in generators]
    drafts = [session.draft(session.root(), x, [g], 1)[0] for x, g in zip(noise, generators, strict=True)]
    finished = session.finish_drafts(session.root(), drafts[:1], generators[:1])
    session.close()
    assert torch.equal(finished, whole)


def opened(pipe: WanPipeline, **changes: Any) -> CausalWanSession:
    return CausalWanAdapter(timesteps=(1000, 500)).open(pipe, {**CALL, **changes}, MemoryPlan())


def _candidate(session: CausalWanSession, seed: int) -> torch.Tensor:
    generator = seeded(seed)
    return session.generate(session.root(), session.draw(session.root(), generator), [generator])


# Interrupts.


def test_an_interrupt_ends_denoising(pipe: WanPipeline) -> None:
    def stop(pipe: Any, call: int, tensors: dict[str, Any]) -> dict[str, Any]:
        pipe._interrupt = call == 1
        return tensors

    session = opened(pipe, callback_on_step_end=Seen(stop), generator=seeded(3))
    history, before = session.root(), session.forwards
    for _ in range(session.num_chunks):
        found = session.generate(history, session.draw(history, session.generator), [session.generator])
        history = session.commit(history, found, session.decode(history, found)[0], "discard")
    session.close()
    assert session.forwards - before == 1, "neither a step nor a clean pass follows"
    assert pipe.interrupt


def test_a_call_begins_without_an_interrupt(pipe: WanPipeline) -> None:
    expected = latents(pipe)
    pipe._interrupt = True
    assert torch.equal(latents(pipe), expected)


def test_an_interrupt_from_another_thread(pipe: WanPipeline) -> None:
    stopping = threading.Event()

    def wait(pipe: Any, call: int, tensors: dict[str, Any]) -> dict[str, Any]:
        if call == 1:
            stopping.set()
            button.join()
        return tensors

    def press() -> None:
        stopping.wait()
        pipe._interrupt = True

    button, seen = threading.Thread(target=press), Seen(wait)
    button.start()
    latents(pipe, callback_on_step_end=seen)
    assert len(seen.calls) == 1


# Properties.


def test_properties_during_and_after_a_call(pipe: WanPipeline) -> None:
    during: list[tuple[Any, ...]] = []

    def look(pipe: Any, call: int, tensors: dict[str, Any]) -> dict[str, Any]:
        shown = (pipe.guidance_scale, pipe.num_timesteps, pipe.interrupt, pipe.do_classifier_free_guidance)
        during.append((*shown, round(float(pipe.current_timestep)), pipe.attention_kwargs))
        return tensors

    found = wrapped(pipe)
    found(**CALL, **GUIDED, attention_kwargs={"scale": 1.0}, callback_on_step_end=Seen(look))
    assert during[:2] == [(2.0, 2, False, True, at, {"scale": 1.0}) for at in (1000, 833)]
    after = (found.guidance_scale, found.num_timesteps, found.interrupt, found.do_classifier_free_guidance)
    assert after == (2.0, 2, False, True)
    assert (found.current_timestep, found.attention_kwargs) == (None, {"scale": 1.0})


def test_properties_after_a_search(pipe: WanPipeline) -> None:
    found = wrapped(pipe, SEARCH)
    found(**CALL)
    assert (found.guidance_scale, found.num_timesteps, found.interrupt) == (1.0, 2, False)


def test_the_bar_counts_the_steps_and_can_be_switched_off(
    pipe: WanPipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    latents(pipe)
    assert capsys.readouterr().err == ""
    pipe.set_progress_bar_config(disable=False)
    latents(pipe)
    assert "4/4" in capsys.readouterr().err
    latents(pipe, SEARCH)
    shown = capsys.readouterr().err
    assert any(line.startswith("chunk ") for line in shown.splitlines())
    assert "4/4" not in shown, "a search has a bar of its own, whatever its candidates do"
    assert pipe._progress_bar_config == {"disable": False}


# Arguments.


def test_a_number_of_steps(pipe: WanPipeline) -> None:
    seen = Seen()
    latents(pipe, num_inference_steps=np.int64(3), callback_on_step_end=seen)
    expected = uniform(3, shift=5.0).timesteps
    assert [timestep for _, _, timestep, _ in seen.calls] == pytest.approx([*expected.tolist()] * 2)


def test_as_many_steps_as_are_listed_are_the_listed_ones(pipe: WanPipeline) -> None:
    adapter = {"name": "wan", "timesteps": [1000, 700]}
    assert listed((1000, 700), 5.0).timesteps.tolist() != uniform(2, 5.0).timesteps.tolist()
    recipe = {"extends": "plain", "adapter": adapter}
    assert torch.equal(latents(pipe, recipe, num_inference_steps=2), latents(pipe, recipe))


def test_tinyworld_takes_the_same_arguments(pipe: WanPipeline) -> None:
    seen = Seen()
    call = {**CALL, "num_inference_steps": 2, "callback_on_step_end": seen}
    session = TinyWorldAdapter().open(pipe, call, MemoryPlan())
    _candidate(session, 1)
    session.close()
    assert [step for _, step, _, _ in seen.calls] == [0, 1]
    assert pipe.num_timesteps == 2


def test_given_noise_is_the_noise(pipe: WanPipeline) -> None:
    """The noise of the seed, passed as `latents`, with a generator that has already drawn the first chunk's."""
    noise = torch.randn(1, 3, 16, 4, 4, generator=seeded(3)).transpose(1, 2)
    drawn = seeded(3)
    torch.randn(1, 3, 16, 4, 4, generator=drawn)
    call = {"num_frames": 9}
    assert torch.equal(latents(pipe, latents=noise, generator=drawn, **call), latents(pipe, **call))


def test_given_noise_is_split_into_chunks(pipe: WanPipeline) -> None:
    noise = torch.randn(1, 16, 6, 4, 4, generator=seeded(1))
    other = torch.cat([noise[:, :, :3], torch.randn(1, 16, 3, 4, 4, generator=seeded(2))], dim=2)
    first, second = latents(pipe, latents=noise), latents(pipe, latents=other)
    assert torch.equal(first[:, :, :3], second[:, :, :3])
    assert not torch.equal(first[:, :, 3:], second[:, :, 3:])


def test_a_search_draws_its_own_noise(pipe: WanPipeline) -> None:
    with pytest.raises(InputError, match="'latents' cannot be used in a search"):
        latents(pipe, SEARCH, latents=torch.zeros(1, 16, 6, 4, 4))
    assert is_stock(pipe)


@pytest.mark.parametrize(
    "same",
    [
        {"prompt": ["a red circle"]},
        {"negative_prompt": ("blue",)},
        {"height": np.int64(32), "num_frames": np.int32(21), "guidance_scale": np.float64(1.0)},
        {"num_videos_per_prompt": 1},
        {"attention_kwargs": None, "callback_on_step_end": None},
    ],
    ids=lambda same: next(iter(same)),
)
def test_other_forms_of_the_same_call(pipe: WanPipeline, same: dict[str, Any]) -> None:
    assert torch.equal(latents(pipe, **same), latents(pipe))


def test_an_empty_prompt_is_a_prompt(pipe: WanPipeline) -> None:
    assert not torch.equal(latents(pipe, prompt=""), latents(pipe))


def test_embeddings_are_the_prompt(pipe: WanPipeline) -> None:
    call = {"do_classifier_free_guidance": True, "max_sequence_length": 16}
    with torch.no_grad():
        prompt, negative = pipe.encode_prompt("a red circle", "blue", **call)
    embeds = {"prompt": None, "prompt_embeds": prompt, "negative_prompt_embeds": negative, "guidance_scale": 2.0}
    assert torch.equal(latents(pipe, **embeds), latents(pipe, **GUIDED))


@pytest.mark.parametrize("output_type", ["np", "pt", "pil", "latent"])
def test_tuples_and_outputs_agree(pipe: WanPipeline, output_type: str) -> None:
    call = {**CALL, "output_type": output_type, "num_frames": 9}
    output = wrapped(pipe)(**call, generator=seeded(3)).frames
    (video,) = wrapped(pipe)(**call, generator=seeded(3), return_dict=False)
    if output_type == "pil":
        assert [image.tobytes() for image in video[0]] == [image.tobytes() for image in output[0]]
    else:
        assert np.array_equal(np.asarray(video), np.asarray(output))


# The pipeline survives.


def raising(error: BaseException) -> Any:
    def fail(*_: Any) -> dict[str, Any]:
        raise error

    return fail


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ZeroDivisionError(), SystemExit(1)], ids=repr)
@pytest.mark.parametrize("place", ["callback", "transformer", "text encoder", "VAE"])
def test_whatever_ends_a_call_the_next_one_works(pipe: WanPipeline, error: BaseException, place: str) -> None:
    expected = latents(pipe)
    parts = {"transformer": pipe.transformer.blocks[1], "text encoder": pipe.text_encoder, "VAE": pipe.vae.decoder}
    hook = parts[place].register_forward_pre_hook(raising(error)) if place in parts else None
    with pytest.raises(type(error)):
        latents(pipe, callback_on_step_end=raising(error) if place == "callback" else None)
    if hook:
        hook.remove()
    assert is_stock(pipe)
    assert torch.equal(latents(pipe), expected)


def test_a_stream_that_is_not_finished_holds_nothing(pipe: WanPipeline) -> None:
    expected = latents(pipe)
    stream = wrapped(pipe).stream(**CALL, generator=seeded(3))
    next(stream)
    assert is_stock(pipe)
    del stream
    gc.collect()
    assert torch.equal(latents(pipe), expected)


def test_a_session_that_is_not_closed_holds_nothing(pipe: WanPipeline) -> None:
    expected = latents(pipe)
    session = opened(pipe)
    _candidate(session, 1)
    assert torch.equal(latents(pipe), expected), "beside the open session"
    _candidate(session, 1)


def test_sessions_in_turn_keep_their_own_guidance(pipe: WanPipeline) -> None:
    settings = ({**GUIDED, "guidance_scale": 4.0}, {})
    expected = [latents(pipe, **each) for each in settings]
    sessions = [opened(pipe, generator=seeded(3), **each) for each in settings]
    histories = [session.root() for session in sessions]
    for _ in range(2):
        for index, session in enumerate(sessions):
            history, own = histories[index], [session.generator]
            found = session.generate(history, session.draw(history, session.generator), own)
            histories[index] = session.commit(history, found, session.decode(history, found)[0], "discard")
    for session, history, wanted in zip(sessions, histories, expected, strict=True):
        assert torch.equal(session.finish(history).frames, wanted)
        session.close()


def test_two_threads(pipe: WanPipeline) -> None:
    """Both calls succeed, or one is refused with a way out; afterwards the pipeline works."""
    expected = latents(pipe)
    inside, tried = threading.Event(), threading.Event()
    found: dict[str, Any] = {}

    def hold(*_: Any) -> None:
        inside.set()
        tried.wait(60)

    def call(name: str) -> None:
        try:
            found[name] = latents(pipe)
        except UnsupportedPipelineError as error:
            found[name] = error

    hook = pipe.transformer.blocks[1].register_forward_pre_hook(hold)
    first = threading.Thread(target=call, args=("first",))
    first.start()
    assert inside.wait(60)
    hook.remove()
    second = threading.Thread(target=call, args=("second",))
    second.start()
    second.join(2)  # a core that queues calls makes it wait
    tried.set()
    first.join()
    second.join()
    assert torch.equal(found["first"], expected)
    if isinstance(found["second"], UnsupportedPipelineError):
        assert "Wait until that call has returned" in str(found["second"])
    else:
        assert torch.equal(found["second"], expected)
    assert torch.equal(latents(pipe), expected)


def test_copies_of_the_pipeline_after_a_call(pipe: WanPipeline) -> None:
    expected = latents(pipe)
    for copied in (copy.deepcopy(pipe), pickle.loads(pickle.dumps(pipe))):
        assert torch.equal(latents(copied), expected)


def test_copies_of_the_adapter_and_a_session_after_a_call(pipe: WanPipeline) -> None:
    session = opened(pipe)
    expected = _candidate(session, 1)
    assert torch.equal(_candidate(copy.deepcopy(session), 1), expected)
    session.close()


def test_saved_and_loaded_after_a_call(pipe: WanPipeline, tmp_path: Any) -> None:
    expected = latents(pipe)
    tokenizer, pipe.tokenizer = pipe.tokenizer, None  # a stand-in that cannot be saved
    wrapped(pipe).save_pretrained(tmp_path)
    again = WanPipeline.from_pretrained(tmp_path, tokenizer=None)
    again.tokenizer = tokenizer
    again.set_progress_bar_config(disable=True)
    torch.testing.assert_close(latents(again), expected, atol=1e-5, rtol=0)  # weights lie elsewhere in memory


def test_another_dtype_after_a_call(pipe: WanPipeline) -> None:
    expected = latents(pipe)
    assert latents(pipe.to(torch.bfloat16)).dtype == torch.bfloat16
    found = latents(pipe.to(torch.float32))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=0.2, rtol=0)
