"""Candidates of a bench: made from given noise, judged like those of a search, each with a number of its own."""

from __future__ import annotations

import math

import torch

from streamt1_plugins.probe.bench import SCORE, values
from tests.probe.models import Model, Quality, measurement


def test_a_candidate_is_made_of_its_noise() -> None:
    with measurement(Model(shares=(0.25, 0.75))).opened() as bench:
        beam, chunk = bench.root(), next(iter(bench.run.chunks()))
        noise = bench.noise(beam, 3)
        first, second = bench.made(chunk, beam, [noise, bench.noise(beam, 3)])
        assert noise.value.shape[:2] == (1, 2)
        assert torch.equal(first.latents, second.latents)
        assert torch.allclose(first.latents, 0.5 * noise.value[:, 0] + 0.75**0.5 * noise.value[:, 1])


def test_candidates_have_numbers_of_their_own_so_that_no_reward_mistakes_one_for_another() -> None:
    with measurement(Model()).opened() as bench:
        beam, chunk = bench.root(), next(iter(bench.run.chunks()))
        made = [each for seed in range(3) for each in bench.made(chunk, beam, [bench.noise(beam, seed)] * 2)]
        assert len({each.id for each in made}) == 6


def test_readings_are_those_of_the_rewards_and_the_score_ranks_them() -> None:
    with measurement(Model()).opened() as bench:
        beam, chunk = bench.root(), next(iter(bench.run.chunks()))
        made = bench.made(chunk, beam, [bench.noise(beam, seed) for seed in range(5)])
        found = values(bench.judged(made))
        means = [float(each.latents.mean()) * math.sqrt(24) for each in made]
        assert torch.allclose(torch.tensor(found["short.quality"]), torch.tensor(means), atol=1e-4)
        by_score = sorted(range(5), key=lambda index: found[SCORE][index])
        assert by_score == sorted(range(5), key=lambda index: means[index])


def test_without_rewards_there_are_no_values() -> None:
    with measurement(Model()).opened() as bench:
        beam, chunk = bench.root(), next(iter(bench.run.chunks()))
        assert values(bench.made(chunk, beam, [bench.noise(beam, 0)])) == {}


def test_second_readings_differ_by_the_error_alone() -> None:
    with measurement(Model(), exact=Quality(), rough=Quality(error=0.5)).opened() as bench:
        beam, chunk = bench.root(), next(iter(bench.run.chunks()))
        judged = bench.judged(bench.made(chunk, beam, [bench.noise(beam, seed) for seed in range(5)]))
        first, again = values(judged), bench.read_again(judged)
        assert first["short.exact"] == again["short.exact"]
        assert first["short.rough"] != again["short.rough"]


def test_the_pipeline_is_free_again_afterwards() -> None:
    measured = measurement(Model())
    with measured.opened() as bench:
        session = bench.session
    assert session.closed  # type: ignore[attr-defined]
    with measured.opened():
        pass
