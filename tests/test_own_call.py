"""The call of the pipeline inside: names, signature, what goes to it unchanged, and torch's global generator."""

from __future__ import annotations

import inspect
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from streamt1_plugins import own_call
from streamt1_plugins.errors import InputError
from tests.toy import ToyPipeline


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Imaging:
    """Begins with an image, as image-to-video pipelines do."""

    def __init__(self) -> None:
        self.video_processor = SimpleNamespace(postprocess_video=lambda video, output_type: [output_type] * len(video))

    def __call__(
        self, image: Any, prompt: Any = None, steps: int = 5, callback_on_step_end: Any = None, output_type: str = "pil"
    ) -> Any:
        """Makes a video of an image."""
        if callback_on_step_end:
            callback_on_step_end(self, 0, 0, {})
        if output_type == "latent":
            return (image,)
        return (self.video_processor.postprocess_video(image, output_type),)


# Names.


def test_positions_are_the_pipelines_and_a_single_text_is_the_prompt() -> None:
    pipe = Imaging()
    assert own_call.by_name(pipe, ("x", "a dog"), {"steps": 2}) == {"image": "x", "prompt": "a dog", "steps": 2}
    assert own_call.by_name(pipe, ("a dog",), {}) == {"prompt": "a dog"}
    assert own_call.by_name(pipe, (["a", "b"],), {}) == {"prompt": ["a", "b"]}
    assert own_call.by_name(pipe, (7,), {}) == {"image": 7}
    assert own_call.by_name(ToyPipeline(), ("a dog",), {}) == {"prompt": "a dog"}


@pytest.mark.parametrize(
    ("args", "call", "message"),
    [
        (("a", "b"), {"image": 1}, "'image' is given twice"),
        (("a", "b", 1, None, "pil", 6), {}, "6 arguments by position, but the pipeline has image, prompt, steps"),
    ],
)
def test_positions_that_do_not_fit_are_explained(args: Any, call: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        own_call.by_name(Imaging(), args, call)


def test_a_pipeline_without_a_call_takes_the_prompt_by_position() -> None:
    with pytest.raises(InputError, match="ToyPipeline takes its prompt by position"):
        own_call.by_name(ToyPipeline(), ("a", "b"), {})


def test_values_become_what_sessions_read() -> None:
    one, two = seeded(1), seeded(2)
    call = {"steps": np.int64(3), "scale": np.float32(0.5), "on": np.bool_(True), "prompt": ("a", "b")}
    plain = own_call.by_name(ToyPipeline(), (), call)
    assert plain == {"steps": 3, "scale": 0.5, "on": True, "prompt": ["a", "b"]}
    assert [type(plain[name]) for name in ("steps", "scale", "on")] == [int, float, bool]
    for given, expected in (([one], one), ((one,), one), ((one, two), [one, two]), ([], None)):
        assert own_call.by_name(ToyPipeline(), (), {"generator": given}) == {"generator": expected}
    assert own_call.by_name(ToyPipeline(), (), {"num_videos_per_prompt": None}) == {}
    assert own_call.by_name(ToyPipeline(), (), {"size": (3, 4)}) == {"size": (3, 4)}


def test_unknown_names_are_refused_with_a_guess() -> None:
    own_call.check_names(Imaging(), {"image": 1})
    own_call.check_names(ToyPipeline(), {"anything": 1})
    with pytest.raises(InputError, match=r"'imag'\. Did you mean 'image'"):
        own_call.check_names(Imaging(), {"imag": 1})


# Signature.


def test_the_signature_is_the_pipelines_and_has_ours() -> None:
    assert list(own_call.signature(Imaging()).parameters) == [
        *("image", "prompt", "steps", "callback_on_step_end", "output_type", "on_chunk_end")
    ]
    assert list(own_call.signature(ToyPipeline()).parameters) == ["prompt", "on_chunk_end", "call"]
    assert own_call.signature(lambda a, **rest: None).parameters["on_chunk_end"].kind is inspect.Parameter.KEYWORD_ONLY


class Wrapped:
    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe

    @own_call.OwnSignature
    def __call__(self, *args: Any, **call: Any) -> Any:
        """Ours."""
        return self, args, call


def test_an_instance_shows_the_pipelines_signature_and_help() -> None:
    wrapped = Wrapped(Imaging())
    assert inspect.signature(wrapped.__call__) == own_call.signature(wrapped.pipe)
    assert wrapped.__call__.__doc__ == "Ours.\n\nMakes a video of an image."
    assert Wrapped(ToyPipeline()).__call__.__doc__ == Wrapped.__call__.__doc__ == "Ours."
    assert wrapped(1, steps=2) == (wrapped, (1,), {"steps": 2})


# What goes to the pipeline.


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ({"prompt": "a"}, None),
        ({"prompt": ["a"], "callback_on_step_end": None, "num_videos_per_prompt": 1}, None),
        ({"prompt": "a", "callback_on_step_end": print}, "`callback_on_step_end` may change anything"),
        ({"prompt": ["a", "b"]}, "2 videos are denoised as one batch"),
        ({"prompt": ["a", "b"], "num_videos_per_prompt": 3}, "6 videos"),
        ({"prompt_embeds": torch.zeros(2, 3, 4)}, "2 videos"),
    ],
)
def test_what_sessions_cannot_carry(call: dict[str, Any], reason: str | None) -> None:
    found = own_call.beyond_sessions(call)
    assert found is None if reason is None else reason in (found or "")


def bad(*frames: int) -> torch.Tensor:
    video = torch.zeros(2, 3, 6, 4, 4)
    for frame in frames:
        video[1, 0, frame, 0, 0] = torch.inf if frame % 2 else torch.nan
    return video


def test_frames_that_are_not_finite_are_found_before_they_become_images() -> None:
    pipe = Imaging()
    processor = dict(vars(pipe.video_processor))
    output, remarks = own_call.passed_on(pipe, {"image": bad(2, 3)})
    assert output == (["pil", "pil"],)
    assert remarks == ["2 of 6 frames of video 1 are not finite (NaN or infinity), the first is 2."]
    assert own_call.passed_on(pipe, {"image": bad()})[1] == []
    assert own_call.passed_on(pipe, {"image": bad(4)[1:]})[1][0].startswith("1 of 6 frames of the video")
    assert vars(pipe.video_processor) == processor


@pytest.mark.parametrize("kind", [lambda x: x, lambda x: x.numpy(), lambda x: [x, x], lambda x: x.bfloat16()])
def test_latents_that_are_not_finite_are_found(kind: Any) -> None:
    for video, count in ((bad(1), 1), (bad(), 0)):
        assert len(own_call.passed_on(Imaging(), {"image": kind(video), "output_type": "latent"})[1]) == count


def failing(*_: Any) -> None:
    raise KeyError("the host's")


class Failing:
    def __call__(self, *_: Any) -> None:
        raise KeyError("the host's")


@pytest.mark.parametrize("callback", [failing, Failing(), partial(failing), Failing().__call__])
def test_errors_of_a_callback_pass(callback: Any) -> None:
    call = {"image": 1, "callback_on_step_end": callback}
    with pytest.raises(KeyError, match="the host's"), own_call.explained(call, None):
        Imaging()(**call)


def test_errors_of_the_pipeline_are_input_errors() -> None:
    for callback in (None, lambda *_: {}):
        call = {"image": 3, "callback_on_step_end": callback}
        message = "own call failed: TypeError: object of type 'int'"
        with pytest.raises(InputError, match=message) as caught, own_call.explained(call, None):
            Imaging()(**call)
        assert isinstance(caught.value.__cause__, TypeError)
    refusal = InputError("no such size")
    with pytest.raises(InputError) as caught, own_call.explained({}, refusal):
        raise ZeroDivisionError
    assert caught.value is refusal
    with pytest.raises(torch.OutOfMemoryError), own_call.explained({}, refusal):
        raise torch.OutOfMemoryError


# Torch's global generator.


def test_the_global_generator_of_the_cpu_is_torchs() -> None:
    generator = own_call.global_generator("cpu")
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(2, generator=generator), expected)
    assert not own_call.is_fresh(generator)
    torch.manual_seed(3)
    assert own_call.is_fresh(generator)


def test_a_drawn_seed_follows_torch_and_differs_each_time() -> None:
    torch.manual_seed(3)
    seeds = [own_call.drawn_seed() for _ in range(2)]
    torch.manual_seed(3)
    assert seeds == [own_call.drawn_seed() for _ in range(2)]
    assert len(set(seeds)) == 2
