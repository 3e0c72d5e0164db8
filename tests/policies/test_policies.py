"""The three units as pure functions, against the paper's formulas and tables recorded from the authors' release."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from streamt1_plugins.api.adapter import History
from streamt1_plugins.api.candidate import Beam
from streamt1_plugins.api.types import Chunk, Node
from streamt1_plugins.config.load import load
from streamt1_plugins.policies.memory import Fixed, RewardFeedback, feedback, route
from streamt1_plugins.policies.noise import Propagate, fresh_seed, propagate, release_seed
from streamt1_plugins.policies.scoring import Hybrid, accumulated, hybrid
from streamt1_plugins.policies.selection import top_k

GOLDEN = Path(__file__).parents[1] / "golden" / "cases" / "formulas.json"
NAN = math.nan


def draw(seed: int, size: int = 200_000) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


# Noise propagation.


@pytest.mark.parametrize("sigma", [-0.9, -0.1, 0.0, 0.3, 1.0])
def test_fresh_noise_keeps_unit_variance_along_a_chain(sigma: float) -> None:
    noise = draw(0)
    for seed in range(1, 7):
        mixed = propagate(noise, draw(seed), sigma)
        assert float(mixed.std()) == pytest.approx(1, abs=0.01)
        assert float((mixed * noise).mean()) == pytest.approx(sigma, abs=0.01)
        noise = mixed


def test_the_releases_repeated_seed_loses_variance() -> None:
    noise, stds = draw(0), []
    for _ in range(12):
        noise = propagate(noise, draw(0), -0.1)
        stds.append(float(noise.std()))
    assert stds[0] == pytest.approx(0.895, abs=0.003)
    assert stds[-1] == pytest.approx(math.sqrt(1 - 0.01) / 1.1, abs=0.003)  # 0.9045


def test_sigma_zero_is_fresh_noise_and_one_the_parents() -> None:
    parent, fresh = draw(1, 10), draw(2, 10)
    assert torch.equal(propagate(parent, fresh, 0.0), fresh)
    assert torch.equal(propagate(parent, fresh, 1.0), parent)


def test_fresh_seeds_do_not_collide_and_fit_every_generator() -> None:
    wide = [fresh_seed(42, c, p, i) for c in range(40) for p in range(16) for i in range(128)]
    assert len(set(wide)) == len(wide) == 40 * 16 * 128
    assert all(0 <= seed < 2**63 for seed in wide)
    assert fresh_seed(42, 1, 2, 3) == fresh_seed(42, 1, 2, 3) != fresh_seed(43, 1, 2, 3)


def test_fresh_seeds_are_what_they_always_were() -> None:
    assert fresh_seed(42, 0, 0, 0) == 4945949205331585457  # a change here breaks the replay of recorded runs


@pytest.mark.parametrize(
    ("chunk", "parent", "index", "last", "seed"),
    [
        (0, 0, 3, None, 45),
        (0, 0, 2**64 - 42, None, 0),
        (1, 0, 0, 45, 45),
        (5, 1, 0, 1043, 1043),
        (1, 0, 1, 45, 1043),
        (6, 1, 1, 45, 6143),
    ],
)
def test_release_seeds(chunk: int, parent: int, index: int, last: int | None, seed: int) -> None:
    assert release_seed(42, chunk, parent, index, last) == seed


def run_of(**recipe: Any) -> Any:
    session = SimpleNamespace(draw=lambda history, generator: torch.randn(1, 1, 2, 2, 2, generator=generator))
    return SimpleNamespace(recipe=load(recipe), session=session, seed=42, is_plain=not load(recipe).search.is_wide)


def test_proposals_are_as_many_as_asked_for_and_reuse_the_parents_seed_only_in_release_mode() -> None:
    run = run_of(search={"candidates": 3, "top_k": 2})
    beam = Beam(History(index=1), (Node(chunk=0, ordinal=1, parent=None, seed=43),), torch.zeros(1, 1, 2, 2, 2), 1)
    first = Propagate(seeds="release").streamt1_propose_noise(run, Chunk(0, 4), Beam(History()), 6)
    later = Propagate(seeds="release").streamt1_propose_noise(run, Chunk(1, 4), beam, 3)
    assert [proposal.seed for proposal in first] == [42, 43, 44, 45, 46, 47]
    assert [proposal.seed for proposal in later] == [43, 1143, 1144]
    fresh = Propagate().streamt1_propose_noise(run, Chunk(1, 4), beam, 3)
    assert [proposal.seed for proposal in fresh] == [fresh_seed(42, 1, 1, i) for i in range(3)]
    assert all(proposal.propagated for proposal in fresh)
    assert torch.equal(fresh[0].noise, math.sqrt(0.99) * fresh_noise(fresh[0].seed))


def fresh_noise(seed: int) -> torch.Tensor:
    return torch.randn(1, 1, 2, 2, 2, generator=torch.Generator().manual_seed(seed))


# Scoring.


@pytest.mark.parametrize(
    ("short", "long", "progress", "expected"),
    [(10, 1, 0.0, 1), (10, 1, 0.25, 3.25), (10, 1, 0.4, 4.6), (10, 1, 1.0, 4.6)],
)
def test_hybrid_weighs_the_short_reward_by_progress_up_to_the_cap(
    short: float, long: float, progress: float, expected: float
) -> None:
    assert hybrid(short, long, progress, cap=0.4) == pytest.approx(expected)


def test_hybrid_leaves_the_score_to_the_horizon_that_was_measured() -> None:
    assert hybrid(3, NAN, 0.0, 0.4) == 3
    assert hybrid(NAN, 5, 1.0, 0.4) == 5
    assert hybrid(NAN, NAN, 1.0, 0.4) == 0


def judged(window: int | None, decay: float = 1.0, **options: Any) -> float:
    """The score of chunk 3 of 5 after chunks that measured 10, nothing, 2 and 4; its own rewards are 8."""
    path = (measured(0, 10, 10), measured(1, NAN, NAN), measured(2, 2, 2))
    candidate: Any = SimpleNamespace(beam=Beam(History(index=3), path), short=8.0, long=8.0)
    run: Any = None
    return Hybrid(window=window, decay=decay, **options).streamt1_score(run, Chunk(3, 5), candidate)


def test_the_score_is_this_chunks_alone_unless_told_otherwise() -> None:
    assert Hybrid() == Hybrid(cap=0.4, horizon="both", window=1, decay=1.0)
    assert judged(1) == judged(1, decay=0.5) == 8


def test_scores_are_averaged_over_a_window_or_the_whole_path() -> None:
    assert judged(2) == pytest.approx((2 + 8) / 2)
    assert judged(3) == pytest.approx((2 + 8) / 2)  # what was not measured is left out
    assert judged(None) == judged(99) == pytest.approx((10 + 2 + 8) / 3)


def test_older_chunks_count_less_with_a_decay() -> None:
    assert judged(None, decay=0.5) == pytest.approx((0.25 * 10 + 0.5 * 2 + 8) / 1.75)
    assert accumulated([3.0], 0.1) == 3
    assert accumulated([-1.0, 1.0, 1.0], 1e-9) == pytest.approx(1)


def test_each_chunk_of_a_path_has_its_own_balance_of_the_rewards() -> None:
    path = (measured(0, 1, 0), measured(1, 1, 0))
    candidate: Any = SimpleNamespace(beam=Beam(History(index=2), path), short=1.0, long=0.0)
    run: Any = None
    assert Hybrid(window=None).streamt1_score(run, Chunk(2, 5), candidate) == pytest.approx((0 + 0.25 + 0.4) / 3)


@pytest.mark.parametrize(
    ("horizon", "short", "long", "expected"),
    [
        ("short", 10, 1, 10),
        ("long", 10, 1, 1),
        ("both", 10, 1, 4.6),
        ("short", NAN, 1, 1),
        ("long", 10, NAN, 10),
        ("short", NAN, NAN, 0),
    ],
)
def test_one_horizon_alone_can_decide(horizon: Any, short: float, long: float, expected: float) -> None:
    candidate: Any = SimpleNamespace(beam=Beam(History()), short=short, long=long)
    run: Any = None
    assert Hybrid(horizon=horizon).streamt1_score(run, Chunk(9, 10), candidate) == pytest.approx(expected)


# Selection.


def scored(*scores: float) -> list[Node]:
    return [Node(chunk=0, ordinal=i, parent=None, seed=i, score=score) for i, score in enumerate(scores)]


@pytest.mark.parametrize(
    ("scores", "k", "kept"),
    [
        ((1, 3, 2), 2, [1, 2]),
        ((2, 2, 2), 2, [0, 1]),
        ((1, 2, 2, 1), 3, [1, 2, 0]),
        ((1, 2), 5, [1, 0]),
        ((0.0, -0.0), 1, [0]),
        ((-math.inf, -1e308), 1, [1]),
    ],
)
def test_top_k_is_stable(scores: tuple[float, ...], k: int, kept: list[int]) -> None:
    candidates: list[Any] = scored(*scores)
    assert [candidate.ordinal for candidate in top_k(candidates, k)] == kept
    assert [candidate.ordinal for candidate in top_k(candidates[::-1], k)] == kept


@pytest.mark.parametrize(
    ("parents", "k", "per_parent", "kept"),
    [
        ("aaab", 2, 1, [0, 3]),
        ("aaab", 2, 2, [0, 1]),
        ("aaab", 2, None, [0, 1]),
        ("aaab", 3, 1, [0, 1, 3]),  # too few parents: the next best fills up, and ranks stay those of the scores
        ("aaaa", 3, 1, [0, 1, 2]),
        ("aabb", 9, 1, [0, 1, 2, 3]),
        ("abab", 1, 1, [0]),
        ("    ", 3, 1, [0, 1, 2]),  # the first chunk: children of nobody compete freely
    ],
)
def test_a_quota_keeps_survivors_of_several_parents(
    parents: str, k: int, per_parent: int | None, kept: list[int]
) -> None:
    candidates: list[Any] = [
        Node(chunk=1, ordinal=i, parent=parent.strip() or None, seed=i, score=-i) for i, parent in enumerate(parents)
    ]
    assert [candidate.ordinal for candidate in top_k(candidates, k, per_parent)] == kept
    assert [candidate.ordinal for candidate in top_k(candidates[::-1], k, per_parent)] == kept


# Memory routing.


@pytest.mark.parametrize(
    ("gain", "loss", "expected"),
    [
        (0.1, 0.0, "ema"),
        (0.1, 0.3, "append"),
        (-0.1, 0.3, "discard"),
        (-0.1, 0.0, "discard"),
        (0.0, 0.3, "discard"),  # thresholds are strict
        (0.1, 0.2, "ema"),
        (NAN, 0.3, "discard"),
        (0.1, NAN, "ema"),
    ],
)
def test_route_table(gain: float, loss: float, expected: str) -> None:
    assert route(gain, loss, short_threshold=0.0, long_threshold=0.2) == expected


def measured(chunk: int, short: float, long: float = 0.0) -> Node:
    return Node(chunk=chunk, ordinal=0, parent=None, seed=0, short=short, long=long)


def test_feedback_compares_with_the_window_or_with_everything() -> None:
    past = [measured(0, 10), measured(1, 2), measured(2, 4, long=3)]
    assert feedback(past, measured(3, 5, long=1), None) == (pytest.approx(5 - 16 / 3), 2)
    assert feedback(past, measured(3, 5, long=1), 2) == (2, 2)
    assert feedback(past, measured(3, 5, long=1), 99) == feedback(past, measured(3, 5, long=1), None)


@pytest.mark.parametrize(
    ("window", "history", "expected"), [(3, "window", "ema"), (3, "all", "discard"), (1, "window", "ema")]
)
def test_reward_feedback_looks_back_as_far_as_it_is_told(window: int, history: Any, expected: str) -> None:
    beam = Beam(History(index=3), (measured(0, 10), measured(1, 2), measured(2, 4)))
    candidate: Any = SimpleNamespace(beam=beam, short=5.0, long=0.0)
    run: Any = SimpleNamespace(recipe=load({"rewards": {"window": window}}))
    assert RewardFeedback(history=history).streamt1_route_memory(run, candidate) == expected


def test_fixed_routes_everything_alike() -> None:
    assert Fixed().streamt1_route_memory() == "discard"
    assert Fixed("append").streamt1_route_memory() == "append"


# Tables recorded from the authors' release.


@pytest.fixture(scope="module")
def golden() -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    if not GOLDEN.exists():
        pytest.skip("the recorded formulas are not in this checkout")
    return json.loads(GOLDEN.read_text(encoding="utf-8")), load_file(GOLDEN.with_suffix(".safetensors"))


@pytest.mark.parametrize("kind", ["f32", "bf16"])
def test_propagated_noise_is_the_releases(golden: Any, kind: str) -> None:
    info, tensors = golden
    for case in info["noise_propagation"]:
        name = f"noise.{case['case']}.{kind}"
        parent = tensors[f"{name}.fused0"]
        for j in range(1, len(case["seeds"])):
            expected = tensors[f"{name}.fused{j}"]
            parent = propagate(parent, tensors[f"{name}.sample{j}"], case["sigma"])
            assert parent.dtype == expected.dtype
            if kind == "bf16":
                assert torch.equal(parent, expected)
            torch.testing.assert_close(parent, expected, atol=1e-6, rtol=0)


def test_routes_and_scores_are_the_releases(golden: Any) -> None:
    rows = golden[0]["routing"]
    assert {row["route"] for row in rows} == {None, "discard", "ema", "append"}
    for row in rows:
        progress = row["start_frame"] / (row["total_frames"] - row["frames_per_chunk"])
        assert hybrid(row["short"], row["long"], progress, row["alpha_cap"]) == pytest.approx(row["hybrid"], abs=1e-12)
        if row["chunk"]:
            past = [
                measured(i, *pair) for i, pair in enumerate(zip(row["short_history"], row["long_history"], strict=True))
            ]
            gain, loss = feedback(past, measured(row["chunk"], row["short"], row["long"]), None)
            assert route(gain, loss, row["short_threshold"], row["long_threshold"]) == row["route"]
