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


def split(call: Mapping[str, Any], seed: int) -> list[dict[str, Any]]:
    """One call per video, prompts outermost as diffusers orders them.

    A list of generators gives each video its own; after a single one, or the recipe's `seed`, video i is searched from
    that seed + i. Raises `InputError` where the lists do not fit each other.
    """
    rest = dict(call)
    copies = rest.pop("num_videos_per_prompt", 1)
    if not isinstance(copies, int) or copies < 1:
        raise InputError(f"`num_videos_per_prompt` has to be a whole number from 1 on, got {copies!r}.")
    prompts, negatives = _listed(rest.get("prompt")), _listed(rest.get("negative_prompt"))
    if len(prompts) * copies == 1:
        return [rest]
    if len(negatives) not in {1, len(prompts)}:
        raise InputError(f"{len(prompts)} prompts need as many negative prompts or one, got {len(negatives)}.")
    generators = _generators(rest.pop("generator", None), len(prompts) * copies, seed)
    return [
        _with_prompts(rest, prompts[i // copies], negatives[i // copies % len(negatives)]) | {"generator": generator}
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


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) and value else [value]


def _with_prompts(rest: Mapping[str, Any], prompt: Any, negative: Any) -> dict[str, Any]:
    return {**rest, "prompt": prompt, **({} if negative is None else {"negative_prompt": negative})}


def _generators(given: Any, count: int, seed: int) -> list[torch.Generator]:
    if isinstance(given, (list, tuple)):
        if len(given) != count:
            raise InputError(f"{count} videos need {count} generators or one, got {len(given)}.")
        return list(given)
    first = torch.Generator().manual_seed(seed) if given is None else given
    others = range(1, count)
    return [first, *(torch.Generator(first.device).manual_seed(first.initial_seed() + i) for i in others)]


def _cat(frames: Sequence[Any]) -> Any:
    """Each holds a batch of one video."""
    if isinstance(frames[0], torch.Tensor):
        return torch.cat(list(frames))
    if isinstance(frames[0], np.ndarray):
        return np.concatenate(list(frames))
    return [video for batch in frames for video in batch]
