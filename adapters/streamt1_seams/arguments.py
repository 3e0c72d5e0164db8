"""A call's arguments, checked before anything is computed, for adapters that hand them to a stock pipeline."""

from __future__ import annotations

from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

from streamt1_plugins.errors import InputError, UnsupportedPipelineError, guess
from streamt1_plugins.process.imports import deferred

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
else:
    torch = deferred("torch")

OUTPUT_TYPES = ("np", "pil", "pt", "latent")

PROPOSED = "noise is drawn, or proposed by the noise policy, chunk by chunk; pass `generator` to fix it"
"""Why the argument `latents` of a pipeline cannot be used."""


def arguments(
    pipe: Any, call: Mapping[str, Any], refused: Mapping[str, str], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Every argument of the pipeline's `__call__`: from the call, else the adapter's default, else the pipeline's own.

    None means "not given". `prompt` and `negative_prompt` come back as one text each, `generator` as a generator.
    Raises `InputError`, also for what the pipeline's own `check_inputs` refuses, and `UnsupportedPipelineError` where
    a text has to be encoded and the pipeline was loaded without a text encoder.
    """
    known = {**given(defaults), **given(call)}
    values = check_call(pipe, known, refused)
    values["generator"] = values["generator"] or torch.Generator().manual_seed(0)
    _check_types(pipe, known)
    _check_inputs(pipe, values)
    if values["prompt_embeds"] is None:
        check_text_encoder(pipe)
    return values


def given(call: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that are not None, which means "not given"."""
    return {name: value for name, value in call.items() if value is not None}


def check_call(pipe: Any, call: Mapping[str, Any], refused: Mapping[str, str]) -> dict[str, Any]:
    """The call's arguments over the defaults of ``pipe.__call__``: one prompt, one video. Raises `InputError`.

    refused: arguments of the pipeline that mean nothing in a search, and what to do instead. `prompt` and
    `negative_prompt` come back as one text each.
    """
    known = {name: each for name, each in signature(type(pipe).__call__).parameters.items() if name != "self"}
    for name, value in call.items():
        if name not in known:
            raise InputError(f"Unknown argument {name!r}.{guess(name, known)} Known: {', '.join(sorted(known))}.")
        if name in refused and value is not None:
            raise InputError(f"The argument {name!r} cannot be used here: {refused[name]}.")
    defaults = {name: None if each.default is Parameter.empty else each.default for name, each in known.items()}
    full = {**defaults, **call}
    _check_text(full)
    for name, each in known.items():
        if each.default is Parameter.empty and name != "prompt" and full[name] is None:
            raise InputError(f"`{name}` is missing: {type(pipe).__name__} starts from it.")
    _check_choices(full)
    lists = {name: full[name] for name in ("prompt", "negative_prompt") if isinstance(full.get(name), (list, tuple))}
    return {**full, **{name: entries[0] for name, entries in lists.items()}}


def check_text_encoder(pipe: Any) -> None:
    """Raise `UnsupportedPipelineError` where a text has to be encoded and the pipeline cannot encode one."""
    if pipe.tokenizer is None or pipe.text_encoder is None:
        raise UnsupportedPipelineError(
            "The pipeline has no tokenizer or text encoder. Load it with both, or pass `prompt_embeds` (and "
            "`negative_prompt_embeds` with guidance)."
        )


def check_single(name: str, value: Any) -> None:
    """Raise `InputError` for a batch of images: a list of several, or an array with a batch dimension above 1."""
    size = len(value) if isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) > 3 else 1
    if size != 1:
        raise InputError(f"`{name}` has {size} entries, but one call makes one video: call once each.")


def texts(call: Mapping[str, Any]) -> dict[str, Any]:
    """Prompts, their embeddings and masks, as far as they are given."""
    other = ("num_videos_per_prompt", "prompt_template")
    return {name: value for name, value in call.items() if "prompt" in name and name not in other and value is not None}


def _check_types(pipe: Any, call: Mapping[str, Any]) -> None:
    """Numbers and switches have to be of the type the pipeline's own defaults have."""
    kinds: dict[type, tuple[type, ...]] = {bool: (bool,), int: (int,), float: (int, float)}
    parameters = signature(type(pipe).__call__).parameters
    for name, value in call.items():
        wanted = kinds.get(type(parameters[name].default), ())
        if wanted and (not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted)):
            kind = wanted[-1].__name__
            raise InputError(f"`{name}` has to be of type {kind}, got {type(value).__name__}: {value!r}.")


def _check_inputs(pipe: Any, values: Mapping[str, Any]) -> None:
    """Run the pipeline's own checks; what they refuse is an `InputError`."""
    names = signature(pipe.check_inputs).parameters
    try:
        pipe.check_inputs(**{name: values[name] for name in names})
    except ValueError as error:
        raise InputError(str(error)) from error


def _check_text(call: Mapping[str, Any]) -> None:
    if call.get("prompt") is None and call.get("prompt_embeds") is None:
        embeds = " or `prompt_embeds`" if "prompt_embeds" in call else ""
        raise InputError(f"No prompt: pass `prompt` (a text){embeds}.")
    for name, value in texts(call).items():
        entries = value if isinstance(value, (list, tuple, torch.Tensor)) else [value]
        if len(entries) != 1:
            raise InputError(
                f"`{name}` has {len(entries)} entries, but one call makes one video. Call once per prompt."
            )
        if not isinstance(entries[0], (str, torch.Tensor)):
            raise InputError(f"`{name}` has to be a text (str), got {type(entries[0]).__name__}: {entries[0]!r}.")


def _check_choices(call: Mapping[str, Any]) -> None:
    found = call.get("num_videos_per_prompt", 1)
    if found != 1:
        raise InputError(f"`num_videos_per_prompt` has to be 1, got {found}: call once per video, with its own seed.")
    if call["output_type"] not in OUTPUT_TYPES:
        raise InputError(f"`output_type` has to be one of {', '.join(OUTPUT_TYPES)}, got {call['output_type']!r}.")
    if not isinstance(call["generator"], (torch.Generator, type(None))):
        raise InputError(f"`generator` has to be of type Generator, got {type(call['generator']).__name__}.")
