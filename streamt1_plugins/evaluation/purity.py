"""The purity check of a reward: its inputs and torch's random state must be the same after a call as before."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING

from streamt1_plugins.errors import ContractError
from streamt1_plugins.process.imports import deferred
from streamt1_plugins.process.state import process_kept

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from torch import Tensor

    from streamt1_plugins.api.reward import RewardInput
    from streamt1_plugins.process.state import Changes
else:
    torch = deferred("torch")

SAMPLE = 4096  # numbers compared where torch does not count changes


@contextmanager
def purity_check(source: str, inp: RewardInput) -> Iterator[Changes]:
    """Raise `ContractError`, naming `source`, if the code inside changes `inp` or draws global random numbers.

    Either would silently make results depend on which rewards a recipe names; a changed input also where the code
    fails. What it changes in the process is put back, the random state too; yields what that was.
    """
    before = _Snapshot(inp)
    changed = f"{source} changed its input in place; it must work on a copy."
    with process_kept() as changes:
        try:
            yield changes
        except Exception as error:
            if before.is_changed():
                raise ContractError(changed) from error
            raise
        if before.is_changed():
            raise ContractError(changed)
    if changes.drew:
        raise ContractError(
            f"{source} drew from torch's global random generator; give it a torch.Generator of its own."
        )


class _Snapshot:
    """The fields of an input; of its tensors, the version counter, where they have one, and a sample of the numbers."""

    def __init__(self, inp: RewardInput) -> None:
        self._inp = inp
        self._fields = {each.name: getattr(inp, each.name) for each in fields(inp)}
        given = (inp.video, inp.anchor, *((inp.denoiser.latents, inp.denoiser.before) if inp.denoiser else ()))
        self._tensors = [tensor for tensor in given if tensor is not None]
        self._before = [(_version(tensor), _sample(tensor)) for tensor in self._tensors]

    def is_changed(self) -> bool:
        if any(getattr(self._inp, name) is not value for name, value in self._fields.items()):
            return True
        return any(
            version != _version(tensor) or not torch.equal(sample, _sample(tensor))
            for tensor, (version, sample) in zip(self._tensors, self._before, strict=True)
        )


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version


def _sample(tensor: Tensor) -> Tensor:
    """A few numbers spread over the tensor; a NaN equals a NaN. A tensor without data has none."""
    if tensor.is_meta:
        return torch.empty(0)
    step = max(1, tensor.numel() // SAMPLE)
    return tensor.detach().reshape(-1)[::step].nan_to_num(nan=-1.0)
