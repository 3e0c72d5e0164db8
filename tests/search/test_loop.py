"""The chunk loop on the toy pipeline: widths, order, seeds, invalid candidates, what is committed and recorded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.api.adapter import MemoryPlan
from streamt1_plugins.errors import PluginError
from streamt1_plugins.plugins.run_hooks import RunHooks
from streamt1_plugins.search.retrace import retrace
from tests.toy import Bright, ToyAdapter, ToyPipeline, ToySession, overflowing


def run(*overrides: str, recipe: str = "stream-t1", **call: object) -> streamt1.StreamPipeline:
    pipe = streamt1.wrap(ToyPipeline(), recipe, overrides=overrides)
    pipe.video = pipe("a prompt", **call)
    return pipe


def test_widths_fates_and_ranks() -> None:
    pipe = run("search.candidates=3", "search.top_k=2")
    assert [len(pipe.tree.chunk(i)) for i in range(4)] == [6, 6, 6, 6]
    for index in range(4):
        nodes = pipe.tree.chunk(index)
        assert sorted(node.rank for node in nodes if node.fate == "kept") == [0, 1]
        kept = min(node.score for node in nodes if node.fate == "kept")
        assert all(node.score <= kept for node in nodes if node.fate == "pruned")
    assert pipe.run.cost.candidates == 24


def test_children_belong_to_the_survivors_of_the_chunk_before() -> None:
    pipe = run()
    for node in pipe.tree:
        if node.chunk:
            assert pipe.tree.nodes[node.parent].fate == "kept"
    assert [node.id for node in pipe.tree.path(pipe.tree.winner[-1])] == list(pipe.tree.winner)


def test_only_survivors_are_committed() -> None:
    pipe = run("search.candidates=4", "search.top_k=1")
    assert pipe.run.session.calls["commit"] == 4
    assert pipe.run.session.calls["decode"] == 16


def test_seeds_are_unique_and_the_tree_is_reproducible() -> None:
    first, second = run(), run()
    seeds = [node.seed for node in first.tree]
    assert len(set(seeds)) == len(seeds)
    assert without_times(first) == without_times(second)
    assert torch.equal(first.video, second.video)
    assert [n.seed for n in run("seed=7").tree] != seeds


def without_times(pipe: streamt1.StreamPipeline) -> list[dict]:
    return [{k: v for k, v in node.items() if k != "seconds"} for node in pipe.tree.to_dict()["nodes"]]


def test_batch_size_changes_no_decision() -> None:
    one, many = run("search.batch=1"), run("search.batch=8")
    assert without_times(one) == without_times(many)
    assert many.run.session.calls["generate"] < one.run.session.calls["generate"]


def test_the_adapters_batch_limit_is_obeyed() -> None:
    pipe = run("search.batch=8", "adapter.max_batch=1")
    assert pipe.run.session.calls["generate"] == 16


def test_one_candidate_and_sigma_zero_is_the_plain_pipeline() -> None:
    one = run("search.candidates=1", "search.top_k=1", "noise.sigma=0", "seed=42")
    plain = run("seed=42", recipe="plain")
    session = ToyAdapter().open(
        None, {"prompt": "a prompt", "generator": torch.Generator().manual_seed(42)}, MemoryPlan()
    )
    history = session.root()
    for _ in range(session.num_chunks):
        latents = session.generate(history, session.draw(history, session.generator), [session.generator])
        history = session.commit(history, latents, session.decode(history, latents)[0], "discard")
    assert torch.equal(one.video, plain.video)
    assert torch.equal(plain.video, session.finish(history))


def test_the_users_generator_and_the_global_one_stay_untouched_by_candidates() -> None:
    generator = torch.Generator().manual_seed(5)
    before, world = generator.get_state(), torch.get_rng_state()
    pipe = run(generator=generator)
    assert torch.equal(generator.get_state(), before)
    assert torch.equal(torch.get_rng_state(), world)
    assert pipe.run.seed == 5


def test_noise_propagates_between_equal_shapes_only() -> None:
    pipe = run(chunks=5)
    flags = {index: {node.propagated for node in pipe.tree.chunk(index)} for index in range(5)}
    assert flags == {0: {False}, 1: {True}, 2: {True}, 3: {True}, 4: {False}}  # the toy's fifth chunk is shorter


@pytest.mark.parametrize("how", ["nan", "raise"])
def test_a_reward_that_fails_on_one_candidate_costs_only_that_candidate(how: str) -> None:
    pipe = run(f"rewards.short={{picky: {{options: {{how: {how}, ordinals: [0, 2]}}}}}}")
    nodes = pipe.tree.chunk(1)
    assert [node.fate == "invalid" for node in nodes] == [True, False, True, False]
    assert "picky" in (nodes[0].problem or "")
    assert len(pipe.tree.winner) == 4


def test_when_all_candidates_are_invalid_the_first_goes_on_and_the_tree_says_so() -> None:
    pipe = run("rewards.short={picky: {options: {ordinals: [0, 1, 2, 3]}}}")
    assert [node.fate for node in pipe.tree.chunk(1)] == ["kept", "invalid", "invalid", "invalid"]
    assert "no valid candidate" in pipe.tree.notes[0]
    assert len(pipe.tree.winner) == 4


@pytest.mark.parametrize("recipe", ["plain", "stream-t1"])
def test_frames_that_are_not_finite_make_a_candidate_invalid(
    recipe: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ToySession, "decode", overflowing(ToySession.decode, (1,)))
    pipe = run(recipe=recipe)
    problem = "The frames are not finite (NaN or infinity)."
    assert {node.problem for node in pipe.tree.chunk(1)} == {problem}
    assert all(node.is_valid for node in pipe.tree.chunk(0))
    assert f"Chunk 1: no valid candidate ({problem}); the first one was kept." in pipe.tree.notes
    assert f"Chunk 1: no valid candidate ({problem})" in caplog.text


def test_a_wrong_reward_shape_is_named() -> None:
    pipe = run("rewards.short={misshapen: {}}")
    assert "expected (1,)" in (pipe.tree.chunk(0)[0].problem or "")


def test_routes_are_decided_from_the_second_chunk_and_stored_at_commit() -> None:
    pipe = run("memory.long_threshold=0.0")
    assert all(node.route is None for node in pipe.tree.chunk(0))
    assert {node.route for node in pipe.tree if node.chunk} <= {"discard", "ema", "append"}
    winner = [node.route or "discard" for node in pipe.run.beams[0].path]
    assert pipe.run.beams[0].history.memory == tuple(winner)


def test_a_memory_that_cannot_be_routed_is_noted_once() -> None:
    pipe = run("adapter.routed=false")
    assert [note for note in pipe.tree.notes if "without memory sinking" in note] == pipe.tree.notes[:1]
    assert {node.route for node in pipe.tree} == {None}


def test_best_of_n_is_n_independent_videos_and_the_best_whole_one() -> None:
    pipe = run(recipe="best-of-n")
    assert [len(pipe.tree.chunk(i)) for i in range(4)] == [4, 4, 4, 4]
    assert len(pipe.tree.final) == 4
    assert pipe.tree.final[pipe.tree.winner[-1]] == max(pipe.tree.final.values())
    roots = {pipe.tree.path(beam.path[-1].id)[0].id for beam in pipe.run.beams}
    assert len(roots) == 4


def test_the_final_choice_can_keep_the_best_rank() -> None:
    pipe = run("search.final=last_chunk")
    assert pipe.tree.final == {}
    assert pipe.tree.nodes[pipe.tree.winner[-1]].rank == 0


def test_cold_decode_scores_the_window_from_an_empty_decoder() -> None:
    rewards = {"in_short": Bright(), "in_long": Bright()}
    named = ["rewards.short={in_short: {}}", "rewards.long={in_long: {}}"]
    streamt1.wrap(ToyPipeline(), "stream-t1-paper", overrides=named, rewards=rewards)("a prompt")
    short, long = rewards["in_short"].calls, rewards["in_long"].calls
    assert {tuple(inp.video.shape[:2]) for inp in short if inp.video.shape[1] == 3} == {(4, 3)}
    assert max(inp.video.shape[1] for inp in long) == 12
    assert all(torch.equal(inp.video * 255, (inp.video * 255).round()) for inp in long)


class OtherTopK:
    @streamt1.hookimpl
    def streamt1_select(self, candidates: list) -> list:
        return candidates[:1]


class Nobody:
    @streamt1.hookimpl(wrapper=True)
    def streamt1_select(self):
        yield
        return []


def test_two_answers_to_one_decision_are_an_error_naming_both() -> None:
    pipe = streamt1.wrap(ToyPipeline(), observers={"rival": OtherTopK()})
    with pytest.raises(PluginError, match=r"streamt1_select has 2 answers.*rival"):
        pipe("a prompt")


def test_a_missing_answer_names_the_parts_asked() -> None:
    with pytest.raises(PluginError, match=r"No plugin of this run answered streamt1_score. Its plugins: top"):
        RunHooks(None, [("top", OtherTopK())]).score(None, None)


def test_a_selection_that_keeps_nobody_is_an_error() -> None:
    pipe = streamt1.wrap(ToyPipeline(), observers={"nobody": Nobody()})
    with pytest.raises(PluginError, match="returned none; at least one"):
        pipe("a prompt")


class Wrong:
    @streamt1.hookimpl(wrapper=True)
    def streamt1_route_memory(self):
        yield
        return "keep"


def test_an_unknown_route_is_an_error_naming_the_known_ones() -> None:
    pipe = streamt1.wrap(ToyPipeline(), observers={"wrong": Wrong()})
    with pytest.raises(PluginError, match=r"'keep'.*append, discard, ema"):
        pipe("a prompt")


def test_a_recorded_path_can_be_walked_again_at_plain_cost() -> None:
    first = run()
    pipe = streamt1.wrap(ToyPipeline())
    again = pipe.begin("a prompt")
    retrace(pipe.search(again), first.tree, [first.run.beams[0].path])
    (beam,) = again.beams
    assert torch.equal(torch.cat(beam.history.frames), first.video)
    assert beam.history.memory == first.run.beams[0].history.memory
    assert again.session.calls["generate"] == 4


def test_a_search_goes_on_from_given_beams() -> None:
    first = run()
    pipe = streamt1.wrap(ToyPipeline())
    again = pipe.begin("a prompt")
    retrace(pipe.search(again), first.tree, [first.run.beams[0].path[:2]])
    chunks = [chunk.index for chunk in pipe.search(again).chunks()]
    assert chunks == [2, 3]


class Greedy:
    """Keeps the best candidate twice, or one that it was not given."""

    def __init__(self, pick: Any) -> None:
        self.pick = pick

    @streamt1.hookimpl
    def streamt1_select(self, candidates: list) -> list:
        return self.pick(candidates)


@pytest.mark.parametrize(
    "pick",
    [lambda given: [given[0], given[0]], lambda given: [replace(given[0], ordinal=99)]],
    ids=["twice", "unknown"],
)
def test_a_selection_of_other_candidates_than_those_given_is_an_error(pick: Any) -> None:
    pipe = streamt1.wrap(ToyPipeline(), policies={"selection": Greedy(pick)})
    with pytest.raises(PluginError, match=r"streamt1_select returned .*each of them once"):
        pipe("a prompt")
