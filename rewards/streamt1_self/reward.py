"""Self-score: noise is added to a finished chunk, and the model's error in predicting the flow back is its reading.

From the idea of Proprio (arXiv 2605.28230): a video that fits what a generator has learned has small flow residuals,
averaged over noise levels and draws and weighted by motion, so that a frozen video does not win. Written for chunks
after a history, and by default relative to the same prediction without the prompt: the plain residual is smallest where
there is little to predict, such as a scene whose object is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from streamt1_plugins.api.reward import Reward, RewardInput, RewardOutput
from streamt1_plugins.errors import PluginError
from streamt1_plugins.process.imports import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from streamt1_plugins.api.reward import Denoiser
else:
    torch = deferred("torch")

Level = Annotated[float, Field(gt=0, le=1)]

STILL = 0.3
"""Motion, in standard deviations of a latent per latent frame, that counts as much as noise in the latents does."""
NOTHING = 1.0
"""The error of a prediction that leaves all the noise in."""


def renoised(clean: Tensor, noise: Tensor, sigma: float) -> Tensor:
    """``(1 - sigma) x_0 + sigma noise``."""
    return (1 - sigma) * clean + sigma * noise


def residual(flow: Tensor, clean: Tensor, noise: Tensor) -> Tensor:
    """The squared error ``[N, F, h, w]`` of a predicted flow, ``(v - (noise - x_0))^2``, averaged over channels."""
    return (flow - (noise - clean)).square().mean(1)


def motion(clean: Tensor, before: Tensor | None) -> Tensor:
    """The change ``[N, F, h, w]`` of the latents from frame to frame, a root mean square over channels.

    Where nothing comes before, the first frame has the change of the second one; a single frame moves everywhere.
    """
    if before is None and clean.shape[2] == 1:
        return torch.ones_like(clean[:, 0])
    frames = clean if before is None else torch.cat([before, clean], 2)
    change = frames.diff(dim=2).square().mean(1).sqrt()
    return change if before is not None else torch.cat([change[:, :1], change], 1)


def weighted(values: Tensor, moving: Tensor) -> Tensor:
    """``mean(m x) / (mean(m) + STILL)`` of each candidate, ``[N]``: what does not move counts as 0."""
    axes = (1, 2, 3)
    return (moving * values).mean(axes) / (moving.mean(axes) + STILL)


@dataclass
class SelfScore(Reward):
    """How much better the video model predicts the newest chunk with its prompt than without.

    ``mean over levels and draws of weighted(e_without - e_with, m)``: `e` is the squared error of the flow predicted
    for the chunk, noised to a level sigma, and `m` the motion of its latents. levels: the noise levels. draws: draws of
    noise at each level, the same for all candidates of a chunk. against: `no_prompt`, or `nothing` for the published
    idea, where 1 takes the place of `e_without`. Costs levels x draws x 2 transformer forwards per candidate, x 1 for
    `nothing`, and no download.
    """

    needs_prompt: ClassVar[bool] = True

    levels: Annotated[tuple[Level, ...], Field(min_length=1)] = (0.2, 0.4)
    draws: Annotated[int, Field(ge=1)] = 1
    against: Literal["no_prompt", "nothing"] = "no_prompt"

    def __post_init__(self) -> None:
        vars(self)["needs_prompt"] = self.against == "no_prompt"

    def denoiser_calls(self) -> int:
        return len(self.levels) * self.draws * (2 if self.against == "no_prompt" else 1)

    def score(self, inp: RewardInput) -> RewardOutput:
        model = inp.denoiser
        if model is None:
            raise PluginError("Reward 'self' judges with the video model, and this input has no `denoiser`.")
        moving, rounds = motion(model.latents, model.before), range(self.draws)
        scores = [weighted(self._explained(model, sigma, draw), moving) for sigma in self.levels for draw in rounds]
        return RewardOutput(torch.stack(scores).mean(0))

    def _explained(self, model: Denoiser, sigma: float, draw: int) -> Tensor:
        """How much error the prediction removes, ``[N, F, h, w]``."""
        clean, noise = model.latents, model.noise(draw)
        noisy = renoised(clean, noise, sigma)
        error = residual(model.predict(noisy, sigma), clean, noise)
        if self.against == "nothing":
            return NOTHING - error
        return residual(model.predict(noisy, sigma, prompted=False), clean, noise) - error
