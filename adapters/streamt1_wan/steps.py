"""What a host may do between two denoising steps: interrupt, change guidance, texts and latents, watch a bar."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch

from streamt1_plugins.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from streamt1_wan.request import Request

TEXTS = ("prompt_embeds", "negative_prompt_embeds")
"""The text conditions in the order of their rows."""

_LAST: WeakKeyDictionary[Any, object] = WeakKeyDictionary()
"""The mark of the session whose state a pipeline shows."""


@dataclass(slots=True)
class Conditions:
    """The guidance scale and text embeddings of N candidates between two steps, which callbacks may change.

    `text` is ``[N, conditions, tokens, text_dim]``, or has one entry for all candidates.
    """

    text: Tensor
    guidance_scale: float

    def rows(self, candidates: int, guided: bool) -> Tensor:
        """The embeddings of a forward pass, ``[candidates * conditions, tokens, text_dim]``, candidate-major."""
        count = self.text.shape[1] if guided else 1
        return self.text[:, :count].expand(candidates, -1, -1, -1).flatten(0, 1)


def joined(parts: list[Conditions]) -> Conditions:
    """The conditions of candidates that share the guidance scale, one after the other."""
    return Conditions(torch.cat([part.text for part in parts]), parts[0].guidance_scale)


class Steps:
    """The state of a pipeline during its steps, kept as `WanPipeline.__call__` keeps it: properties, bar, callback.

    `interrupted` stays true once the host has set ``pipe._interrupt``, until the end of the call.
    """

    def __init__(self, pipe: Any, request: Request, steps: int, total: int) -> None:
        self.interrupted = False
        self._pipe, self._request, self._total, self._mark = pipe, request, total, object()
        self._bar: Any = None
        pipe._interrupt = False
        self._show(request.guidance_scale, steps)

    def stopped(self) -> bool:
        """Whether the host has interrupted the call."""
        self.interrupted = self.interrupted or bool(self._pipe.interrupt)
        return self.interrupted

    def ended(self, step: int, timestep: Tensor, latents: Tensor, conditions: Conditions) -> Tensor:
        """Call the host's callback after a step; returns the latents, and changes `conditions`, as it wants them."""
        callback = self._request.callback_on_step_end
        if callback is None:
            return latents
        given = {"latents": latents, **self._texts(conditions, len(latents))}
        wanted = {name: given.get(name) for name in self._request.callback_on_step_end_tensor_inputs}
        changed = callback(self._pipe, step, timestep, wanted)
        if not isinstance(changed, Mapping):
            raise InputError(
                "`callback_on_step_end` has to return a dict of the tensors it changes, such as the one it is given, "
                f"got {type(changed).__name__}."
            )
        conditions.guidance_scale = self._pipe._guidance_scale
        self._change_texts(conditions, changed, given)
        return _checked(changed.get("latents"), latents, "latents")

    def begin(self, conditions: Conditions, steps: int, *, plain: bool) -> None:
        """Before the steps of a chunk. Candidates begin with the call's guidance; a plain run keeps what the host sets.

        What the pipeline shows is another session's if that was the last one, and then it is no setting of the host's.
        """
        if plain and _LAST.get(self._pipe) is self._mark:
            conditions.guidance_scale = self._pipe._guidance_scale
        self._show(conditions.guidance_scale, steps)
        if plain and self._bar is None:
            self._bar = self._pipe.progress_bar(total=self._total)

    def _show(self, guidance_scale: float, steps: int) -> None:
        pipe, _LAST[self._pipe] = self._pipe, self._mark
        pipe._guidance_scale, pipe._guidance_scale_2 = guidance_scale, None
        pipe._attention_kwargs, pipe._current_timestep = self._request.attention_kwargs, None
        pipe._num_timesteps = steps

    def at(self, timestep: Tensor | None) -> None:
        """Set the timestep that the pipeline shows."""
        self._pipe._current_timestep = timestep

    def advance(self, *, plain: bool) -> None:
        """Move the bar, which a plain run has."""
        if plain and self._bar is not None:
            self._bar.update()

    def close(self) -> None:
        """End the bar; a second call does nothing."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _texts(self, conditions: Conditions, candidates: int) -> dict[str, Tensor]:
        rows = conditions.text.expand(candidates, -1, -1, -1)
        return {name: rows[:, index] for index, name in enumerate(TEXTS[: rows.shape[1]])}

    def _change_texts(self, conditions: Conditions, changed: Mapping[str, Any], given: Mapping[str, Tensor]) -> None:
        texts = [_text(changed.get(name), given[name], name) for name in TEXTS if name in given]
        if all(text is given[name] for text, name in zip(texts, TEXTS, strict=False)):
            return
        if len({text.shape[1:] for text in texts}) > 1:
            sizes = " and ".join(str(list(text.shape)) for text in texts)
            raise InputError(f"`callback_on_step_end` returned {' and '.join(TEXTS)} of different shapes: {sizes}.")
        count = max(map(len, texts))
        conditions.text = torch.stack([text.expand(count, -1, -1) for text in texts], dim=1)


def _checked(value: Any, like: Tensor, name: str) -> Tensor:
    """Latents from a callback, in the dtype and on the device of those it was given."""
    if value is None or value is like:
        return like
    if not isinstance(value, torch.Tensor) or value.shape != like.shape:
        found = list(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        raise InputError(f"`callback_on_step_end` returned `{name}` {found}, expected a tensor {list(like.shape)}.")
    fitted: Tensor = value.to(like)
    return fitted


def _text(value: Any, like: Tensor, name: str) -> Tensor:
    """Embeddings from a callback: a row per candidate or one for all, of any number of tokens."""
    if value is None or value is like:
        return like
    fits = isinstance(value, torch.Tensor) and value.ndim == 3 and value.shape[-1] == like.shape[-1]
    if not fits or len(value) not in {1, len(like)}:
        found = list(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        raise InputError(
            f"`callback_on_step_end` returned `{name}` {found}, expected a tensor [1 or {len(like)}, tokens, "
            f"{like.shape[-1]}]."
        )
    fitted: Tensor = value.to(like)
    return fitted
