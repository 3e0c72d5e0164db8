"""A prompt that changes between chunks, and what becomes of the memory there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from streamt1_plugins.api.adapter import Decoded, History, MemoryPlan
from streamt1_plugins.api.scenes import HasScenes
from streamt1_plugins.errors import InputError
from streamt1_wan.adapter import CausalWanAdapter
from tests.adapters.tiny import seeded, tiny_pipeline

if TYPE_CHECKING:
    from diffusers import WanPipeline

    from streamt1_wan.session import CausalWanSession

CALL = {"prompt": "a red circle", "height": 32, "width": 32, "num_frames": 12 * 5 - 3, "max_sequence_length": 16}
FLAT = Decoded(torch.zeros(1, 3, 8, 8))
CUT = 3


@pytest.fixture
def pipe() -> WanPipeline:
    return tiny_pipeline()


def opened(pipe: WanPipeline, memory: str | None = None, **call: Any) -> CausalWanSession:
    schedule = [{"chunk": CUT, "prompt": "a blue square", "memory": memory}] if memory else None
    adapter = CausalWanAdapter(timesteps=(1000, 500))
    return adapter.open(pipe, {**CALL, "schedule": schedule, **call}, MemoryPlan())


def noise(index: int) -> torch.Tensor:
    return torch.randn(1, 16, 3, 4, 4, generator=seeded(index))


def until(session: CausalWanSession, chunks: int) -> History:
    """The history of chunks of plain noise, so that they are alike whatever the text is."""
    history = session.root()
    for index in range(chunks):
        history = session.commit(history, noise(index), FLAT, "discard")
    return history


def made(session: CausalWanSession, history: History, seed: int = 9) -> torch.Tensor:
    return session.generate(history, noise(seed), [seeded(seed)])


def test_scenes_before_the_change_are_as_without_a_schedule(pipe: WanPipeline) -> None:
    with_schedule, without = opened(pipe, "flush"), opened(pipe)
    assert isinstance(with_schedule, HasScenes)
    for chunks in range(CUT):
        left, right = (made(session, until(session, chunks)) for session in (with_schedule, without))
        assert torch.equal(left, right)


def test_flush_begins_like_a_video_of_its_own(pipe: WanPipeline) -> None:
    session, alone = opened(pipe, "flush"), opened(pipe, prompt="a blue square")
    history = until(session, CUT)
    assert history.memory.blocks == ()
    assert len(history.latents) == CUT
    expected = made(alone, History(CUT, memory=history.memory))  # positions count on
    assert torch.equal(made(session, history), expected)


def test_keep_changes_the_text_alone(pipe: WanPipeline) -> None:
    session, other, same = opened(pipe, "keep"), opened(pipe, prompt="a blue square"), opened(pipe)
    history = until(same, CUT)
    assert torch.equal(made(session, history), made(other, history))
    assert not torch.equal(made(session, history), made(same, history))


def test_recache_commits_the_window_again_and_leaves_the_sinks(pipe: WanPipeline) -> None:
    session, kept, other = opened(pipe, "recache"), opened(pipe, "keep"), opened(pipe, prompt="a blue square")
    again, before = until(session, CUT).memory, until(kept, CUT).memory
    assert len(again.window) == len(before.window) == 2
    assert all(map(torch.equal, again.sinks[0].keys, before.sinks[0].keys))
    assert not torch.equal(again.window[0].keys[1], before.window[0].keys[1])
    expected = History(1, memory=type(again)(before.sinks))
    for index in (1, 2):
        expected = other.commit(History(index, memory=expected.memory), noise(index), FLAT, "discard")
    for mine, theirs in zip(again.window, expected.memory.window, strict=True):
        assert all(map(torch.equal, mine.keys, theirs.keys))
        assert (mine.start, mine.route) == (theirs.start, theirs.route)


@pytest.mark.parametrize("memory", ["keep", "recache", "flush"])
def test_the_outline_counts_the_forwards(pipe: WanPipeline, memory: str) -> None:
    session = opened(pipe, memory)
    outline, history, counted = session.outline(), session.root(), []
    for index in range(session.num_chunks):
        session.forwards = 0
        latents = made(session, history, index)
        generated, session.forwards = session.forwards, 0
        history = session.commit(history, latents, FLAT, "discard")
        counted.append((generated, session.forwards))
    assert counted == list(zip(outline.generate, outline.commit, strict=True))


def test_a_plain_run_changes_its_text_too(pipe: WanPipeline) -> None:
    plain, other = opened(pipe, "flush"), opened(pipe, prompt="a blue square")
    for index in range(CUT):
        plain.generate(History(index, memory=plain.root().memory), noise(index), [plain.generator])
    history = until(plain, CUT)
    one_draw = torch.stack([noise(9), noise(8)], 1)  # all draws, so that the generator does not matter
    ours = plain.generate(history, one_draw, [plain.generator])
    assert torch.equal(ours, other.generate(History(CUT, memory=history.memory), one_draw, [seeded(0)]))


def test_guidance_has_both_texts_in_every_scene(pipe: WanPipeline) -> None:
    session = opened(pipe, "recache", guidance_scale=3.0, negative_prompt="bad")
    assert [text.shape for text in session._plan.texts] == [session._plan.texts[0].shape] * 2
    assert torch.isfinite(made(session, until(session, CUT))).all()


@pytest.mark.parametrize(
    ("schedule", "match"),
    [
        ([{"chunk": 5, "prompt": "late"}], "begins at chunk 5, but the video has the chunks 0 to 4"),
        ([{"chunk": 1, "prompt": "x", "memory": "flus"}], "Did you mean 'flush'"),
        ("rain", "has to be a list"),
    ],
)
def test_bad_schedules_are_found_before_and_in_a_call(pipe: WanPipeline, schedule: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        opened(pipe, schedule=schedule)
    with pytest.raises(InputError, match=match):
        CausalWanAdapter().check("a/model-that-is-nowhere", {**CALL, "schedule": schedule})
