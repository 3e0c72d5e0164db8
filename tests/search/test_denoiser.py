"""Rewards that judge with the video model: what they are given, what it costs, and where it cannot be had."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.errors import PluginError, RecipeError
from streamt1_plugins.evaluation.remote.wire import offer
from streamt1_plugins.plugins import build
from streamt1_plugins.plugins.resolve import resolve
from streamt1_plugins.runs.observers.journal import Journal
from streamt1_plugins.search import offload
from streamt1_plugins.search.cost_estimate import estimate
from streamt1_plugins.search.denoiser import predictions, seed_of
from streamt1_plugins.testing.searches import UNSEEN, Interrupted, StopAfter
from streamt1_plugins.testing.threads import together
from tests.launching import without_times
from tests.toy import Predicted, PredictingSession, ToyPipeline

LONG, SHORT = "rewards={replace: true, long: {predicted: {}}}", "rewards={replace: true, short: {predicted: {}}}"


def wrapped(*overrides: str, adapter: str = "toy-predicts", rewards: Any = None, **observers: Any) -> Any:
    return streamt1.wrap(
        ToyPipeline(), "stream-t1", adapter=adapter, overrides=overrides, rewards=rewards, observers=observers
    )


def run(*overrides: str, **options: Any) -> Any:
    pipe = wrapped(*overrides, **options)
    pipe("a prompt")
    return pipe


def nodes(pipe: Any) -> Any:
    return without_times(pipe.tree.to_dict()["nodes"])


# What a reward is given.


def test_a_reward_reads_the_chunk_its_past_and_the_models_flow() -> None:
    reward = Predicted()
    pipe = run("rewards={replace: true, long: {mine: {}}}", rewards={"mine": reward})
    by_chunk = {inp.chunk: inp.denoiser for inp in reward.calls}
    history = pipe.last_run.beams[0].history
    assert by_chunk[0].before is None
    winner = {node: pipe.tree.nodes[node] for node in pipe.tree.winner}
    for inp in reward.calls:
        model, node = inp.denoiser, inp.frame_ids[0][-1][0]
        if node in winner:
            assert torch.equal(model.latents, history.latents[inp.chunk])
            past = history.latents[inp.chunk - 1].mean() if inp.chunk else torch.zeros(())
            assert torch.equal(model.predict(model.latents, 0.5), model.latents * 0.5 - past + 0.5)
            if inp.chunk:
                assert torch.equal(model.before, history.latents[inp.chunk - 1][:, :, -1:])


def test_no_other_reward_is_given_the_model() -> None:
    from tests.toy import Bright

    bright = Bright()
    run("rewards={replace: true, short: {mine: {}}, long: {predicted: {}}}", rewards={"mine": bright})
    assert bright.calls
    assert all(inp.denoiser is None for inp in bright.calls)


def test_draws_follow_from_the_seed_and_the_chunk_alone() -> None:
    def drawn(*overrides: str) -> dict[int, torch.Tensor]:
        reward = Predicted()
        run("rewards={replace: true, long: {mine: {}}}", *overrides, rewards={"mine": reward})
        noises: dict[int, list[torch.Tensor]] = {}
        for inp in reward.calls:
            noises.setdefault(inp.chunk, []).extend(inp.denoiser.noise(0))
        assert all(torch.equal(each, some[0]) for some in noises.values() for each in some)
        return {chunk: some[0] for chunk, some in noises.items()}

    one, other, reseeded = drawn(), drawn("search.candidates=3", "search.batch=4"), drawn("seed=7")
    assert all(torch.equal(one[chunk], other[chunk]) for chunk in one)
    assert not torch.equal(one[0], one[1])
    assert not torch.equal(one[0], reseeded[0])
    assert len({seed_of(seed, chunk, draw) for seed in range(4) for chunk in range(4) for draw in range(4)}) == 64


def test_what_comes_of_a_chunk_is_the_mean_for_the_whole_video() -> None:
    pipe = run(LONG)
    for last, score in pipe.tree.final.items():
        path = pipe.tree.path(last)
        assert score == pytest.approx(fmean(node.readings["long"]["predicted"].raw for node in path))


def test_one_chunk_left_out_leaves_the_reward_out_of_the_final_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    predict = PredictingSession.predict

    def failing(self: Any, history: Any, *rest: Any, **kind: Any) -> torch.Tensor:
        if history.index == 1:
            raise ZeroDivisionError("no luck")
        return predict(self, history, *rest, **kind)

    monkeypatch.setattr(PredictingSession, "predict", failing)
    pipe = run("rewards={replace: true, long: {predicted: {on_error: skip}, bright: {}}}")
    assert all("predicted" not in node.readings["long"] for node in pipe.tree.chunk(1))
    assert all("predicted" in node.readings["long"] for node in pipe.tree.chunk(2))
    assert pipe.tree.final.keys() == {beam.path[-1].id for beam in pipe.last_run.beams}
    with pytest.raises(PluginError, match=r"predict\(\) of adapter .toy-predicts. failed: .*no luck"):
        run("rewards={replace: true, long: {predicted: {on_error: raise}}}")


# What it costs.


@pytest.mark.parametrize(
    "overrides",
    [
        (LONG,),
        (SHORT, "search.candidates=3"),
        ("rewards={replace: true, short: {predicted: {}}, long: {predicted: {}}}",),
        ("rewards={replace: true, keep: 0.5, long: {bright: {}, predicted: {stage: 2}}}", "search.top_k=1"),
        (LONG, "search.candidates=1", "search.top_k=1"),
    ],
)
def test_forwards_are_estimated_as_they_are_spent(overrides: tuple[str, ...]) -> None:
    pipe = wrapped(*overrides)
    estimated = pipe.cost("a prompt")
    pipe("a prompt")
    cost = pipe.last_run.cost
    assert cost.forwards == estimated.forwards == pipe.last_run.session.forwards
    assert (cost.reward_calls, cost.readings) == (estimated.reward_calls, estimated.readings)
    found = pipe.last_run.recipe
    assert estimate(found, build.rewards(found), pipe.last_run.session.outline()).forwards == cost.forwards


def test_a_budget_of_forwards_pays_for_predictions() -> None:
    for budget in (100, 150):
        pipe = run(LONG, f"width={{name: budget, forwards: {budget}}}")
        assert pipe.last_run.cost.forwards <= budget


def test_the_cost_without_an_outline_has_the_predictions() -> None:
    from streamt1_plugins.search.cost_estimate import describe

    recipe = wrapped(LONG).recipe
    assert "4 S + 8 + 2 transformer forwards" in describe(recipe, object(), build.rewards(recipe))  # type: ignore[arg-type]


# The same readings however a search is run.


@pytest.mark.parametrize("search", ["search.batch=1", "search.batch=3", "search.batch=4"])
def test_batches_predict_as_many_as_they_denoise(search: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, predict = [], PredictingSession.predict

    def seen(self: Any, history: Any, noisy: torch.Tensor, *rest: Any, **kind: Any) -> torch.Tensor:
        sizes.append(len(noisy))
        assert not noisy.is_inference()
        return predict(self, history, noisy, *rest, **kind)

    monkeypatch.setattr(PredictingSession, "predict", seen)
    alone, pipe = run(LONG, "search.candidates=4"), run(LONG, "search.candidates=4", search)
    assert max(sizes) <= int(search[-1])
    raws = [[node.readings["long"]["predicted"].raw for node in each.tree] for each in (alone, pipe)]
    assert raws[0] == pytest.approx(raws[1])


def test_memory_of_beams_comes_back_for_a_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offload, "is_host", lambda tensor: False)
    assert nodes(run(LONG, "search.offload=cpu")) == nodes(run(LONG))


def test_an_interrupted_search_resumes_with_the_same_readings(tmp_path: Path) -> None:
    folder, expected = tmp_path / "run", run(LONG)
    with pytest.raises(Interrupted):
        run(LONG, journal=Journal(str(folder)), stop=StopAfter(1))
    pipe = streamt1.resuming.open_interrupted(folder, ToyPipeline(), observers=UNSEEN)
    pipe.complete(pipe.last_run)
    assert nodes(pipe) == nodes(expected)
    assert pipe.tree.final == expected.tree.final
    assert pipe.last_run.cost.forwards == expected.last_run.cost.forwards


def test_processes_predict_for_the_candidates_they_have() -> None:
    expected = run(LONG)

    def search(workers: Any) -> Any:
        pipe = wrapped(LONG)
        pipe.workers = workers
        pipe("a prompt")
        return pipe

    for pipe in together([partial(search)] * 2):
        assert nodes(pipe) == nodes(expected)
        assert pipe.tree.final == expected.tree.final
        assert pipe.last_run.cost.forwards == expected.last_run.cost.forwards


# Where it cannot be had.


def test_a_model_that_cannot_predict_is_refused_with_those_that_can() -> None:
    pipe = wrapped(LONG, adapter="toy")
    with pytest.raises(RecipeError, match=r"'toy' cannot .*: the adapter has no `predict`\. Adapters that can: .*wan"):
        pipe("a prompt")
    assert pipe.last_run.cost.candidates == 0


@pytest.mark.parametrize("name", ["skyreels", "framepack"])
def test_an_adapter_that_refuses_is_named_before_a_model_is_loaded(name: str) -> None:
    with pytest.raises(RecipeError) as refused:
        resolve({"extends": "stream-t1", "rewards": {"long": {"self": {}}}}, "a/model", adapter=name)
    message = str(refused.value)
    assert f"the adapter {name!r} cannot" in message
    assert "Adapters that can: anyflow, helios, tinyworld" in message
    assert name not in message.partition("Adapters that can")[2]


def test_a_session_may_state_its_own_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PredictingSession, "prediction_problem", "a part is missing")
    with pytest.raises(RecipeError, match="a part is missing"):
        run(LONG)


def test_it_cannot_be_served_to_another_process() -> None:
    with pytest.raises(PluginError, match=r"'mine' judges with the video model, .*Leave `where` out"):
        offer("mine", Predicted(), 2**20)


def test_a_flow_of_another_shape_is_the_adapters_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PredictingSession, "predict", lambda self, history, noisy, *_, **__: noisy[:, :, :1])
    pipe = run(LONG)
    assert "predict() of adapter 'toy-predicts' gave a flow [1, 2, 1, 2, 2]" in str(pipe.tree.chunk(0)[0].problem)


def test_a_reward_that_changes_the_latents_is_impure() -> None:
    class Greedy(Predicted):
        def score(self, inp: Any) -> streamt1.RewardOutput:
            inp.denoiser.latents.zero_()
            return super().score(inp)

    with pytest.raises(PluginError, match="changed its input in place"):
        run("rewards={replace: true, long: {mine: {}}}", rewards={"mine": Greedy()})


def test_a_wrong_number_of_calls_is_named() -> None:
    class Odd(Predicted):
        def denoiser_calls(self) -> Any:
            return "two"

    with pytest.raises(PluginError, match=r"denoiser_calls\(\) gave 'two', expected a number of calls"):
        run("rewards={replace: true, long: {mine: {}}}", rewards={"mine": Odd()})


def test_previews_are_predicted_too() -> None:
    recipe = wrapped(LONG).recipe
    early = recipe.model_copy(update={"early": recipe.early.model_copy(update={"steps": 1})})
    assert [predictions(each, build.rewards(each)) for each in (recipe, early)] == [2, 4]
