"""AnyFlow-FAR with a prompt that changes: the text that each chunk is cached with, and caches that begin anew."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch

from streamt1_anyflow.spans import Span, cached_scene, joined, merged
from streamt1_plugins.api.adapter import Decoded, History
from streamt1_plugins.api.scenes import Scene
from streamt1_plugins.testing.state import footprint
from streamt1_seams import shadowed
from tests.adapters.test_anyflow import clip, opened
from tests.adapters.tiny import seeded
from tests.adapters.tiny_anyflow import tiny_pipeline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from diffusers import AnyFlowFARPipeline

    from streamt1_anyflow.session import AnyFlowSession

PARTITION = (1, 2, 2, 2)
FLAT = Decoded(torch.zeros(1, 3, 8, 8))
CUT = 2
ONE_STEP = {"num_inference_steps": 1}
GUIDED = {"guidance_scale": 3.0, "negative_prompt": "blue", **ONE_STEP}


@pytest.fixture(scope="module")
def pipe() -> AnyFlowFARPipeline:
    return tiny_pipeline()


def changing(pipe: Any, memory: str, cut: int = CUT, **call: Any) -> AnyFlowSession:
    schedule = [{"chunk": cut, "prompt": "a blue square", "memory": memory}]
    return opened(pipe, schedule=schedule, **{**ONE_STEP, **call})


def noise(index: int) -> torch.Tensor:
    return torch.randn(1, 16, PARTITION[index], 4, 4, generator=seeded(index))


def past(session: AnyFlowSession, chunks: int = CUT) -> History:
    """Chunks of noise, so that they are alike whatever the text is."""
    history = session.root()
    for index in range(history.index, chunks):
        history = session.commit(history, noise(index), FLAT, "discard")
    return history


def two_chunks(session: AnyFlowSession, history: History) -> list[torch.Tensor]:
    """The chunk after a history, and the one after that."""
    made = []
    for index in (2, 3):
        latents = session.generate(history, noise(index), [seeded(index)])
        history = session.commit(history, latents, FLAT, "discard")
        made.append(latents)
    return made


def entries(history: History) -> Iterator[torch.Tensor]:
    """The tensors of a cache, layer by layer."""
    for parts in history.memory.values():
        yield from parts.values()


@pytest.mark.parametrize("call", [ONE_STEP, GUIDED], ids=["plain", "guided"])
def test_flush_begins_like_a_video_of_its_own(pipe: AnyFlowFARPipeline, call: dict[str, Any]) -> None:
    rest = {"num_frames": 13, "chunk_partition": list(PARTITION[CUT:])}
    session, alone = changing(pipe, "flush", **call), opened(pipe, **{**call, **rest, "prompt": "a blue square"})
    found, expected = two_chunks(session, past(session)), two_chunks(alone, alone.root())
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("call", [ONE_STEP, GUIDED], ids=["plain", "guided"])
def test_recache_gives_every_chunk_the_new_text(pipe: AnyFlowFARPipeline, call: dict[str, Any]) -> None:
    session, other = changing(pipe, "recache", **call), opened(pipe, **call, prompt="a blue square")
    found, expected = past(session), past(other)
    assert all(map(torch.equal, entries(found), entries(expected)))
    assert all(map(torch.equal, two_chunks(session, found), two_chunks(other, expected)))


def test_keep_leaves_the_cache_as_it_is_where_the_scene_begins(pipe: AnyFlowFARPipeline) -> None:
    session, same, other = changing(pipe, "keep"), opened(pipe, **ONE_STEP), opened(pipe, prompt="a blue square")
    history = past(session)
    assert all(map(torch.equal, entries(history), entries(past(same))))
    ours, theirs = (each.generate(history, noise(2), [seeded(2)]) for each in (session, opened(pipe, **ONE_STEP)))
    assert not torch.equal(ours, theirs), "the new text changes nothing"
    assert not all(map(torch.equal, entries(history), entries(past(other))))


@pytest.mark.parametrize("call", [ONE_STEP, GUIDED], ids=["plain", "guided"])
def test_kept_chunks_are_cached_with_their_own_text(pipe: AnyFlowFARPipeline, call: dict[str, Any]) -> None:
    """Against cross-attention that is computed with both texts for all tokens, of which each token takes its own."""
    session, other = opened(pipe, **call), opened(pipe, **call, prompt="a blue square")
    found = past(changing(pipe, "keep", **call), CUT + 1)
    assert not all(map(torch.equal, entries(found), entries(past(session, CUT + 1))))
    both = [tuple(torch.cat(each, dim=1) for each in zip(session._plan.text, other._plan.text, strict=True))]
    session._plan = replace(session._plan, texts=both)
    old = 1 * 1 + 2 * 4  # chunk 0 is old enough for larger patches: one token a frame; those of chunk 1 have four
    with ExitStack() as stack:
        for block in pipe.transformer.blocks:
            choosing = partial(chosen, block.attn2.processor, old)
            stack.enter_context(shadowed(block.attn2, {"processor": choosing}))
        expected = past(session, CUT + 1)
    for ours, theirs in zip(entries(found), entries(expected), strict=True):
        torch.testing.assert_close(ours, theirs)


def chosen(inner: Any, old: int, attn: Any, hidden_states: torch.Tensor, **texts: torch.Tensor) -> torch.Tensor:
    """Cross-attention to the first of two texts for the `old` tokens, to the second one for the others."""
    first, second = (inner(attn, hidden_states, each) for each in texts["encoder_hidden_states"].chunk(2, dim=1))
    return torch.cat([first[:, :old], second[:, old:]], dim=1)


@pytest.mark.parametrize(
    ("memory", "passes"), [("keep", [1, 1, 1, 0]), ("recache", [1, 1, 1, 0]), ("flush", [1, 0, 1, 0])]
)
def test_a_change_adds_no_forwards(pipe: AnyFlowFARPipeline, memory: str, passes: list[int]) -> None:
    session = changing(pipe, memory)
    history, counted = session.root(), []
    for index in range(4):
        before = session.forwards
        history = session.commit(history, noise(index), FLAT, "discard")
        counted.append(session.forwards - before)
    assert counted == passes


@pytest.mark.parametrize("memory", ["keep", "recache", "flush"])
def test_a_scene_may_begin_where_a_given_video_ends(pipe: AnyFlowFARPipeline, memory: str) -> None:
    session = changing(pipe, memory, cut=1, video=clip(1))
    root, given = session.root(), opened(pipe, **ONE_STEP, video=clip(1)).root()
    new = opened(pipe, **ONE_STEP, video=clip(1), prompt="a blue square").root()
    assert all(map(torch.equal, entries(root), entries({"keep": given, "recache": new}.get(memory, session.root()))))
    assert any(entry.any() for entry in entries(root)) == (memory != "flush")
    latents = session.generate(root, noise(1), [seeded(1)])
    assert torch.isfinite(session.commit(root, latents, FLAT, "discard").latents[-1]).all()


def test_a_prediction_reads_the_text_and_the_memory_of_its_scene(pipe: AnyFlowFARPipeline) -> None:
    rest = {"num_frames": 13, "chunk_partition": list(PARTITION[CUT:])}
    session, alone = changing(pipe, "flush"), opened(pipe, **{**ONE_STEP, **rest, "prompt": "a blue square"})
    found = session.predict(past(session), noise(2), 0.5)
    assert torch.equal(found, alone.predict(alone.root(), noise(2), 0.5))


def test_embeddings_of_a_callback_last_until_the_scene_ends(pipe: AnyFlowFARPipeline) -> None:
    """They are what its chunks are cached with, as in the pipeline."""

    def zeroed(_pipe: Any, _step: int, _time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        return {"prompt_embeds": torch.zeros_like(tensors["prompt_embeds"])} if len(calls) == 1 else {}

    calls: list[int] = []

    def counted(*args: Any) -> dict[str, Any]:
        calls.append(1)
        return zeroed(*args)

    given = {"callback_on_step_end": counted, "callback_on_step_end_tensor_inputs": ["prompt_embeds"]}
    session, plain = changing(pipe, "recache", cut=1, **given), changing(pipe, "recache", cut=1)
    for each in (session, plain):
        each.generate(each.root(), noise(0), [seeded(0)])
    history = session.commit(session.root(), noise(0), FLAT, "discard")
    assert all(map(torch.equal, entries(history), entries(past(plain, 1))))
    kept, plain = changing(pipe, "keep", cut=1, **given), changing(pipe, "keep", cut=1)
    calls.clear()
    kept.generate(kept.root(), noise(0), [seeded(0)])
    history = kept.commit(kept.root(), noise(0), FLAT, "discard")
    assert not all(map(torch.equal, entries(history), entries(past(plain, 1))))


def test_the_transformer_is_given_back(pipe: AnyFlowFARPipeline) -> None:
    past(opened(pipe, **ONE_STEP), 3)
    before = footprint(pipe)
    past(changing(pipe, "keep"), 3)
    assert footprint(pipe) == before


def test_the_text_that_a_chunk_is_cached_with() -> None:
    scenes = (Scene(0, "sun"), Scene(2, "rain"), Scene(4, "snow", "recache"), Scene(5, "wind"))
    texts = {at: [cached_scene(scenes, chunk, at) for chunk in range(at)] for at in (2, 3, 4, 5, 6)}
    assert texts == {2: [0, 0], 3: [0, 0, 1], 4: [2] * 4, 5: [2] * 5, 6: [2, 2, 2, 2, 2, 3]}


def test_spans_with_the_same_texts_are_one() -> None:
    sun, rain = ({"prompt_embeds": torch.zeros(1, length, 2), "negative_prompt_embeds": None} for length in (3, 5))
    spans = merged([Span(2, sun), Span(4, dict(sun)), Span(1, rain)])
    assert [(span.tokens, span.text_tokens) for span in spans] == [(6, 3), (1, 5)]
    both = joined(spans)
    assert both["negative_prompt_embeds"] is None
    assert both["prompt_embeds"] is not None
    assert both["prompt_embeds"].shape == (1, 8, 2)
    assert joined(spans[:1])["prompt_embeds"] is sun["prompt_embeds"]
