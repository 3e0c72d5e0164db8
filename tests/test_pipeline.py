"""The wrapper: which adapter drives what, pass-through, streaming, endings, seeds and reproducible recipes."""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.api.hookspecs import hookimpl
from streamt1_plugins.config import load as recipes
from streamt1_plugins.errors import (
    InputError,
    PluginError,
    RecipeError,
    UnknownNameError,
    UnsupportedPipelineError,
)
from tests.third_party.fresh import fresh_discovery, plugin
from tests.toy import Bright, Picky, ToyPipeline

if TYPE_CHECKING:
    from pathlib import Path


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def wrap(*overrides: str, recipe: Any = "stream-t1", observers: Any = None) -> streamt1.StreamPipeline:
    return streamt1.wrap(ToyPipeline(), recipe, overrides=overrides, observers=observers)


# Which adapter.


class UnheardPipeline:
    pass


class WanPipeline:
    """A stand-in with the name of the diffusers class."""


class SubclassPipeline(ToyPipeline):
    pass


def test_an_unsupported_class_lists_the_supported_ones() -> None:
    with pytest.raises(UnsupportedPipelineError, match=r"No adapter drives UnheardPipeline\..*toy \(ToyPipeline\)"):
        streamt1.wrap(UnheardPipeline())


def test_a_wan_pipeline_needs_an_explicit_adapter() -> None:
    with pytest.raises(UnsupportedPipelineError, match=r"WanPipeline: a causal Wan.*name it with adapter='wan'"):
        streamt1.wrap(WanPipeline())
    wan = recipes.load("plain", ["adapter=wan"])
    assert streamt1.wrap(WanPipeline(), wan).recipe.adapter.name == "wan"
    assert streamt1.wrap(WanPipeline(), "plain", adapter="wan").recipe == streamt1.wrap(WanPipeline(), wan).recipe


def test_two_adapters_that_claim_one_class_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    @hookimpl
    def claim(register: Any) -> None:
        register("rival", pipelines=("ToyPipeline",), target="tests.toy:ToyAdapter")

    fresh_discovery(monkeypatch, rivals=plugin(streamt1_register_adapters=claim))
    with pytest.raises(UnsupportedPipelineError, match=r"toy \(tests\), rival \(the rivals distribution\)\. Choose"):
        wrap()
    assert streamt1.wrap(ToyPipeline(), "plain", adapter="rival").recipe.adapter.name == "rival"


def test_an_unknown_adapter_gets_a_guess() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown adapter 'tooy'\. Did you mean 'toy'"):
        streamt1.wrap(ToyPipeline(), adapter="tooy")


def test_a_subclass_is_driven_like_its_base() -> None:
    assert streamt1.wrap(SubclassPipeline()).recipe.adapter.name == "toy"


def test_a_search_without_rewards_is_an_error_where_the_adapter_suggests_none() -> None:
    with pytest.raises(
        RecipeError, match=r"names no rewards, and the adapter 'toy-bare' suggests none\..*Known: .*bright"
    ):
        streamt1.wrap(ToyPipeline(), adapter="toy-bare")
    assert streamt1.wrap(ToyPipeline(), "plain", adapter="toy-bare").recipe.rewards.are_named is False


def test_named_rewards_are_added_to_the_suggested_ones_unless_they_replace_them() -> None:
    for override, long in (("rewards.replace=false", ["bright"]), ("rewards.replace=true", [])):
        completed = wrap("rewards.short.scripted={}", "rewards.short.bright.weight=2", override).recipe
        assert (sorted(completed.rewards.short), list(completed.rewards.long)) == (["bright", "scripted"], long)


def test_load_takes_the_bundled_model_of_an_adapter_by_name() -> None:
    pipe = streamt1.load("toy")
    assert (pipe.recipe.model, pipe.recipe.adapter.name) == ("toy", "toy")
    assert pipe("a prompt").shape == (12, 3, 2, 2)


def test_load_asks_which_adapter_drives_a_folder() -> None:
    with pytest.raises(UnsupportedPipelineError, match=r"Which adapter drives 'some/folder'\?"):
        streamt1.load("some/folder")


# The wrapper is the pipeline.


def test_attributes_reach_the_inner_pipeline() -> None:
    pipe = wrap()
    assert pipe.secret == "reached through the wrapper"
    with pytest.raises(AttributeError, match="'ToyPipeline' object has no attribute 'nothing'"):
        _ = pipe.nothing


def test_an_attribute_set_on_the_wrapper_reaches_the_inner_pipeline() -> None:
    pipe = wrap()
    pipe.secret = "changed"
    assert pipe.pipe.secret == "changed"


def test_every_attribute_is_the_inner_pipelines() -> None:
    pipe = wrap()
    pipe._mine, pipe.new = 1, 2
    assert vars(pipe.pipe) == {"_mine": 1, "new": 2}
    del pipe.new
    assert vars(pipe.pipe) == {"_mine": 1}
    assert {"secret", "_mine", "stream", "tree"} <= {*dir(pipe)}


def test_it_passes_for_the_pipeline() -> None:
    pipe = wrap()
    assert isinstance(pipe, ToyPipeline)
    assert isinstance(pipe, streamt1.StreamPipeline)
    assert pipe.__class__ is ToyPipeline
    assert type(pipe) is streamt1.StreamPipeline


class MovablePipeline(ToyPipeline):
    device = "cpu"

    def to(self, device: str) -> MovablePipeline:
        self.device = device
        return self


def test_moving_the_wrapper_moves_the_inner_pipeline_and_keeps_searching() -> None:
    pipe = streamt1.wrap(MovablePipeline())
    assert pipe.to("cuda") is pipe
    assert pipe.pipe.device == "cuda"


def test_a_wrapper_can_be_copied_before_and_after_a_call() -> None:
    ending = Ending()
    pipe = wrap(observers={"ending": ending})
    for _ in range(2):
        for again in (copy.copy(pipe), copy.deepcopy(pipe)):
            assert torch.equal(again("a prompt"), pipe("a prompt"))
            assert again.recipe == pipe.recipe
    assert copy.copy(pipe)._observing.given == {"ending": ending}
    with pytest.raises(InputError, match="call the pipeline first"):
        _ = copy.copy(pipe).tree
    assert copy.deepcopy(pipe.tree).to_dict() == pipe.tree.to_dict()


def test_wrapping_twice_searches_once() -> None:
    inner = ToyPipeline()
    twice = streamt1.wrap(streamt1.wrap(inner, "stream-t1"), "plain")
    assert twice.pipe is inner
    assert twice.recipe.search.top_k == 1


def test_the_prompt_may_be_named_and_there_is_no_tree_before_the_first_call() -> None:
    pipe = wrap()
    with pytest.raises(InputError, match="call the pipeline first"):
        _ = pipe.tree
    assert torch.equal(pipe(prompt="a prompt"), pipe("a prompt"))
    with pytest.raises(InputError, match="prompt is empty"):
        pipe("")


# Streaming.


@pytest.mark.parametrize("overrides", [(), ("search.top_k=1",), ("search.top_k=4",), ("search.final=last_chunk",)])
@pytest.mark.parametrize("recipe", ["stream-t1", "best-of-n", "plain"])
def test_stream_yields_every_chunk_once_in_order_as_the_final_video_has_it(recipe: str, overrides: tuple[str]) -> None:
    pipe = wrap(*overrides, recipe=recipe)
    chunks = list(pipe.stream("a prompt", generator=seeded(42)))
    assert [chunk.index for chunk in chunks] == [0, 1, 2, 3]
    again = wrap(*overrides, recipe=recipe)("a prompt", generator=seeded(42))
    assert torch.equal(torch.cat([chunk.frames for chunk in chunks]), again)
    assert all(map(torch.equal, [chunk.latents for chunk in chunks], pipe.run.beams[0].history.latents))


def test_one_beam_streams_every_chunk_at_once() -> None:
    pipe = wrap("search.top_k=1", "search.candidates=3")
    for chunk in pipe.stream("a prompt"):
        assert len(pipe.tree) == 3 * (chunk.index + 1)


def test_a_chunk_waits_until_all_beams_share_it() -> None:
    pipe = wrap()
    for chunk in pipe.stream("a prompt"):
        shared = {beam.path[chunk.index].id for beam in pipe.run.beams}
        assert len(shared) == 1 or pipe.tree.winner


def test_a_pipeline_that_blends_chunks_holds_the_newest_one_back() -> None:
    reward = Bright()
    settings = ["search.top_k=1", "search.candidates=3", "adapter.decode=blended"]
    pipe = streamt1.wrap(ToyPipeline(), overrides=settings, rewards={"mine": reward})
    generated = [(chunk.index, len(pipe.tree) // 3) for chunk in pipe.stream("a prompt")]
    assert generated == [(0, 2), (1, 3), (2, 4), (3, 4)]
    assert all(inp.frame_ids == () for inp in reward.calls)


# Endings.


class Ending:
    def __init__(self) -> None:
        self.errors: list[Any] = []
        self.closed: list[bool] = []

    @hookimpl
    def streamt1_run_finished(self, run: Any, error: Any) -> None:
        self.errors.append(error)
        self.closed.append(run.session.closed)


def test_a_run_that_goes_well_is_finished_and_closed_once() -> None:
    ending = Ending()
    pipe = wrap(observers={"ending": ending})
    pipe("a prompt")
    list(pipe.stream("a prompt"))
    assert (ending.errors, ending.closed, pipe.run.session.closed) == ([None, None], [False, False], True)


@pytest.mark.parametrize("how", ["call", "stream"])
def test_an_error_is_told_and_the_session_closed(how: str) -> None:
    ending = Ending()
    pipe = wrap(observers={"ending": ending})
    with pytest.raises(RuntimeError, match="the pipeline broke") as caught:
        pipe("a prompt", fail_at=2) if how == "call" else list(pipe.stream("a prompt", fail_at=2))
    assert ending.errors == [caught.value]
    assert pipe.run.session.closed
    assert [len(pipe.tree.chunk(i)) for i in range(3)] == [4, 4, 0]


def test_abandoning_a_stream_finishes_and_closes_the_run() -> None:
    ending = Ending()
    pipe = wrap("search.top_k=1", observers={"ending": ending})
    stream = pipe.stream("a prompt")
    next(stream)
    assert not pipe.run.session.closed
    stream.close()
    assert [type(error) for error in ending.errors] == [GeneratorExit]
    assert ending.closed == [False]  # parts are told while the session is still open
    assert pipe.run.session.closed


def test_parts_that_do_not_fit_close_the_session_too() -> None:
    class Rival:
        @hookimpl
        def streamt1_select(self, candidates: Any) -> Any: ...

    pipe = wrap(observers={"rival": Rival()})
    with pytest.raises(PluginError, match="2 answers"):
        pipe("a prompt")
    assert pipe.run.session.closed


def test_a_pipeline_can_be_used_again_after_an_error() -> None:
    pipe = wrap()
    with pytest.raises(RuntimeError):
        pipe("a prompt", fail_at=1)
    assert torch.equal(pipe("a prompt"), wrap()("a prompt"))


class Unloadable(Bright):
    def load(self, device: str) -> None:
        raise FileNotFoundError("no weights")


def test_a_reward_that_does_not_load_is_named() -> None:
    pipe = streamt1.wrap(ToyPipeline(), rewards={"mine": Unloadable()})
    with pytest.raises(PluginError, match="Loading reward 'mine' failed: FileNotFoundError: no weights"):
        pipe("a prompt")


# The stop button.


class Pressing:
    def __init__(self) -> None:
        self.pipe: Any = None
        self.found: list[bool] = []

    @hookimpl
    def streamt1_candidate_scored(self, candidate: Any) -> None:
        if candidate.chunk == 1:
            self.pipe._interrupt = True
            self.found.append(getattr(self.pipe.pipe, "_interrupt", False))


@pytest.mark.parametrize("recipe", ["stream-t1", "plain"])
def test_the_stop_button_of_the_wrapper_ends_a_run_with_its_chunk(recipe: str) -> None:
    pressing = Pressing()
    pipe = pressing.pipe = wrap(recipe=recipe, observers={"pressing": pressing})
    assert len(pipe("a prompt")) == 6
    assert pipe.tree.chunks() == [0, 1]
    assert pipe._interrupt is pipe.pipe._interrupt is True
    # A search reaches the pipeline only with the end of its chunk: half-denoised candidates are of no use.
    assert set(pressing.found) == {recipe == "plain"}
    pipe.set_observers({})
    assert len(pipe("a prompt")) == 12
    assert pipe._interrupt is False


# Seeds and recipes.


def test_without_a_generator_a_plain_call_follows_torch_unless_the_recipe_has_a_seed() -> None:
    pipe, seeded_pipe = wrap(recipe="plain"), wrap("seed=42", recipe="plain")
    videos = []
    for _ in range(2):
        torch.manual_seed(1)
        videos += [pipe("a prompt"), pipe("a prompt")]
        videos.append(wrap(recipe="plain")("a prompt", generator=seeded(pipe.last_run.seed)))
    assert all(map(torch.equal, videos[:3], videos[3:]))
    assert not torch.equal(videos[0], videos[1])
    assert torch.equal(videos[1], videos[2])
    assert torch.equal(seeded_pipe("a prompt"), seeded_pipe("a prompt"))
    assert pipe.recipe == seeded_pipe.recipe
    assert torch.equal(streamt1.wrap(ToyPipeline(), seeded_pipe.recipe)("a prompt"), seeded_pipe("a prompt"))
    assert not torch.equal(streamt1.wrap(ToyPipeline(), pipe.recipe)("a prompt"), pipe("a prompt"))
    assert torch.equal(wrap()("a prompt"), wrap()("a prompt"))  # a search has the recipe's, whatever it is


def test_a_refused_call_draws_nothing_and_a_wrong_generator_is_named() -> None:
    pipe, generator = wrap(recipe="plain"), seeded(3)
    with pytest.raises(InputError, match="prompt is empty"):
        pipe("", generator=generator)
    assert torch.equal(generator.get_state(), seeded(3).get_state())
    with pytest.raises(InputError, match=r"has to be a torch\.Generator, got int: 3"):
        pipe("a prompt", generator=3)


def test_the_seed_is_the_recipes_or_the_callers_generators() -> None:
    by_recipe = wrap("seed=5")
    by_generator = wrap()
    first = by_recipe("a prompt")
    second = by_generator("a prompt", generator=torch.Generator().manual_seed(5))
    assert torch.equal(first, second)
    assert by_recipe.run.seed == by_generator.run.seed == by_generator.run.recipe.seed == 5
    assert not torch.equal(first, wrap()("a prompt"))


def test_a_list_of_one_generator_is_that_generator_and_two_for_one_video_are_refused() -> None:
    assert torch.equal(wrap()("a prompt", generator=[seeded(5)]), wrap()("a prompt", generator=seeded(5)))
    with pytest.raises(InputError, match=r"One video has 2 generators\. Pass one torch\.Generator"):
        wrap()("a prompt", generator=[seeded(1), seeded(2)])


def for_the_toy(name: str) -> bool:
    """Not those that set options of causal Wan, or whose reward predicts with the model, which the toy cannot."""
    return recipes.load(name).adapter.name is None and name not in {"deep-sink", "relative", "self"}


@pytest.mark.parametrize("recipe", sorted(filter(for_the_toy, recipes.names())))
@pytest.mark.parametrize("seed", [3, 2**64 - 1])
def test_the_completed_recipe_alone_reproduces_the_run(recipe: str, seed: int, tmp_path: Path) -> None:
    adapter = "toy-steps" if recipes.load(recipe).early.steps else None  # the toy makes whole candidates only
    first = streamt1.wrap(ToyPipeline(), recipe, adapter=adapter)
    video = first("a prompt", generator=torch.Generator().manual_seed(seed))
    (tmp_path / "recipe.yaml").write_text(first.run.recipe.to_yaml(), encoding="utf-8")
    again = wrap(recipe=tmp_path / "recipe.yaml")
    assert torch.equal(again("a prompt"), video)
    assert without_times(again) == without_times(first)
    assert again.run.recipe == first.run.recipe


def without_times(pipe: streamt1.StreamPipeline) -> list[dict[str, Any]]:
    return [{key: value for key, value in node.items() if key != "seconds"} for node in pipe.tree.to_dict()["nodes"]]


def test_the_completed_recipe_writes_out_every_option() -> None:
    completed = wrap("noise.sigma=0.2").recipe
    assert completed.noise.options == {"sigma": 0.2, "seeds": "fresh", "device": "cpu", "draws": "initial"}
    assert completed.adapter.options == {
        "gain": 1.0,
        "routed": True,
        "max_batch": None,
        "decode": "carried",
        "prices": None,
    }
    assert list(completed.rewards.long) == ["bright"]
    named = wrap("rewards.long={picky: {options: {chunk: 2}}}").recipe.rewards
    assert named.long["picky"].options == {"chunk": 2, "ordinals": [0], "how": "nan"}


def test_a_rewards_default_that_changes_later_leaves_a_written_recipe_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "recipe.yaml").write_text(wrap("rewards.long={picky: {}}").recipe.to_yaml(), encoding="utf-8")
    later = dataclasses.make_dataclass("Later", [("chunk", int, 7), ("how", str, "raise")], bases=(Picky,))
    monkeypatch.setattr("tests.toy.Picky", later)
    assert wrap("rewards.long={picky: {}}").recipe.rewards.long["picky"].options["chunk"] == 7
    again = wrap(recipe=tmp_path / "recipe.yaml")
    assert again.recipe.rewards.long["picky"].options == {"chunk": 1, "ordinals": [0], "how": "nan"}


@pytest.mark.parametrize("where", ["http://127.0.0.1:1", "bin/python"])
def test_a_reward_in_another_environment_keeps_its_own_defaults(where: str) -> None:
    completed = wrap(f"rewards.long={{picky: {{where: '{where}'}}}}").recipe
    assert completed.rewards.long["picky"].options == {}
    assert recipes.load(completed) == completed


def test_a_completed_recipe_equals_its_yaml_also_with_tuples(tmp_path: Path) -> None:
    completed = streamt1.wrap(WanPipeline(), "plain", adapter="wan").recipe
    (tmp_path / "wan.yaml").write_text(completed.to_yaml(), encoding="utf-8")
    assert completed.adapter.options["timesteps"] == [1000, 750, 500, 250]
    assert recipes.load(tmp_path / "wan.yaml") == completed


def test_a_wrapped_recipe_cannot_be_wrong_in_an_option() -> None:
    with pytest.raises(RecipeError, match=r"adapter: 'toy' has no option 'gian'\. Did you mean 'gain'"):
        wrap("adapter.gian=2")


# What belongs to the wrapper.


RESULTS = ["run", "last_run", "tree", "run_folder"]
METHODS = ["stream", "cost", "unwrap", "set_observers"]
ARGUMENTS = ["adapter", "overrides", "rewards", "policies", "observers", "trust"]


@pytest.mark.parametrize("name", ["recipe", "given", "pipe", *RESULTS, *METHODS, *ARGUMENTS])
def test_what_would_be_lost_cannot_be_set(name: str) -> None:
    pipe = wrap()
    pipe("a prompt")
    with pytest.raises(streamt1.ReadOnlyError, match=f"'{name}' of a wrapped pipeline cannot be set"):
        setattr(pipe, name, "plain")
    assert vars(pipe.pipe) == {}
    pipe("a prompt")


def test_a_recipe_of_the_same_parts_acts_from_the_next_call_on() -> None:
    pipe = wrap()
    pipe("a prompt")
    pipe.recipe = pipe.recipe.sized(candidates=3)
    pipe("a prompt")
    assert len(pipe.tree.chunk(0)) == 6
    for other in (
        wrap(recipe="plain").recipe,
        wrap("noise.sigma=0.2").recipe,
        wrap("rewards.short.bright.weight=2").recipe,
    ):
        with pytest.raises(streamt1.ReadOnlyError):
            pipe.recipe = other


def test_an_argument_of_wrap_that_the_pipeline_has_too_is_the_pipelines() -> None:
    inner = ToyPipeline()
    inner.adapter = "lora"  # type: ignore[attr-defined]
    pipe = streamt1.wrap(inner)
    pipe.adapter = "other"
    assert inner.adapter == "other"  # type: ignore[attr-defined]


def test_workers_are_processes() -> None:
    with pytest.raises(InputError, match=r"`workers` are processes .* got 3"):
        wrap().workers = 3  # type: ignore[assignment]


def test_unwrapping_gives_the_pipeline_back() -> None:
    inner = ToyPipeline()
    pipe = streamt1.wrap(inner)
    pipe("a prompt")
    assert pipe.unwrap() is inner
    assert vars(inner) == {}


def test_it_is_shown_in_a_line() -> None:
    pipe = wrap()
    start = "StreamPipeline(ToyPipeline, adapter=toy, candidates=2, top_k=2, rewards=bright"
    assert repr(pipe) == f"{start})"
    pipe("a prompt")
    assert repr(pipe) == f"{start}, {pipe.tree!r})"
    assert pipe._repr_html_().startswith(f"<code>{start}, &lt;Tree")
    assert pipe.tree._repr_html_() in pipe._repr_html_()
    assert repr(wrap(recipe="plain")) == "StreamPipeline(ToyPipeline, adapter=toy, plain)"


# Cost before it is spent.


def counts(cost: Any) -> tuple[int, ...]:
    return cost.candidates, cost.forwards, cost.latent_frames_decoded, cost.reward_calls, cost.readings


@pytest.mark.parametrize("overrides", [(), ("search.candidates=3",), ("search.top_k=1", "search.candidates=4")])
def test_the_cost_is_what_the_call_then_spends(overrides: tuple[str, ...]) -> None:
    pipe = wrap("adapter.prices=[3, 2]", *overrides)
    expected = pipe.cost("a prompt", chunks=6)
    pipe("a prompt", chunks=6)
    assert counts(expected) == counts(pipe.last_run.cost)
    assert expected.chunks == 6


def test_asking_for_the_cost_changes_nothing() -> None:
    pipe, generator = wrap(), seeded(3)
    video, tree = pipe("a prompt"), pipe.tree
    torch.manual_seed(1)
    state = torch.get_rng_state()
    pipe.cost("another", chunks=2, generator=generator)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(generator.get_state(), seeded(3).get_state())
    assert pipe.tree is tree
    assert torch.equal(pipe("a prompt"), video)


def test_where_forwards_are_not_known_the_rest_is() -> None:
    cost = wrap().cost("a prompt")
    assert (cost.chunks, cost.candidates, cost.forwards) == (4, 16, None)
    assert str(cost).startswith(
        "4 chunks: 16 candidates, transformer forwards not known before the call, 9 reward calls"
    )
    assert wrap().cost(["a prompt", "another"]).candidates == 32
    assert wrap().cost("a prompt", num_videos_per_prompt=3).chunks == 12


def test_the_cost_of_a_call_that_would_be_refused_is_refused() -> None:
    with pytest.raises(InputError, match="prompt is empty"):
        wrap().cost()


def test_an_adapter_that_plans_without_a_call_needs_no_prompt() -> None:
    pipe = streamt1.wrap(ToyPipeline(), adapter="toy-steps")
    assert pipe.cost(num_frames=9).chunks == 3
    assert pipe.cost().candidates == 16
    sized = streamt1.wrap(ToyPipeline(), adapter="toy-steps", overrides=["video.num_frames=9"])
    assert (sized.cost().chunks, sized.cost(num_frames=6).chunks) == (3, 2)


# Sizes of the recipe.


def test_a_recipe_has_sizes_that_the_call_may_replace() -> None:
    pipe = streamt1.wrap(ToyPipeline(), overrides=["video.num_frames=33", "video.height=8"])
    pipe("a prompt")
    assert {name: pipe.run.call.get(name) for name in ("num_frames", "height", "width")} == {
        "num_frames": 33,
        "height": 8,
        "width": None,
    }
    pipe("a prompt", num_frames=21, height=None)
    assert (pipe.run.call["num_frames"], pipe.run.call["height"]) == (21, 8)
