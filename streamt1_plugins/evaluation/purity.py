"""The purity check of a reward: its inputs and torch's random state must be the same after a call as before."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from streamt1_plugins.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from streamt1_plugins.api.reward import RewardInput

SAMPLE = 4096  # numbers compared where torch does not count changes


@contextmanager
def purity_check(source: str, inp: RewardInput) -> Iterator[None]:
    """Raise `ContractError`, naming `source`, if the code inside changes `inp` or draws global random numbers.

    Either would silently make results depend on which rewards a recipe names. The random state is restored first.
    """
    tensors = [tensor for tensor in (inp.video, inp.anchor) if tensor is not None]
    before, random = [_Snapshot(tensor) for tensor in tensors], _random_state()
    yield
    if not all(map(torch.equal, random, _random_state())):
        _restore(random)
        raise ContractError(
            f"{source} drew from torch's global random generator; give it a torch.Generator of its own."
        )
    if any(snapshot.is_changed() for snapshot in before):
        raise ContractError(f"{source} changed its input in place; it must work on a copy.")


class _Snapshot:
    """A tensor's version counter, where it has one, and a sample of its numbers."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor, self._version, self._sample = tensor, _version(tensor), _sample(tensor)

    def is_changed(self) -> bool:
        return self._version != _version(self._tensor) or not torch.equal(self._sample, _sample(self._tensor))


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version


def _sample(tensor: Tensor) -> Tensor:
    """A few numbers spread over the tensor; a NaN equals a NaN."""
    step = max(1, tensor.numel() // SAMPLE)
    return tensor.detach().view(-1)[::step].nan_to_num(nan=-1.0)


def _random_state() -> list[Tensor]:
    """The CPU's state, and the current GPU's where one is in use."""
    used = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if used else [])]


def _restore(state: list[Tensor]) -> None:
    torch.set_rng_state(state[0])
    for gpu in state[1:]:
        torch.cuda.set_rng_state(gpu)
