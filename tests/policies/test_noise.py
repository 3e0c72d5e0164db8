"""Noise propagation and seeds, against the paper's formula and noise recorded from the authors' release."""

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
from streamt1_plugins.policies.noise import Propagate, fresh_seed, inherited, propagate, release_seed

GOLDEN = Path(__file__).parents[1] / "golden" / "cases" / "formulas.json"


def draw(seed: int, size: int = 200_000) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


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


def test_draws_inherit_by_their_place() -> None:
    parent, fresh = draw(1, 96).view(1, 3, 2, 4, 2, 2), draw(2, 64).view(1, 2, 2, 4, 2, 2)
    every = inherited(parent, fresh, 0.5, "all")
    first = inherited(parent, fresh, 0.5, "initial")
    assert every is not None
    assert first is not None
    assert torch.equal(every, propagate(parent[:, :2], fresh, 0.5))
    assert torch.equal(first[:, :1], every[:, :1])
    assert torch.equal(first[:, 1:], fresh[:, 1:])
    longer = inherited(fresh, parent, 0.5, "all")
    assert longer is not None
    assert torch.equal(longer[:, 2:], parent[:, 2:])  # the parent has no third draw


def test_a_single_draw_is_all_draws() -> None:
    parent, fresh = draw(1, 32).view(1, 2, 4, 2, 2), draw(2, 32).view(1, 2, 4, 2, 2)
    for draws in ("initial", "all"):
        mixed = inherited(parent, fresh, -0.1, draws)  # type: ignore[arg-type]
        assert mixed is not None
        assert torch.equal(mixed, propagate(parent, fresh, -0.1))


def test_noise_of_another_length_has_nothing_to_inherit() -> None:
    parent = torch.zeros(1, 2, 4, 2, 2)
    assert inherited(parent, torch.zeros(1, 2, 3, 2, 2), 0.5, "all") is None
    assert inherited(parent.unsqueeze(1), torch.zeros(1, 5, 2, 3, 2, 2), 0.5, "all") is None


def test_a_parent_from_before_draws_were_values_gives_its_initial_noise() -> None:
    parent, fresh = torch.ones(1, 2, 4, 2, 2), torch.zeros(1, 3, 2, 4, 2, 2)
    mixed = inherited(parent, fresh, 0.5, "all")
    assert mixed is not None
    assert mixed[:, 0].eq(0.5).all()
    assert mixed[:, 1:].eq(0).all()


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
