"""Helios with a prompt that changes: what each memory does to the latents of the past, which are all that it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.api.adapter import Decoded, History
from tests.adapters.test_helios import clip, opened, picture
from tests.adapters.tiny import seeded
from tests.adapters.tiny_helios import tiny_pipeline, tiny_pyramid

if TYPE_CHECKING:
    from diffusers import HeliosPipeline

    from streamt1_helios.session import HeliosSession

FLAT = Decoded(torch.zeros(1, 3, 8, 8))
CUT = 1
LONG = {"num_frames": 33 * 4, "num_inference_steps": 1}
GUIDED = {"guidance_scale": 3.0, "negative_prompt": "blue"}
SKIPPING = {"is_skip_first_chunk": True}


@pytest.fixture(scope="module")
def pipe() -> HeliosPipeline:
    return tiny_pipeline()


def changing(pipe: Any, memory: str, **call: Any) -> HeliosSession:
    schedule = [{"chunk": CUT, "prompt": "a blue square", "memory": memory}]
    return opened(pipe, schedule=schedule, **{**LONG, **call})


def past(session: HeliosSession, chunks: int = CUT) -> History:
    """Chunks of noise, so that they are alike whatever the text is."""
    history = session.root()
    for index in range(chunks):
        noise = session.draw(history, seeded(index))
        history = session.commit(history, noise, FLAT, "discard")
    return history


def two_chunks(session: HeliosSession, history: History) -> list[torch.Tensor]:
    """The chunk after a history, and the one after that."""
    made = []
    for seed in (8, 9):
        generator = seeded(seed)
        latents = session.generate(history, session.draw(history, generator), [generator])
        history = session.commit(history, latents, FLAT, "discard")
        made.append(latents)
    return made


def check_flush(pipe: Any, **call: Any) -> None:
    """After the change, chunks are those of a session that begins with the new prompt."""
    session, alone = changing(pipe, "flush", **call), opened(pipe, **{**LONG, **call, "prompt": "a blue square"})
    if "image" in call or "video" in call:  # what the old scene began with is forgotten too
        alone = opened(pipe, **LONG, prompt="a blue square")
    found, expected = two_chunks(session, past(session)), two_chunks(alone, alone.root())
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize(
    "call",
    [{}, GUIDED, SKIPPING, {"image": picture()}, {"video": clip(40)}],
    ids=["plain", "guided", "skipping", "image", "video"],
)
def test_flush_begins_like_a_video_of_its_own(pipe: HeliosPipeline, call: dict[str, Any]) -> None:
    check_flush(pipe, **call)


def test_flush_in_a_pyramid_amplifies_the_first_chunk_of_the_scene() -> None:
    size = {"height": 64, "width": 64, "pyramid_num_inference_steps_list": [1, 1, 1], "is_amplify_first_chunk": True}
    check_flush(tiny_pyramid(distilled=True), **size, num_inference_steps=...)


@pytest.mark.parametrize("call", [{}, GUIDED, {"image": picture()}], ids=["plain", "guided", "image"])
def test_keep_and_recache_change_the_text_alone(pipe: HeliosPipeline, call: dict[str, Any]) -> None:
    kept, again = (changing(pipe, memory, **call, generator=seeded(3)) for memory in ("keep", "recache"))
    other = opened(pipe, **{**LONG, **call, "prompt": "a blue square", "generator": seeded(3)})
    same = opened(pipe, **LONG, **call, generator=seeded(3))
    found = two_chunks(kept, past(kept))
    assert all(map(torch.equal, found, two_chunks(again, past(again))))
    assert all(map(torch.equal, found, two_chunks(other, past(other))))
    assert not torch.equal(found[0], two_chunks(same, past(same))[0])


def test_no_memory_adds_forwards(pipe: HeliosPipeline) -> None:
    for memory in ("keep", "recache", "flush"):
        session = changing(pipe, memory, **GUIDED)
        two_chunks(session, past(session))
        assert session.forwards == 4  # a step with guidance each


def test_the_video_has_the_flushed_chunks(pipe: HeliosPipeline) -> None:
    session = changing(pipe, "flush", video=clip(40))
    assert session.finish(past(session, 3))[0].shape[2] == session._plan.condition.lead.shape[2] + 3 * 9  # type: ignore[union-attr]


def test_embeddings_of_a_callback_last_until_the_scene_ends(pipe: HeliosPipeline) -> None:
    def zeroed(_pipe: Any, _step: int, _time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        return {"prompt_embeds": torch.zeros_like(tensors["prompt_embeds"])}

    call = {"callback_on_step_end": zeroed, "callback_on_step_end_tensor_inputs": ["prompt_embeds"]}
    session, plain = changing(pipe, "flush", **call), changing(pipe, "flush")
    first = two_chunks(session, session.root())
    expected = two_chunks(plain, plain.root())
    assert torch.equal(first[0], expected[0])  # the callback acts from the next step on
    assert torch.equal(first[1], expected[1])  # which is in another scene


SMALL: dict[str, Any] = {"prompt": "a red circle", "height": 32, "width": 32, "num_frames": 66, "guidance_scale": 1.0}
SMALL |= {"num_inference_steps": 1, "max_sequence_length": 16, "output_type": "np", "return_dict": False}
BLUE = [{"chunk": 1, "prompt": "a blue square"}]


def test_without_a_search_no_schedule_goes_to_the_pipelines_own_call(pipe: HeliosPipeline) -> None:
    """Which takes one prompt, so calls that are otherwise passed on to it are made chunk by chunk."""
    wrapped, steps = streamt1.wrap(pipe, "plain"), []

    def counted(*_: Any) -> dict[str, Any]:
        steps.append(1)
        return {}

    expected = wrapped(**SMALL, generator=seeded(1), schedule=BLUE)[0]
    found = wrapped(**SMALL, generator=seeded(1), schedule=BLUE, callback_on_step_end=counted)[0]
    assert (found == expected).all()
    assert len(steps) == 2
    several = wrapped(**SMALL, generator=[seeded(1), seeded(2)], schedule=BLUE, num_videos_per_prompt=2)[0]
    assert (several[0] == expected[0]).all()
    assert not (several[1] == expected[0]).all()


@pytest.mark.parametrize("schedule", [None, [], ()])
def test_an_empty_schedule_is_none(pipe: HeliosPipeline, schedule: Any) -> None:
    expected = pipe(**SMALL, generator=seeded(1))[0]
    assert (streamt1.wrap(pipe, "plain")(**SMALL, generator=seeded(1), schedule=schedule)[0] == expected).all()


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (
            [{"chunk": 2, "prompt": "late"}],
            "begins at chunk 2, but the video has the chunks 0 to 1",
        ),
        ([{"chunk": 1, "prompt": "x", "memory": "flus"}], "Did you mean 'flush'"),
        ("rain", "has to be a list"),
    ],
)
@pytest.mark.parametrize("recipe", ["plain", "beam"])
def test_a_bad_schedule_is_refused(pipe: HeliosPipeline, recipe: str, schedule: Any, message: str) -> None:
    wrapped = streamt1.wrap(pipe, recipe, overrides=["rewards.long={basic: {}}"] if recipe == "beam" else [])
    with pytest.raises(streamt1.InputError, match=message) as refused:
        wrapped(**SMALL, schedule=schedule)
    assert "Unknown argument" not in str(refused.value)
