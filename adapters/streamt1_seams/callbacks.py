"""A host's `callback_on_step_end`, where each chunk is a call or a loop of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from streamt1_seams.modules import own

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streamt1_plugins.api.scenes import Scene

EMBEDDINGS = ("prompt_embeds", "negative_prompt_embeds")
ATTRIBUTES = ("_guidance_scale", "_attention_kwargs")
"""Attributes that a pipeline's call sets at its start, and that a callback may change for the rest of it."""


class HostCallback:
    """Calls the host's callback, and carries what it changes from one chunk to the next.

    In the pipeline's own loop such a change lasts for the rest of the video: embeddings that the callback returns, and
    attributes that it sets. Here a chunk begins with what the chunk before it ended with. Of several candidates, which
    all begin alike, that is the one made last; of a batch, its first row. A resumed run begins without changes.

    call: the arguments of the pipeline's call, by name. scenes: where the prompt changes. Embeddings that the callback
    returns last until then, because a new scene has texts of its own.
    """

    def __init__(self, call: Mapping[str, Any], scenes: Sequence[Scene] = ()) -> None:
        self.callback = call["callback_on_step_end"]
        self._begin_scenes = {scene.chunk for scene in scenes}
        # Diffusers' callback objects name their own tensors.
        self.names = getattr(self.callback, "tensor_inputs", call["callback_on_step_end_tensor_inputs"]) or []
        self._first = {f"_{name}": call[name] for name in ("guidance_scale", "attention_kwargs")}
        self._after: dict[int, dict[str, Any]] = {}
        self._now = dict(self._first)

    def __call__(self, pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        """What the host's callback returns, nothing without one."""
        if self.callback is None:
            return {}
        answer: dict[str, Any] = self.callback(pipe, step, timestep, tensors)
        replaced = {name: answer[name] for name in EMBEDDINGS if answer.get(name) is not None}
        self._now |= {
            name: own(each[:1]) if isinstance(each, torch.Tensor) else each for name, each in replaced.items()
        }
        return answer

    def begin(self, index: int) -> None:
        """Chunk `index` begins."""
        before = self._after.get(index - 1, self._first)
        ended = EMBEDDINGS if index in self._begin_scenes else ()
        self._now = {name: value for name, value in before.items() if name not in ended}

    def apply(self, pipe: Any) -> None:
        """Set the attributes as the chunk before left them."""
        for name in ATTRIBUTES:
            setattr(pipe, name, self._now[name])

    def end(self, index: int, pipe: Any) -> None:
        """Chunk `index` is denoised."""
        self._now |= {name: getattr(pipe, name) for name in ATTRIBUTES}
        self._after = {chunk: changes for chunk, changes in self._after.items() if chunk == index - 1}
        self._after[index] = dict(self._now)

    def embeddings(self, name: str, given: Any) -> Any:
        """The embeddings of that name as they are now: replaced by the callback, or as given."""
        return self._now.get(name, given)

    def arguments(self) -> dict[str, Any]:
        """The two arguments with which the pipeline calls this object, and hands it what the host wants to see."""
        if self.callback is None:
            return {}
        return {"callback_on_step_end": self, "callback_on_step_end_tensor_inputs": self.names}
