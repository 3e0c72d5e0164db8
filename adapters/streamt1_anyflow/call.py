"""What adapters of stock pipelines share: a call read against the pipeline's own signature, and lent attributes."""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from streamt1_plugins.errors import InputError, UnsupportedPipelineError, guess

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

OUTPUT_TYPES = ("np", "pil", "pt", "latent")

PROPOSED = "noise is drawn, or proposed by the noise policy, chunk by chunk; pass `generator` to fix it"
"""Why the argument `latents` of a pipeline cannot be used."""


def arguments(
    pipe: Any, call: Mapping[str, Any], unusable: Mapping[str, str], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Every argument of the pipeline's `__call__`: from the call, else the adapter's default, else the pipeline's own.

    None means "not given". `unusable` names the arguments that have no meaning here and says what to do instead.
    `prompt` and `negative_prompt` come back as one text each. Raises `InputError`, also for what the pipeline's own
    `check_inputs` refuses.
    """
    own = {name: each.default for name, each in inspect.signature(type(pipe).__call__).parameters.items()}
    del own["self"]
    chosen = {name: value for name, value in defaults.items() if value is not None}
    given = {name: value for name, value in call.items() if value is not None}
    _check_names({**chosen, **given}, own, unusable)
    _check_types({**chosen, **given}, own)
    texts = {name: _one_text(name, given[name]) for name in ("prompt", "negative_prompt") if name in given}
    values: dict[str, Any] = {**own, **chosen, "generator": torch.Generator().manual_seed(0), **given, **texts}
    _check_choices(values)
    _check_text(values)
    _ask_the_pipeline(pipe, values)
    return values


@contextmanager
def lent(target: Any, **attributes: Any) -> Iterator[None]:
    """Give one object its own attributes for a while; afterwards what was there is back and what was not is gone."""
    own = vars(target)
    before = {name: own[name] for name in attributes if name in own}
    own.update(attributes)
    try:
        yield
    finally:
        for name in attributes:
            own.pop(name, None)
        own.update(before)


def check_text_encoder(pipe: Any, values: Mapping[str, Any]) -> None:
    """Raise `UnsupportedPipelineError` where a text has to be encoded and the pipeline was loaded without the means."""
    if values["prompt_embeds"] is None and (pipe.tokenizer is None or pipe.text_encoder is None):
        raise UnsupportedPipelineError(
            "The pipeline has no tokenizer or text encoder. Load it with both, or pass `prompt_embeds` (and "
            "`negative_prompt_embeds` with guidance)."
        )


def _check_names(given: Mapping[str, Any], own: Mapping[str, Any], unusable: Mapping[str, str]) -> None:
    known = [name for name in own if name not in unusable]
    for name in given:
        if name in unusable:
            raise InputError(f"The argument {name!r} cannot be used with this adapter: {unusable[name]}.")
        if name not in own:
            raise InputError(f"Unknown argument {name!r}.{guess(name, known)} Known: {', '.join(sorted(known))}.")


def _check_types(given: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Numbers and switches as the pipeline's own defaults have them, and a single generator."""
    kinds: dict[type, tuple[type, ...]] = {bool: (bool,), int: (int,), float: (int, float)}
    for name, value in given.items():
        wanted = (torch.Generator,) if name == "generator" else kinds.get(type(own[name]), ())
        if wanted and (not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted)):
            raise InputError(
                f"`{name}` has to be of type {wanted[-1].__name__}, got {type(value).__name__}: {value!r}."
            )


def _one_text(name: str, value: Any) -> str:
    """A text, or a list of exactly one text, as pipelines take it."""
    if isinstance(value, (list, tuple)):
        if len(value) != 1:
            raise InputError(f"`{name}` has {len(value)} entries, but one call makes one video. Call once per prompt.")
        value = value[0]
    if not isinstance(value, str):
        raise InputError(f"`{name}` has to be a text (str), got {type(value).__name__}: {value!r}.")
    return value


def _check_choices(values: Mapping[str, Any]) -> None:
    if values["num_videos_per_prompt"] != 1:
        raise InputError(
            f"`num_videos_per_prompt` has to be 1, got {values['num_videos_per_prompt']}: call once per video, each "
            "with its own seed."
        )
    if values["output_type"] not in OUTPUT_TYPES:
        raise InputError(f"`output_type` has to be one of {', '.join(OUTPUT_TYPES)}, got {values['output_type']!r}.")


def _check_text(values: Mapping[str, Any]) -> None:
    if values["prompt"] is None and values["prompt_embeds"] is None:
        raise InputError("No prompt: pass `prompt` (a text) or `prompt_embeds`.")
    if values["prompt"] is not None and not values["prompt"].strip():
        raise InputError("`prompt` is empty: say what the video should show.")
    for name in ("prompt_embeds", "negative_prompt_embeds"):
        embeds = values[name]
        if embeds is not None and (not isinstance(embeds, torch.Tensor) or embeds.ndim != 3 or len(embeds) != 1):
            raise InputError(f"`{name}` has to be [1, tokens, text_dim], got {list(getattr(embeds, 'shape', ()))}.")


def _ask_the_pipeline(pipe: Any, values: Mapping[str, Any]) -> None:
    """The pipeline's own checks, under our own error."""
    names = inspect.signature(pipe.check_inputs).parameters
    try:
        pipe.check_inputs(**{name: values[name] for name in names})
    except ValueError as error:
        raise InputError(str(error)) from error
