"""Several prompts, or several videos per prompt, in one call: a search each, joined as the pipeline returns them."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from streamt1_plugins.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

log = logging.getLogger("streamt1")

NOT_TEXTS = ("num_videos_per_prompt", "prompt_template")
"""Arguments with "prompt" in their names that hold no texts, embeddings or masks, one per prompt."""
PICTURES = ("image", "last_image", "video")
"""Arguments that may hold one picture or one video for every prompt."""


def videos(call: Mapping[str, Any]) -> int:
    """How many videos a call makes. Raises `InputError` for a number of videos per prompt that is none."""
    return _prompts(call) * _copies(call)


def split(call: Mapping[str, Any], seed: int | None) -> list[dict[str, Any]]:
    """One call per video, prompts outermost as diffusers orders them; images and videos go with their prompts.

    A list of generators gives each video its own; after a single one, or `seed`, video i is searched from that seed
    + i. Without either, each call is left without a generator. Raises `InputError` where the lists do not fit.
    """
    count, copies = _prompts(call), _copies(call)
    rest = {name: value for name, value in call.items() if name != "num_videos_per_prompt"}
    if count * copies == 1:
        return [rest]
    generators = _generators(rest.pop("generator", None), count * copies, seed)
    if count > 1:
        _check_lists(rest, count)
    return [
        {name: _of_prompt(name, value, i // copies, count) for name, value in rest.items()} | generator
        for i, generator in enumerate(generators)
    ]


def made(calls: Sequence[Mapping[str, Any]], make: Callable[[Mapping[str, Any]], Any]) -> list[Any]:
    """The output of `make` for each call, in order.

    Where one of several fails, whatever it raises has the attribute `outputs`, the list of those before it.
    """
    outputs: list[Any] = []
    with ExitStack() as stack:
        stack.push(lambda kind, error, trace: _keep(outputs, len(calls), error))
        for call in calls:
            outputs.append(make(call))
    return outputs


def _keep(outputs: list[Any], count: int, error: BaseException | None) -> None:
    """Attach the finished videos to an error that ends a call of several."""
    if error is None or count == 1:
        return
    error.outputs = outputs  # type: ignore[attr-defined]
    log.warning(
        "Video %d of %d was not made. The attribute `outputs` of the error has the %d before it.",
        len(outputs) + 1,
        count,
        len(outputs),
    )


def joined(outputs: Sequence[Any]) -> Any:
    """The outputs of single videos as one output, or tuple, of the same kind."""
    if isinstance(outputs[0], tuple):
        return (_cat([output[0] for output in outputs]),)
    return type(outputs[0])(frames=_cat([output.frames for output in outputs]))


def _prompts(call: Mapping[str, Any]) -> int:
    """Texts in the prompt, or rows of its embeddings."""
    given = call.get("prompt") if call.get("prompt") is not None else call.get("prompt_embeds")
    return _length("prompt", given) or 1


def _copies(call: Mapping[str, Any]) -> int:
    copies = call.get("num_videos_per_prompt", 1)
    if copies is None:
        return 1
    if not isinstance(copies, (int, np.integer)) or isinstance(copies, bool) or copies < 1:
        raise InputError(f"`num_videos_per_prompt` has to be a whole number from 1 on, got {copies!r}.")
    return int(copies)


def _length(name: str, value: Any) -> int | None:
    """How many prompts this argument has entries for; None where it is one value for all of them."""
    if name in PICTURES:
        return _pictures(name, value)
    if "prompt" in name and name not in NOT_TEXTS and isinstance(value, (list, tuple, torch.Tensor)):
        return len(value) or None
    return None


def _pictures(name: str, value: Any) -> int | None:
    """Pictures in a list or batch of them. A list of pictures is a single video, a list of lists several."""
    single = 4 if name == "video" else 3  # axes
    if isinstance(value, (list, tuple)) and value:
        is_batch = name != "video" or isinstance(value[0], (list, tuple)) or getattr(value[0], "ndim", 0) >= single
        return len(value) if is_batch else None
    return len(value) if getattr(value, "ndim", 0) > single else None


def _check_lists(call: Mapping[str, Any], count: int) -> None:
    for name, value in call.items():
        length = _length(name, value)
        if length not in {None, 1, count}:
            kind = "negative prompts" if name == "negative_prompt" else f"entries of `{name}`"
            raise InputError(f"{count} prompts need as many {kind} or one, got {length}.")


def _of_prompt(name: str, value: Any, index: int, count: int) -> Any:
    """The part of an argument that belongs to one prompt; embeddings and batches of pictures keep their first axis."""
    length = _length(name, value)
    if length is None or (length == 1 and not isinstance(value, (list, tuple))):
        return value
    row = index if length == count else 0
    return value[row] if isinstance(value, (list, tuple)) else value[row : row + 1]


def _generators(given: Any, count: int, seed: int | None) -> list[dict[str, torch.Generator]]:
    if isinstance(given, (list, tuple)):
        if len(given) != count:
            raise InputError(f"{count} videos need {count} generators or one, got {len(given)}.")
        return [{"generator": each} for each in given]
    if given is None and seed is None:
        return [{}] * count
    first = torch.Generator().manual_seed(seed or 0) if given is None else given
    others = (torch.Generator(first.device).manual_seed((first.initial_seed() + i) % 2**64) for i in range(1, count))
    return [{"generator": each} for each in (first, *others)]


def _cat(frames: Sequence[Any]) -> Any:
    """Each holds a batch of one video."""
    if isinstance(frames[0], torch.Tensor):
        return torch.cat(list(frames))
    if isinstance(frames[0], np.ndarray):
        return np.concatenate(list(frames))
    if isinstance(frames[0][0], torch.Tensor):  # latents, as a list that grows chunk by chunk
        return [torch.cat(parts) for parts in zip(*frames, strict=True)]
    return [video for batch in frames for video in batch]
