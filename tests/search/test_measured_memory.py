"""The memory of a loaded pipeline's search, measured before it starts."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.errors import RecipeError
from streamt1_plugins.search import memory_estimate
from streamt1_plugins.search.memory_estimate import measured
from streamt1_plugins.search.offload import map_leaves
from tests.toy import Bright

PROMPT = "a red circle moving right on a blue background"


def load(*overrides: str) -> streamt1.StreamPipeline:
    return streamt1.load("tinyworld", overrides=["rewards.long.basic={}", *overrides])


def frames(pipe: streamt1.StreamPipeline) -> torch.Tensor:
    found: torch.Tensor = pipe(PROMPT, num_frames=21, output_type="pt").frames
    return found


def counted(item: Any) -> int:
    sizes: list[int] = []
    map_leaves(item, lambda leaf: sizes.append(leaf.nbytes) if isinstance(leaf, torch.Tensor) else None)
    return sum(sizes)


def test_what_was_counted_is_what_a_run_takes() -> None:
    """Decoder state and frames to the byte, although a smaller picture was decoded; memory as an upper bound."""
    pipe = load("search.candidates=3", "search.top_k=2", "rewards.decode=carried")
    run = pipe.begin(PROMPT, num_frames=45)
    found = measured(pipe.search(run), pipe.pipe)
    for _ in pipe.steps(run):
        pass
    history = run.beams[0].history
    run.session.close()
    chunks, latents = run.session.num_chunks, history.latents[1].nbytes
    assert found.states == (6 + 2) * counted(history.decoder)
    assert found.frames == (6 + 2 * chunks) * history.frames[1].nbytes + (2 * 6 + 2 * chunks) * latents
    assert 0 < counted(history.memory) <= found.memory // 2 <= 3 * counted(history.memory)


def test_with_previews_survivors_alone_have_decoder_states() -> None:
    pipe = load("search.candidates=3", "search.top_k=2", "rewards.decode=preview", "rewards.window=2")
    run = pipe.begin(PROMPT, num_frames=33)
    found = measured(pipe.search(run), pipe.pipe)
    for _ in pipe.steps(run):
        pass
    beam = run.beams[0]
    run.session.close()
    shown = 2 * (run.session.num_chunks + 2) + 6  # of the beams with their previews, and of the candidates
    assert found.states == 2 * 2 * counted(beam.history.decoder) + 2 * 2 * counted(beam.previews.state)
    assert found.frames - shown * beam.history.frames[1].nbytes == (2 * 6 + 2 * 3) * beam.history.latents[1].nbytes
    assert counted(beam.previews.frames) + counted(beam.previews.first) <= 2 * beam.history.frames[1].nbytes


def test_guidance_keeps_the_context_of_both_conditions() -> None:
    found, kept = [], []
    for scale in (1.0, 3.0):
        pipe = load("search.candidates=1", "search.top_k=1")
        run = pipe.begin(PROMPT, num_frames=33, guidance_scale=scale)
        found.append(measured(pipe.search(run), pipe.pipe).memory)
        for _ in pipe.steps(run):
            pass
        kept.append(counted(run.beams[0].history.memory))
        run.session.close()
    assert kept[1] == 2 * kept[0]
    assert found[1] == 2 * found[0]


def test_counting_is_no_part_of_the_cost() -> None:
    pipe = load("search.candidates=1", "search.top_k=1")
    run = pipe.begin(PROMPT, num_frames=33, video=torch.rand(1, 9, 3, 64, 64))
    measured(pipe.search(run), pipe.pipe)
    assert run.cost.forwards == 0
    for _ in pipe.steps(run):
        pass
    run.session.close()
    given, made, steps = 1, 2, 4
    assert run.cost.forwards == given + made * steps + made - 1


def test_rewards_count_with_what_they_declare() -> None:
    class Large(Bright):
        weights_mb = 3.0

    pipe = streamt1.load("tinyworld", overrides=["rewards.replace=true"], rewards={"large": Large()})
    run = pipe.begin(PROMPT, num_frames=21)
    assert measured(pipe.search(run), pipe.pipe).rewards == 3_000_000, "one object on two horizons"
    run.session.close()


@pytest.mark.parametrize(
    ("override", "smaller"), [("search.offload=recompute", "states"), ("search.top_k=1", "memory")]
)
def test_the_knobs_it_names_help(override: str, smaller: str) -> None:
    found = []
    for overrides in ((), (override,)):
        pipe = load(*overrides)
        run = pipe.begin(PROMPT, num_frames=45)
        found.append(getattr(measured(pipe.search(run), pipe.pipe), smaller))
        run.session.close()
    assert found[1] < found[0]


def test_a_run_that_cannot_fit_is_refused_before_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_estimate, "free_bytes", lambda device: 1000)
    pipe = load()
    with pytest.raises(RecipeError, match=r"needs about .* MB on cpu besides the model \(.*\), and 1 kB are free"):
        pipe(PROMPT, num_frames=21)
    assert pipe.last_run.session.forwards == 0
    assert frames(load("placement.check=false")).shape[1] == 21
