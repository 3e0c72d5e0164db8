"""Survivors by chance: uniform, fixed by the seed, and in need of no reward."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.errors import RecipeError
from streamt1_plugins.plugins import build
from streamt1_plugins.plugins.resolve import resolve
from streamt1_plugins.policies.noise import fresh_seed
from streamt1_plugins.policies.random_pick import RandomPick, uniform
from streamt1_plugins.runs.report.strips import find
from streamt1_plugins.search.cost_estimate import at_most
from streamt1_plugins.testing import PolicyContract
from streamt1_plugins.testing.threads import together
from tests.launching import without_times
from tests.toy import PreviewingAdapter, ToyPipeline, ToySession


def run(*overrides: str, seed: int = 0, **options: Any) -> streamt1.StreamPipeline:
    pipe = streamt1.wrap(ToyPipeline(), "random-pick", overrides=overrides, **options)
    pipe.video = pipe("a prompt", chunks=6, generator=torch.Generator().manual_seed(seed))
    return pipe


def test_draws_are_uniform_and_belong_to_no_candidate() -> None:
    drawn = [uniform(seed, chunk, index) for seed in range(10) for chunk in range(10) for index in range(10)]
    assert all(0 <= each < 1 for each in drawn)
    assert len(set(drawn)) == 1000
    assert sum(drawn) / 1000 == pytest.approx(0.5, abs=0.03)
    assert uniform(3, 2, 1) == uniform(3, 2, 1)
    assert not {fresh_seed(3, 2, parent, 1) / 2**63 for parent in range(100)} & {uniform(3, 2, 1)}


def test_every_candidate_is_picked_equally_often() -> None:
    picked: Counter[int] = Counter()
    for seed in range(60):
        nodes = [node for node in run(seed=seed).tree if node.rank == 0]
        picked.update(node.ordinal for node in nodes)
    assert sum(picked.values()) == 360
    assert all(60 <= picked[ordinal] <= 120 for ordinal in range(4))  # 90 expected, 8 the standard deviation


def test_the_candidates_of_the_first_chunk_are_those_of_the_search_it_controls() -> None:
    ours, theirs = run().tree.chunk(0), streamt1.wrap(ToyPipeline(), "stream-t1")
    theirs("a prompt", chunks=6, generator=torch.Generator().manual_seed(0))
    assert [node.seed for node in ours] == [node.seed for node in theirs.tree.chunk(0)]
    assert [len(run().tree.chunk(index)) for index in range(6)] == [4] * 6


def test_no_reward_is_needed_and_none_is_taken() -> None:
    pipe = run()
    assert not pipe.recipe.rewards.are_named
    assert pipe.last_run.cost.readings == 0
    assert not any(node.readings for node in pipe.tree)
    bare = streamt1.wrap(ToyPipeline(), "random-pick", adapter="toy-bare")
    bare("a prompt")
    assert len(bare.tree) == 16
    with pytest.raises(RecipeError, match="suggests none"):
        streamt1.wrap(ToyPipeline(), "stream-t1", adapter="toy-bare")
    assert resolve(pipe.recipe, "toy") == resolve("random-pick", "toy")


def test_a_reward_that_is_named_is_measured_and_decides_nothing() -> None:
    blind, seeing = run(), run("rewards.long.bright={}", "rewards.short.scripted={}")
    assert torch.equal(blind.video, seeing.video)
    assert blind.tree.winner == seeing.tree.winner
    assert all({"short", "long"} == node.readings.keys() for node in seeing.tree)


def test_it_makes_no_close_calls() -> None:
    assert not run("search.batch=4").tree.notes


# What is decoded.


@dataclass
class Watching:
    """Takes every candidate, as any third party's observer may; `needs_frames` is not declared."""

    frames: dict[str, int] = field(default_factory=dict)

    @streamt1.hookimpl
    def streamt1_candidate_scored(self, candidate: streamt1.Candidate) -> None:
        self.frames[candidate.id] = len(candidate.decoded.frames)


class Unwatching(Watching):
    needs_frames: ClassVar[bool] = False


def nodes(pipe: streamt1.StreamPipeline) -> Any:
    return without_times(pipe.tree.to_dict()["nodes"])


@pytest.mark.parametrize("override", ["seed=0", "search.batch=4", "search.offload=recompute", "search.offload=cpu"])
def test_survivors_alone_are_decoded_and_nothing_else_changes(override: str) -> None:
    """The search with an observer that may look at frames is the one that decodes every candidate."""
    seen, unseen = Watching(), Unwatching()
    whole, ours = (run(override, observers={"watching": each}) for each in (seen, unseen))
    assert nodes(ours) == nodes(whole)
    assert torch.equal(ours.video, whole.video)
    assert set(seen.frames.values()) == {3}
    assert set(unseen.frames.values()) == {0}
    again = 12 * (override == "search.offload=recompute")
    assert whole.last_run.session.calls["decode"] == 24 + again
    assert ours.last_run.session.calls["decode"] == 12


@pytest.mark.parametrize("overrides", [(), ("search.offload=recompute",), ("revision=refine",), ("early.steps=2",)])
def test_the_cost_is_estimated(overrides: tuple[str, ...]) -> None:
    pipe = streamt1.wrap(ToyPipeline(), "random-pick", adapter="toy-previews", overrides=overrides)
    pipe("a prompt", chunks=6)
    expected = at_most(pipe.recipe, build.rewards(pipe.recipe), PreviewingAdapter().outline(18), pipe._policies)
    spent = pipe.last_run.cost.counts()
    counted = {name: count for name, count in spent.items() if hasattr(expected, name)}
    assert counted == {name: getattr(expected, name) for name in counted}
    assert spent["latent_frames_previewed"] == 0
    assert spent["latent_frames_decoded"] == pipe.last_run.session.calls["decode"] * 3


def test_a_page_has_pictures_of_all_candidates_from_previews(tmp_path: Path) -> None:
    pipe = streamt1.wrap(ToyPipeline(), "random-pick", adapter="toy-previews", observers=streamt1.record_to(tmp_path))
    pipe("a prompt", chunks=6)
    calls = pipe.last_run.session.calls
    assert (calls["preview"], calls["decode"]) == (24 + 12, 12)
    assert set(find(tmp_path)) == set(pipe.tree.nodes)
    assert not any(node.previewed for node in pipe.tree), "no reward has scored a preview"
    bare = streamt1.wrap(ToyPipeline(), "random-pick", adapter="toy-previews")
    bare("a prompt", chunks=6)
    assert nodes(pipe) == nodes(bare)


@pytest.mark.parametrize("observers", [(), ("watching",)])
def test_processes_that_share_candidates_decode_survivors_alone(observers: tuple[str, ...]) -> None:
    def started() -> streamt1.StreamPipeline:
        watching = {name: Watching() for name in observers}
        return streamt1.wrap(ToyPipeline(), "random-pick", adapter="toy-previews", observers=watching)

    def search(workers: Any) -> streamt1.StreamPipeline:
        pipe = started()
        pipe.workers = workers
        pipe.video = pipe("a prompt", chunks=6)
        return pipe

    expected = started()
    expected.video = expected("a prompt", chunks=6)
    for pipe in together([search, search]):
        assert nodes(pipe) == nodes(expected)
        assert torch.equal(pipe.video, expected.video)
        assert pipe.last_run.cost.counts() == expected.last_run.cost.counts()


def test_a_survivor_whose_frames_are_not_finite_makes_room_for_the_next_that_was_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decode = ToySession.decode

    def broken(self: Any, history: Any, latents: torch.Tensor) -> Any:
        """One in three, by its content."""
        made = zip(latents, decode(self, history, latents), strict=True)
        return [
            replace(each, frames=each.frames * (float("nan") if int(1000 * rows.sum().abs()) % 3 == 0 else 1))
            for rows, each in made
        ]

    monkeypatch.setattr(ToySession, "decode", broken)
    ours, whole = run(), run(observers={"watching": Watching()})
    assert any(node.fate == "invalid" for node in ours.tree)
    assert [(each.id, each.rank) for each in ours.tree] == [(each.id, each.rank) for each in whole.tree]
    assert torch.equal(ours.video, whole.video)


def test_a_person_who_chooses_sees_every_candidate() -> None:
    pipe = streamt1.wrap(ToyPipeline(), "random-pick")
    with pipe.take("a prompt", chunks=6) as take:
        assert [len(each.decoded.frames) for each in take.roll()] == [3] * 4


class TestRandomPick(PolicyContract):
    kind = "selection"

    def make_policy(self) -> RandomPick:
        return RandomPick()
