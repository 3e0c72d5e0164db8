"""Tests for adapters to inherit: a wrapped pipeline is still the pipeline, for hosts that know nothing of the wrapper.

class TestMine(HostConventions):
    name = "mine"

    def make_pipeline(self): return tiny_pipeline()
    def make_adapter(self): return MyAdapter()
    def call(self): return {"prompt": "a red circle", "num_frames": 33}
"""

from __future__ import annotations

import copy
import gc
import inspect
import logging
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.api.hookspecs import hookimpl
from streamt1_plugins.errors import InputError
from streamt1_plugins.testing.adapter_case import AdapterCase, check_same, seeded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PROPERTIES = (
    "guidance_scale",
    "do_classifier_free_guidance",
    "num_timesteps",
    "current_timestep",
    "interrupt",
    "attention_kwargs",
)
LATENT = {"output_type": "latent", "return_dict": False}


class Watching:
    """An observer, so that plain calls are made chunk by chunk, by a session."""

    @hookimpl
    def streamt1_chunk_selected(self) -> None: ...


class HostConventions(AdapterCase):
    """What hosts do with a pipeline, done with the wrapped one, mostly under a plain recipe. Give a call of 2 chunks.

    embeddings: the arguments that `encode_prompt` returns, in its order. pictures: arguments with a picture or a video
    for each prompt, in the call a tensor with a batch of one.
    """

    embeddings: ClassVar[tuple[str, ...]] = ("prompt_embeds",)
    pictures: ClassVar[tuple[str, ...]] = ()

    def saveable(self, pipe: Any) -> Any:
        """The pipeline with components that `save_pretrained` can save; None to leave that out."""
        return None

    def wrapped(self, *overrides: str, pipe: Any = None, **observers: object) -> streamt1.StreamPipeline:
        """The shared pipeline, or another one, under a plain recipe."""
        recipe = {"extends": "plain", "adapter": self.part()}
        return streamt1.wrap(pipe or self.pipe, recipe, overrides=overrides, observers=observers)

    def observed(self) -> streamt1.StreamPipeline:
        """Under a plain recipe, with an observer: chunk by chunk."""
        return self.wrapped(watching=Watching())

    def searching(self) -> streamt1.StreamPipeline:
        """Under the smallest recipe that searches."""
        rewards = {"replace": True, "short": {"basic": {}}, "long": {"basic": {}}}
        settings = {"search": {"candidates": 2, "top_k": 1}, "rewards": rewards}
        return streamt1.wrap(self.pipe, {"extends": "stream-t1", "adapter": self.part(), **settings})

    def latents(self, pipe: Any, **changes: Any) -> Any:
        """The latents that a pipeline, wrapped or not, returns."""
        return _last(pipe(**self.arguments({**LATENT, **changes}))[0])

    def check_equal(self, wrapped: streamt1.StreamPipeline, changes: Callable[[], dict[str, Any]]) -> None:
        """The wrapped pipeline and the pipeline itself make the same of a call; fresh objects for each."""
        if not self.has_plain:
            pytest.skip("there is no plain pipeline to compare with")
        try:
            expected = self.latents(self.pipe, **changes())
        except Exception as error:  # noqa: BLE001  a pipeline may fail in any way
            with pytest.raises(InputError):
                self.latents(self.wrapped(), **changes())
            pytest.skip(f"the pipeline itself fails on this call: {error}")
        check_same(self.latents(wrapped, **changes()), expected)

    def several(self, count: int) -> dict[str, Any]:
        """Changes that make a call of `count` prompts, with their pictures."""
        call = self.call()
        pictures = {name: torch.cat([call[name] * (1 - i / 10) for i in range(count)]) for name in self.pictures}
        return {"prompt": [f"{call['prompt']} {i}" for i in range(count)], **pictures}

    # Arguments.

    def test_a_plain_call_is_a_session_and_equals_the_pipeline(self) -> None:
        wrapped = self.wrapped()
        self.check_equal(wrapped, dict)
        assert len(wrapped.tree) == len(wrapped.tree.winner) >= 2, "the call was not made chunk by chunk"

    @pytest.mark.parametrize("output_type", ["pt", "np", "pil"])
    def test_tuples_and_outputs_hold_the_same(self, output_type: str) -> None:
        for wrapped, changes in ((self.wrapped(), {}), (self.wrapped(), self.several(1))):
            call = {"output_type": output_type, **changes}
            (video,) = wrapped(**self.arguments({**call, "return_dict": False}))
            check_same(wrapped(**self.arguments(call)).frames, video)

    def test_arguments_by_position_mean_what_they_mean_to_the_pipeline(self) -> None:
        call = self.arguments(LATENT)
        parameters = inspect.signature(self.wrapped().__call__).parameters
        names = list(parameters)
        first = names[: 1 + max(names.index(name) for name in self.call() if name in names)]
        values = [call.pop(name, parameters[name].default) for name in first]
        expected = self.latents(self.wrapped(), **{**dict(zip(first, values, strict=True)), "generator": seeded(0)})
        check_same(_last(self.wrapped()(*values, **call)[0]), expected)

    def test_one_generator_in_a_list_is_that_generator(self) -> None:
        expected = self.latents(self.wrapped(), generator=seeded(3))
        for generator in ([seeded(3)], (seeded(3),)):
            check_same(self.latents(self.wrapped(), generator=generator), expected)
        searched = self.latents(self.searching(), generator=seeded(3))
        check_same(self.latents(self.searching(), generator=[seeded(3)]), searched)

    def test_numpy_numbers_are_numbers(self) -> None:
        numbers = {name: value for name, value in self.call().items() if type(value) in {int, float}}
        scalars = {name: np.int64(v) if isinstance(v, int) else np.float32(v) for name, v in numbers.items()}
        check_same(self.latents(self.wrapped(), **scalars), self.latents(self.wrapped()))
        check_same(self.latents(self.searching(), **scalars), self.latents(self.searching()))

    def test_no_number_of_videos_per_prompt_is_one(self) -> None:
        check_same(self.latents(self.wrapped(), num_videos_per_prompt=None), self.latents(self.wrapped()))

    def test_an_empty_prompt_is_a_prompt(self) -> None:
        self.check_equal(self.wrapped(), lambda: {"prompt": ""})
        self.latents(self.searching(), prompt="")

    def test_a_tuple_of_prompts_is_a_list(self) -> None:
        call = self.several(2)
        check_same(
            self.latents(self.wrapped(), **{**call, "prompt": tuple(call["prompt"])}),
            self.latents(self.wrapped(), **call),
        )

    def test_several_prompts_are_the_pipelines_own_batch(self) -> None:
        wrapped = self.wrapped()
        self.check_equal(wrapped, lambda: self.several(2))
        self.check_equal(wrapped, lambda: {**self.several(2), "generator": [seeded(1), seeded(2)]})
        assert len(wrapped.tree) == 0
        assert "2 videos are denoised as one batch" in wrapped.tree.notes[0]
        with pytest.raises(InputError, match="2 videos are denoised as one batch"):
            _ = wrapped.last_run

    def test_several_videos_per_prompt_are_the_pipelines_own_batch(self) -> None:
        self.check_taken(num_videos_per_prompt=2)

    def test_several_embeddings_are_the_pipelines_own_batch(self) -> None:
        texts = self.several(2)
        self.check_equal(self.wrapped(), lambda: {**texts, "prompt": None, **self.encoded(texts["prompt"])})

    def test_a_search_makes_a_video_of_each_prompt(self) -> None:
        both = self.latents(self.searching(), **self.several(2), generator=[seeded(1), seeded(2)])
        for row in range(2):
            alone = self.several(2)
            alone = {name: x[row : row + 1] if isinstance(x, torch.Tensor) else x[row] for name, x in alone.items()}
            found = self.latents(self.searching(), **alone, generator=seeded(row + 1))
            check_same(both[row : row + 1], found)

    def test_latents_are_taken_or_refused_as_by_the_pipeline(self) -> None:
        self.check_taken(latents=self.latents(self.wrapped()))

    def test_an_observed_call_that_has_no_session_is_refused_with_a_way_out(self) -> None:
        if not self.has_plain or "latents" not in inspect.signature(self.pipe.__call__).parameters:
            pytest.skip("there is no such call")
        latents = self.latents(self.wrapped())
        with pytest.raises(InputError, match=r"`?latents.*Without rewards, observers .* goes to the pipeline itself"):
            self.latents(self.observed(), latents=latents)
        with pytest.raises(InputError, match=r"'promt'\. Did you mean 'prompt'\? Known: [^.]*\.$"):
            self.latents(self.observed(), promt="a dog")

    def test_what_the_pipeline_refuses_is_an_input_error(self) -> None:
        for changes in ({"promt": "a dog"}, {"height": 30}, {"output_type": "gif"}, {"prompt": ...}):
            for extra in ({}, {"callback_on_step_end": _unchanged}):
                with pytest.raises(InputError):
                    self.latents(self.wrapped(), **{**changes, **extra})
        with pytest.raises(InputError, match=r"'promt'\. Did you mean 'prompt'"):
            self.latents(self.wrapped(), promt="a dog")

    def check_taken(self, **changes: Any) -> None:
        """What the pipeline takes is taken, and means the same; what it fails on is an `InputError`."""
        try:
            expected = self.plain(**LATENT, **copy.deepcopy(changes))[0]  # some pipelines denoise in place
        except Exception:  # noqa: BLE001  a pipeline may fail in any way
            with pytest.raises(InputError):
                self.latents(self.wrapped(), **changes)
        else:
            check_same(self.latents(self.wrapped(), **changes), _last(expected))

    def encoded(self, prompts: list[str]) -> dict[str, Any]:
        """The embeddings of these prompts, as arguments."""
        known = inspect.signature(self.pipe.encode_prompt).parameters
        wanted = {
            "do_classifier_free_guidance": False,
            "max_sequence_length": self.call().get("max_sequence_length", 16),
        }
        found = self.pipe.encode_prompt(prompt=prompts, **{name: v for name, v in wanted.items() if name in known})
        return dict(zip(self.embeddings, found, strict=False))

    # Callbacks that change things.

    def callbacks(self) -> dict[str, Callable[[], Any]]:
        """Callbacks of a host, fresh ones; each changes something in the first chunk."""

        def guidance() -> Any:
            return _at(1, lambda pipe, _: setattr(pipe, "_guidance_scale", 0.5))

        def embeds() -> Any:
            return _at(1, lambda _, tensors: {"prompt_embeds": tensors["prompt_embeds"] * 0.5})

        def latents() -> Any:
            return _at(1, lambda _, tensors: {"latents": tensors["latents"] * 0.5})

        def interrupt() -> Any:
            return _at(1, lambda pipe, _: setattr(pipe, "_interrupt", True))

        return {"guidance": guidance, "embeds": embeds, "latents": latents, "interrupt": interrupt}

    @pytest.mark.parametrize("change", ["guidance", "embeds", "latents", "interrupt"])
    @pytest.mark.parametrize("how", ["alone", "observed"])
    def test_what_a_callback_changes_lasts_as_in_the_pipeline(self, change: str, how: str) -> None:
        self.needs_callbacks()
        wrapped, make = self.wrapped() if how == "alone" else self.observed(), self.callbacks()[change]
        names = {"callback_on_step_end_tensor_inputs": ["latents", "prompt_embeds"]}
        self.check_equal(wrapped, lambda: {**(self.guidance or {}), **names, "callback_on_step_end": make()})
        assert (len(wrapped.tree) > 0) is (how == "observed")

    def test_a_callback_sees_what_it_sees_in_the_pipeline(self) -> None:
        self.needs_callbacks()
        seen: list[Any] = []

        def callback(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            seen.append((pipe is self.pipe, step, torch.as_tensor(timestep).sum().item(), sorted(tensors)))
            return tensors

        pipes = [self.wrapped(), self.observed(), *([self.pipe] if self.has_plain else [])]
        for pipe in pipes:
            self.latents(pipe, callback_on_step_end=callback)
        count = len(seen) // len(pipes)
        assert count > 0
        assert seen == seen[:count] * len(pipes)

    def test_an_error_of_a_callback_is_raised_as_it_is(self) -> None:
        self.needs_callbacks()

        def fail(*_: Any) -> dict[str, Any]:
            raise KeyError("the host's own")

        for wrapped in (self.wrapped(), self.observed()):
            with pytest.raises(KeyError, match="the host's own"):
                self.latents(wrapped, callback_on_step_end=fail)
        self.check_equal(wrapped, dict)

    # The stop button.

    @pytest.mark.parametrize("how", ["alone", "observed"])
    def test_a_thread_that_interrupts_stops_as_in_the_pipeline(self, how: str) -> None:
        self.needs_callbacks()
        wrapped = self.wrapped() if how == "alone" else self.observed()

        def pressing(target: Any) -> Any:
            return _at(1, lambda *_: _in_thread(lambda: setattr(target, "_interrupt", True)))

        if not self.has_plain:
            pytest.skip("there is no plain pipeline to compare with")
        expected = self.latents(self.pipe, callback_on_step_end=pressing(self.pipe))
        check_same(self.latents(wrapped, callback_on_step_end=pressing(wrapped)), expected)

    def test_a_stop_between_two_chunks_reaches_the_next_one(self) -> None:
        wrapped = self.observed()
        run = wrapped.begin(**self.arguments(LATENT))
        for _ in wrapped.steps(run):
            wrapped._interrupt = True
        run.close()
        assert wrapped._interrupt
        assert bool(self.pipe._interrupt)

    def test_a_search_that_is_interrupted_ends_with_whole_chunks(self) -> None:
        wrapped = self.searching()
        observer = Pressing(wrapped)
        wrapped.set_observers({"pressing": observer})
        self.latents(wrapped)
        assert wrapped.tree.chunks() == [wrapped.tree.chunks()[0]], "the search did not end with the chunk"
        assert all(node.is_valid for node in wrapped.tree)
        wrapped.set_observers({})
        self.latents(wrapped)
        assert len(wrapped.tree.chunks()) >= 2, "the stop button stayed pressed"

    # It is the pipeline.

    def test_properties_after_a_call_are_the_pipelines(self) -> None:
        if not self.has_plain:
            pytest.skip("there is no plain pipeline to compare with")
        calls: list[dict[str, Any]] = [{}, dict(self.guidance or {})]
        for changes in calls:
            pipe = self.make_pipeline()
            self.latents(pipe, **changes)
            expected = {name: getattr(pipe, name) for name in PROPERTIES if hasattr(pipe, name)}
            wrapped = self.wrapped(pipe=self.make_pipeline())
            self.latents(wrapped, **changes)
            assert {name: getattr(wrapped, name) for name in expected} == expected

    def test_signature_and_attributes_are_the_pipelines(self) -> None:
        wrapped = self.wrapped()
        theirs = inspect.signature(self.pipe.__call__).parameters
        ours = inspect.signature(wrapped.__call__).parameters
        assert [name for name in ours if name != "on_chunk_end"] == list(theirs)
        assert inspect.signature(wrapped) == inspect.signature(wrapped.__call__)
        assert {name: ours[name].default for name in theirs} == {name: each.default for name, each in theirs.items()}
        assert {*dir(self.pipe), "stream", "tree", "recipe"} <= {*dir(wrapped)}
        assert "on_chunk_end" in (wrapped.__call__.__doc__ or "")

    def test_it_is_an_instance_of_both_classes(self) -> None:
        wrapped = self.wrapped()
        assert isinstance(wrapped, type(self.pipe))
        assert isinstance(wrapped, streamt1.StreamPipeline)
        assert type(wrapped) is streamt1.StreamPipeline
        assert wrapped.__class__ is type(self.pipe)

    def test_components_and_settings_are_the_pipelines(self) -> None:
        wrapped = self.wrapped(pipe=self.make_pipeline())
        assert wrapped.components == wrapped.pipe.components
        scheduler = copy.deepcopy(wrapped.scheduler)
        wrapped.scheduler = scheduler
        assert wrapped.pipe.scheduler is scheduler
        wrapped.set_progress_bar_config(disable=True, desc="mine")
        assert wrapped.pipe._progress_bar_config["desc"] == "mine"
        wrapped._mine = 1
        assert wrapped.pipe._mine == 1
        del wrapped._mine
        assert not hasattr(wrapped, "_mine")

    def test_a_search_shows_no_bar_per_candidate_and_gives_the_setting_back(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        wrapped, before = self.searching(), dict(getattr(self.pipe, "_progress_bar_config", {}))
        wrapped.set_progress_bar_config(desc="mine")
        try:
            self.latents(wrapped)
            assert wrapped._progress_bar_config == {"desc": "mine"}
            assert "mine" not in capsys.readouterr().err
        finally:
            wrapped.set_progress_bar_config(**before)

    def test_copies_make_the_same_video(self) -> None:
        wrapped = self.wrapped()
        for _ in ("before a call", "after it"):
            copies = [copy.copy(wrapped), copy.deepcopy(wrapped)]
            assert copies[0].pipe is self.pipe
            assert copies[1].pipe is not self.pipe
            expected = self.latents(wrapped)
            for each in copies:
                check_same(self.latents(each), expected)
        copy.deepcopy(wrapped.tree)

    def test_pickles_where_the_pipeline_does(self) -> None:
        wrapped = self.wrapped()
        expected = self.latents(wrapped)
        try:
            pickle.dumps(self.pipe)
        except Exception:  # noqa: BLE001  a pipeline may fail in any way
            pytest.skip("the pipeline itself cannot be pickled")
        check_same(self.latents(pickle.loads(pickle.dumps(wrapped))), expected)
        pickle.dumps(wrapped.tree)

    def test_a_move_to_another_dtype_moves_the_pipeline(self) -> None:
        pipe = self.make_pipeline()
        wrapped = self.wrapped(pipe=pipe)
        assert wrapped.to(torch.bfloat16) is wrapped
        assert wrapped.dtype == pipe.transformer.dtype == torch.bfloat16
        found = self.latents(wrapped)
        if self.has_plain:
            check_same(found.float(), self.latents(pipe).float())

    def test_tiles_and_slices_are_the_pipelines(self) -> None:
        if not self.has_plain:
            pytest.skip("there is no plain pipeline to compare with")
        for switch in ("enable_slicing", "enable_tiling"):
            wrapped = self.wrapped(pipe=self.make_pipeline())
            getattr(wrapped.vae, switch)()
            found = wrapped(**self.arguments({"output_type": "pt", "return_dict": False}))[0]
            check_same(found, wrapped.pipe(**self.arguments({"output_type": "pt", "return_dict": False}))[0])

    def test_saves_and_loads_through_the_wrapper(self, tmp_path: Path) -> None:
        pipe = self.saveable(self.make_pipeline())
        if pipe is None:
            pytest.skip("give `saveable`: a pipeline that can be saved")
        wrapped = self.wrapped(pipe=pipe)
        wrapped.save_pretrained(tmp_path)
        loaded = wrapped.from_pretrained(tmp_path)
        assert type(loaded) is type(pipe)
        loaded.set_progress_bar_config(disable=True)
        self.check_close(self.latents(self.wrapped(pipe=loaded)), self.latents(wrapped), "saved and loaded")

    # Randomness.

    def test_without_a_generator_torch_decides(self) -> None:
        wrapped, changes = self.wrapped(), {"generator": None}
        torch.manual_seed(5)
        found = [self.latents(wrapped, **changes) for _ in range(2)]
        torch.manual_seed(5)
        again = [self.latents(wrapped if not self.has_plain else self.pipe, **changes) for _ in range(2)]
        for ours, theirs in zip(found, again, strict=True):
            check_same(ours, theirs)
        assert not torch.equal(*found)

    def test_observed_without_a_generator_torch_decides_and_the_seed_is_known(self) -> None:
        wrapped, changes = self.observed(), {"generator": None}
        torch.manual_seed(5)
        found = [(self.latents(wrapped, **changes), wrapped.last_run.seed) for _ in range(2)]
        for video, seed in found:
            check_same(self.latents(self.wrapped(), generator=seeded(seed)), video)
        assert not torch.equal(found[0][0], found[1][0])
        if self.has_plain and not wrapped.last_run.session.capabilities.stochastic_steps:
            torch.manual_seed(5)
            check_same(found[0][0], self.latents(self.pipe, **changes))

    def test_a_seed_in_the_recipe_is_kept_to(self) -> None:
        wrapped = self.wrapped("seed=7")
        for _ in range(2):
            check_same(self.latents(wrapped, generator=None), self.latents(self.wrapped(), generator=seeded(7)))

    # Two at once.

    def test_two_threads_come_one_after_the_other(self) -> None:
        one, two = self.wrapped(), self.wrapped()
        expected = [self.latents(one, generator=seeded(seed)) for seed in range(4)]
        with ThreadPoolExecutor(4) as pool:
            calls = [pool.submit(self.latents, (one, two)[seed % 2], generator=seeded(seed)) for seed in range(4)]
        for call, video in zip(calls, expected, strict=True):
            check_same(call.result(), video)

    def test_an_open_stream_is_named_and_an_abandoned_one_frees_the_pipeline(self) -> None:
        wrapped = self.wrapped()
        stream = wrapped.stream(**self.arguments({}))
        next(stream)
        calls: list[Callable[[Any], Any]] = [self.latents, lambda pipe: next(pipe.stream(**self.arguments({})))]
        for call in calls:
            with pytest.raises(InputError, match=r"in use by a stream of this pipeline .*`close\(\)`"):
                call(wrapped)
        del stream
        gc.collect()
        self.check_equal(wrapped, dict)

    # Frames that are not finite.

    def test_frames_that_are_not_finite_are_noted(self, caplog: pytest.LogCaptureFixture) -> None:
        wrapped = self.wrapped(pipe=self.make_pipeline())
        next(iter(wrapped.vae.decoder.parameters())).data.fill_(float("nan"))
        for changes in ({}, self.several(2)) if self.has_plain else ({},):
            caplog.clear()
            with caplog.at_level(logging.WARNING, logger="streamt1"):
                wrapped(**self.arguments({"output_type": "pil", **changes}))
            assert "not finite" in caplog.text
            assert any("not finite" in note for note in wrapped.tree.notes)


class Pressing:
    """Presses the stop button from another thread while the first candidates are judged."""

    def __init__(self, wrapped: streamt1.StreamPipeline) -> None:
        self.wrapped = wrapped

    @hookimpl
    def streamt1_candidate_scored(self) -> None:
        _in_thread(lambda: setattr(self.wrapped, "_interrupt", True))


def _last(video: Any) -> Any:
    """Latents, of which some pipelines return a list that grows chunk by chunk."""
    return video[-1] if isinstance(video, list) else video


def _unchanged(*_: Any) -> dict[str, Any]:
    return {}


def _at(number: int, change: Callable[[Any, dict[str, Any]], dict[str, Any] | None]) -> Any:
    """A callback that makes its change in one of its calls, and returns the tensors that this gives, if any."""
    calls = iter(range(10_000))

    def callback(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        return (change(pipe, tensors) if next(calls) == number else None) or {}

    return callback


def _in_thread(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
