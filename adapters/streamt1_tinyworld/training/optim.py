"""Muon for matrices, AdamW for other parameters, and a learning rate with warm-up, hold and linear decay."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic Newton-Schulz iteration


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised; kernels of any rank count as (out, rest) matrices. Equal shapes make one batch."""

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, decay: float = 0.0
    ) -> None:
        super().__init__(list(parameters), {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes[parameter.flatten(1).shape].append(parameter)
            for shape, parameters in shapes.items():
                updates = orthogonalise(torch.stack([self._momentum(p, group["momentum"]) for p in parameters]))
                size = 0.2 * max(shape) ** 0.5  # the RMS of a typical AdamW update
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["decay"])
                views = [update.reshape(p.shape) for update, p in zip(updates, parameters, strict=True)]
                torch._foreach_add_(parameters, views, alpha=-group["lr"] * size)

    def _momentum(self, parameter: Tensor, beta: float) -> Tensor:
        gradient = parameter.grad
        assert gradient is not None
        average: Tensor = self.state[parameter].setdefault("average", torch.zeros_like(gradient))
        average.lerp_(gradient, 1 - beta)
        return gradient.lerp(average, beta).flatten(1)


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """[N, out, rest] -> nearly orthogonal matrices with the same row and column spaces."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    x = x.bfloat16() if x.is_cuda else x
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = (x.mT if tall else x).to(matrices.dtype)
    return result


class Optimisers:
    """Both optimisers of a network, with a learning rate that depends on the finished share of the training."""

    def __init__(self, network: nn.Module, matrices: list[nn.Parameter], lr: float, decay: float = 0.0) -> None:
        chosen = {id(parameter) for parameter in matrices}
        rest = [parameter for parameter in network.parameters() if id(parameter) not in chosen]
        self.network, self.lr = network, lr
        self.parts: tuple[torch.optim.Optimizer, ...] = (
            Muon(matrices, lr, decay=decay),
            torch.optim.AdamW(rest, lr, betas=(0.9, 0.98), weight_decay=0.0),
        )

    def step(self, step: int, total: int, hold: float = 0.6) -> None:
        """Clip to norm 1, set the rate of this step, update, clear the gradients."""
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        warm, done = min(1.0, (step + 1) / min(80, total)), step / total
        rate = self.lr * warm * min(1.0, max(0.01, (1 - done) / (1 - hold)))
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate
            part.step()
            part.zero_grad(set_to_none=True)


@torch.no_grad()
def average(slow: nn.Module, fast: nn.Module, step: int, beta: float) -> None:
    """Move the slow weights towards the fast ones: an exponential average that starts short."""
    share = 1 - min(beta, (1 + step) / (10 + step))
    torch._foreach_lerp_([p.data for p in slow.parameters()], [p.data for p in fast.parameters()], share)
