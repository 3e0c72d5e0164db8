"""The call of the pipeline inside: its signature, arguments by name, and calls that are passed on to it unchanged."""

from __future__ import annotations

import inspect
import traceback
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from streamt1_plugins.errors import InputError, guess
from streamt1_plugins.prompts import videos

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

CHUNK_END = "on_chunk_end"
OWN_ARGUMENTS = (CHUNK_END,)
"""Arguments of the call that the wrapper handles; the inner pipeline does not get them."""


OWN = (
    "The pipeline's own call made this video, so there are no candidates: {reason}. For a tree, search, or leave that "
    "out, or pass `on_chunk_end` or an observer."
)
UNOBSERVED = "Without rewards, observers and `on_chunk_end`, such a call goes to the pipeline itself."
UNSEEDED = (
    "No generator was given, so the noise comes from torch's global one as it stood: the recorded seed does not give "
    "this video again."
)


class OwnSignature:
    """Decorates ``__call__`` of a wrapper: on an instance, signature and help are those of the pipeline inside."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.__doc__ = function.__doc__

    def __get__(self, wrapped: Any, owner: type | None = None) -> Callable[..., Any]:
        if wrapped is None:
            return self._function

        @wraps(self._function)
        def call(*args: Any, **kwargs: Any) -> Any:
            return self._function(wrapped, *args, **kwargs)

        call.__signature__ = signature(wrapped.pipe)  # type: ignore[attr-defined]  # read by `inspect`
        theirs = getattr(wrapped.pipe.__call__, "__doc__", None) if callable(wrapped.pipe) else None
        call.__doc__ = f"{self.__doc__}\n\n{theirs}" if theirs else self.__doc__
        return call


def signature(pipe: Any) -> inspect.Signature:
    """The signature of a wrapped call: the pipeline's own arguments, and ours."""
    theirs = _own_signature(pipe)
    first = inspect.Parameter("prompt", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None)
    rest = inspect.Parameter("call", inspect.Parameter.VAR_KEYWORD)
    parameters = [first, rest] if theirs is None else list(theirs.parameters.values())
    ours = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in OWN_ARGUMENTS]
    end = len(parameters) - (bool(parameters) and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD)
    return inspect.Signature([*parameters[:end], *ours, *parameters[end:]])


def by_name(pipe: Any, args: Sequence[Any], call: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name, in the order of the pipeline's own parameters.

    A single text is the prompt, whatever the pipeline begins with. Tuples of texts or generators become lists, numpy
    numbers Python's; a list of one generator is that generator, and None videos per prompt are one.

    Raises `InputError`.
    """
    given = dict(call)
    for name, value in _positional(pipe, args).items():
        if name in given:
            raise InputError(f"The argument {name!r} is given twice, by position and by name.")
        given[name] = value
    if given.get("num_videos_per_prompt", 1) is None:
        del given["num_videos_per_prompt"]
    return {name: _plain(name, value) for name, value in given.items()}


def check_names(pipe: Any, call: Mapping[str, Any]) -> None:
    """Raise `InputError` for an argument that the pipeline's own call lacks."""
    theirs = _own_signature(pipe)
    if theirs is None or any(each.kind is inspect.Parameter.VAR_KEYWORD for each in theirs.parameters.values()):
        return
    for name in call:
        if name not in theirs.parameters:
            known = sorted(theirs.parameters)
            raise InputError(f"Unknown argument {name!r}.{guess(name, known)} Known: {', '.join(known)}.")


def beyond_sessions(call: Mapping[str, Any]) -> str | None:
    """Why sessions, one video and one chunk at a time, cannot carry this call to the last bit; None where they can."""
    if call.get("callback_on_step_end") is not None:
        return "`callback_on_step_end` may change anything about the pipeline"
    count = videos(call)
    return f"{count} videos are denoised as one batch" if count > 1 else None


def passed_on(pipe: Any, call: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """(what the pipeline's own call returns, a remark for each video in it that is not finite)."""
    remarks: list[str] = []
    with _frames_checked(pipe, remarks):
        output = pipe(**call)
    video = output[0] if isinstance(output, tuple) else getattr(output, "frames", output)
    for part in (video if isinstance(video, list) else [video]) if not remarks else []:
        if isinstance(part, (torch.Tensor, np.ndarray)):
            remarks += [] if np.isfinite(_array(part)).all() else ["The video is not finite (it has NaN or infinity)."]
    return output, list(dict.fromkeys(remarks))


def global_generator(device: str | torch.device) -> torch.Generator:
    """Torch's global generator that a pipeline on `device` draws from where a call has no generator."""
    place = torch.device(device)
    module = torch.get_device_module(place)
    generators: tuple[torch.Generator, ...] = getattr(module, "default_generators", ())
    if not generators:  # the CPU, and a device that was never used
        return torch.default_generator
    return generators[module.current_device() if place.index is None else place.index]


def is_global(generator: torch.Generator) -> bool:
    """Whether it is torch's global generator of its device."""
    return generator is global_generator(generator.device)


def is_fresh(generator: torch.Generator) -> bool:
    """Whether nothing was drawn since the generator was seeded, so that its seed gives the same numbers again."""
    again = torch.Generator(generator.device).manual_seed(generator.initial_seed())
    return torch.equal(again.get_state(), generator.get_state())


def drawn_seed() -> int:
    """A seed drawn from torch's global generator: `torch.manual_seed` decides, and the seed is known."""
    return int(torch.randint(2**63 - 1, ()))


def _own_signature(pipe: Any) -> inspect.Signature | None:
    return inspect.signature(pipe.__call__) if callable(pipe) else None


def _positional(pipe: Any, args: Sequence[Any]) -> dict[str, Any]:
    if not args:
        return {}
    if len(args) == 1 and _is_text(args[0]):
        return {"prompt": args[0]}
    theirs = _own_signature(pipe)
    if theirs is None:
        raise InputError(f"{type(pipe).__name__} takes its prompt by position; pass all other arguments by name.")
    try:
        return dict(theirs.bind_partial(*args).arguments)
    except TypeError as error:
        names = ", ".join(theirs.parameters)
        raise InputError(f"{len(args)} arguments by position, but the pipeline has {names}.") from error


def _is_text(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, (list, tuple)) and bool(value) and all(isinstance(each, str) for each in value)
    )


def _plain(name: str, value: Any) -> Any:
    if name == "generator" and isinstance(value, (list, tuple)):
        return value[0] if len(value) == 1 else (list(value) or None)
    if isinstance(value, np.generic):
        return value.item()
    return list(value) if isinstance(value, tuple) and _is_text(value) else value


@contextmanager
def explained(call: Mapping[str, Any], refusal: Exception | None) -> Iterator[None]:
    """Turn what the pipeline raises on a call into an `InputError`, or into the `refusal` that a session gave it.

    Errors of the host's callback pass, and so does running out of memory.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RuntimeError) as error:
        if isinstance(error, InputError) or _is_from(call.get("callback_on_step_end"), error):
            raise
        raise refusal or InputError(f"The pipeline's own call failed: {type(error).__name__}: {error}") from error


def _is_from(callback: Any, error: BaseException) -> bool:
    """Whether a host's callback is in the error's traceback, or may be: not all callables have Python code."""
    if callback is None:
        return False
    inner = (getattr(callback, "func", callback), inspect.getattr_static(callback, "__call__", None))
    codes = {each.__code__ for each in map(inspect.unwrap, inner) if hasattr(each, "__code__")}
    frames = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    return not codes or any(code in codes for code in frames)


@contextmanager
def _frames_checked(pipe: Any, remarks: list[str]) -> Iterator[None]:
    """Look at frames where the pipeline converts them: as images, or clamped to [0, 1], they hide NaN and infinity."""
    processor = getattr(pipe, "video_processor", None)
    original = getattr(processor, "postprocess_video", None)
    if processor is None or original is None:
        yield
        return

    def checked(video: Any, *args: Any, **kwargs: Any) -> Any:
        remarks.extend(_bad_frames(video))
        return original(video, *args, **kwargs)

    before = {name: value for name, value in vars(processor).items() if name == "postprocess_video"}
    vars(processor)["postprocess_video"] = checked
    try:
        yield
    finally:
        del vars(processor)["postprocess_video"]
        vars(processor).update(before)


def _bad_frames(video: Any) -> Iterator[str]:
    """A remark per video of ``[B, C, F, H, W]`` with frames that are not finite."""
    if not isinstance(video, torch.Tensor) or video.ndim != 5:
        return
    for number, each in enumerate(video.isfinite().all(dim=(1, 3, 4)).tolist() if len(video) else ()):
        bad = [frame for frame, finite in enumerate(each) if not finite]
        if bad:
            name = "the video" if len(video) == 1 else f"video {number}"
            yield f"{len(bad)} of {len(each)} frames of {name} are not finite (NaN or infinity), the first is {bad[0]}."


def _array(value: Any) -> Any:
    return value.detach().float().cpu().numpy() if isinstance(value, torch.Tensor) else value
