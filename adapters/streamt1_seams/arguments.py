"""A call's arguments for adapters that hand them to a stock pipeline piece by piece; `streamt1_helios` uses it too."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any

import torch

from streamt1_plugins.errors import InputError, UnsupportedPipelineError
from streamt1_seams.interrupt import check_call

if TYPE_CHECKING:
    from collections.abc import Mapping

PROPOSED = "noise is drawn, or proposed by the noise policy, chunk by chunk; pass `generator` to fix it"
"""Why the argument `latents` of a pipeline cannot be used."""


def arguments(
    pipe: Any, call: Mapping[str, Any], refused: Mapping[str, str], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Every argument of the pipeline's `__call__`: from the call, else the adapter's default, else the pipeline's own.

    None means "not given". `prompt` and `negative_prompt` come back as one text each, `generator` as a generator.
    Raises `InputError`, also for what the pipeline's own `check_inputs` refuses, and `UnsupportedPipelineError` where
    a text is to be encoded and the pipeline was loaded without the means.
    """
    given = {name: value for each in (defaults, call) for name, value in each.items() if value is not None}
    values = check_call(pipe, given, refused)
    for name in ("prompt", "negative_prompt"):
        values[name] = values[name][0] if isinstance(values[name], (list, tuple)) else values[name]
    values["generator"] = values["generator"] or torch.Generator().manual_seed(0)
    _check_types(pipe, given)
    _ask_the_pipeline(pipe, values)
    if values["prompt_embeds"] is None and (pipe.tokenizer is None or pipe.text_encoder is None):
        raise UnsupportedPipelineError(
            "The pipeline has no tokenizer or text encoder. Load it with both, or pass `prompt_embeds` (and "
            "`negative_prompt_embeds` with guidance)."
        )
    return values


def _check_types(pipe: Any, given: Mapping[str, Any]) -> None:
    """Numbers and switches have to be of the kind the pipeline's own defaults have."""
    kinds: dict[type, tuple[type, ...]] = {bool: (bool,), int: (int,), float: (int, float)}
    parameters = signature(type(pipe).__call__).parameters
    for name, value in given.items():
        wanted = kinds.get(type(parameters[name].default), ())
        if wanted and (not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted)):
            kind = wanted[-1].__name__
            raise InputError(f"`{name}` has to be of type {kind}, got {type(value).__name__}: {value!r}.")


def _ask_the_pipeline(pipe: Any, values: Mapping[str, Any]) -> None:
    """The pipeline's own checks, under our own error."""
    names = signature(pipe.check_inputs).parameters
    try:
        pipe.check_inputs(**{name: values[name] for name in names})
    except ValueError as error:
        raise InputError(str(error)) from error
