"""The three ways from noise to a clean chunk: re-noising, Euler steps, and the pipeline's own scheduler.

A sampler takes N candidates from one point to the next and changes nothing it is given, so a draft can be continued
more than once. A step runs the model once, through the function `flow` it is given.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch

from streamt1_plugins.errors import InputError
from streamt1_wan.schedule import Schedule, flow_to_x0, renoise

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

SamplerName = Literal["renoise", "euler", "scheduler"]

SOLVERS = ("FlowMatchEulerDiscreteScheduler", "UniPCMultistepScheduler", "DPMSolverMultistepScheduler")
"""The diffusers schedulers that the sampler `scheduler` can use, in their forms for flow matching."""


@dataclass(frozen=True, slots=True)
class Point:
    """N candidates between two denoising steps.

    latents ``[N, C, F, h, w]``: what the next step begins with. estimate, same shape: the clean chunk as the last step
    predicted it. draws ``[N, D, C, F, h, w]``: noise that is still to be added. step: how many steps are done. solvers:
    a diffusers scheduler per candidate, with what it has to remember.
    """

    latents: Tensor
    estimate: Tensor
    draws: Tensor
    step: int = 0
    solvers: tuple[Any, ...] = ()

    def changed(self, latents: Tensor) -> Point:
        """The same point with latents that a callback changed; they are the estimate where a step ends with it."""
        return replace(self, latents=latents, estimate=latents if self.estimate is self.latents else self.estimate)

    def split(self) -> list[Point]:
        """One point per candidate."""
        tensors = zip(*(torch.split(each, 1) for each in (self.latents, self.estimate, self.draws)), strict=True)
        rows = enumerate(tensors)
        return [Point(x, clean, rest, self.step, self.solvers[row : row + 1]) for row, (x, clean, rest) in rows]

    @staticmethod
    def joined(points: Sequence[Point]) -> Point:
        """The candidates of several points after the same number of steps."""
        return Point(
            torch.cat([point.latents for point in points]),
            torch.cat([point.estimate for point in points]),
            torch.cat([point.draws for point in points]),
            points[0].step,
            tuple(solver for point in points for solver in point.solvers),
        )


class Sampler(Protocol):
    """The steps of a chunk."""

    def draws(self, schedule: Schedule) -> int:
        """Draws of noise that a chunk takes, the initial one included."""

    def start(self, draws: Tensor, schedule: Schedule) -> Point:
        """The point before the first step, from all draws ``[N, D, C, F, h, w]`` of a chunk."""

    def advance(self, point: Point, schedule: Schedule, flow: Callable[[Tensor, Tensor], Tensor]) -> Point:
        """The point after the next step; `flow` takes noisy latents and a timestep."""


class Renoise:
    """Predict the clean chunk, add fresh noise of the next level, repeat: how distilled models are trained (paper).

    ``x_0 = x - sigma v``, then ``x' = (1 - sigma') x_0 + sigma' noise``.
    """

    def draws(self, schedule: Schedule) -> int:
        """The initial noise, and one for every step but the last."""
        return len(schedule)

    def start(self, draws: Tensor, schedule: Schedule) -> Point:
        """From the initial noise."""
        return Point(draws[:, 0], draws[:, 0], draws[:, 1:])

    def advance(self, point: Point, schedule: Schedule, flow: Callable[[Tensor, Tensor], Tensor]) -> Point:
        """Every step but the noisiest begins with re-noising the estimate."""
        timestep, sigma = schedule.timesteps[point.step], schedule.sigmas[point.step]
        noisy, rest = point.latents, point.draws
        if point.step:
            noisy, rest = renoise(noisy, rest[:, 0], sigma), rest[:, 1:]
        clean = flow_to_x0(flow(noisy, timestep), noisy, sigma)
        return Point(clean, clean, rest, point.step + 1)


class Euler:
    """Follow the model's flow, ``x' = x + (sigma' - sigma) v``: the initial noise decides everything."""

    def draws(self, schedule: Schedule) -> int:
        """The initial noise alone."""
        return 1

    def start(self, draws: Tensor, schedule: Schedule) -> Point:
        """From the initial noise, in float32, because many small steps lose low bits in bfloat16."""
        return _ode_start(draws)

    def advance(self, point: Point, schedule: Schedule, flow: Callable[[Tensor, Tensor], Tensor]) -> Point:
        """The last step ends at the clean estimate."""
        sigma, noisy, step = schedule.sigmas[point.step], point.latents, point.step + 1
        velocity = flow(noisy, schedule.timesteps[point.step]).float()
        estimate = flow_to_x0(velocity, noisy, sigma)
        if step == len(schedule):
            return replace(point, latents=estimate, estimate=estimate, step=step)
        return replace(point, latents=noisy + (schedule.sigmas[step] - sigma) * velocity, estimate=estimate, step=step)


class Scheduler:
    """The pipeline's own scheduler, as `WanPipeline` uses it: for causal models that are not distilled.

    Every candidate has a copy of the scheduler, because multistep ones remember the steps before.
    """

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler

    def draws(self, schedule: Schedule) -> int:
        """The initial noise alone."""
        return 1

    def start(self, draws: Tensor, schedule: Schedule) -> Point:
        """From the initial noise, in float32, as in `WanPipeline`."""
        solver, _ = prepared(self._scheduler, len(schedule), draws.device)
        return replace(_ode_start(draws), solvers=(solver,) * len(draws))

    def advance(self, point: Point, schedule: Schedule, flow: Callable[[Tensor, Tensor], Tensor]) -> Point:
        """One step of every candidate's scheduler."""
        timestep, sigma = schedule.timesteps[point.step], schedule.sigmas[point.step]
        velocity, solvers = flow(point.latents, timestep), [copy.deepcopy(solver) for solver in point.solvers]
        rows = zip(solvers, torch.split(velocity, 1), torch.split(point.latents, 1), strict=True)
        moved = [solver.step(row, timestep, latents, return_dict=False)[0] for solver, row, latents in rows]
        estimate = flow_to_x0(velocity.float(), point.latents, sigma)
        return replace(point, latents=torch.cat(moved), estimate=estimate, step=point.step + 1, solvers=tuple(solvers))


def _ode_start(draws: Tensor) -> Point:
    noise = draws[:, 0].float()
    return Point(noise, noise, draws[:, 1:])


def sampler_of(name: SamplerName, pipe: Any) -> Sampler:
    """The sampler of that name."""
    if name == "scheduler":
        return Scheduler(pipe.scheduler)
    return Renoise() if name == "renoise" else Euler()


def check_scheduler(scheduler: Any) -> None:
    """Raise `InputError` for a scheduler that is not for flow matching, or that adds noise of its own."""
    name, config = type(scheduler).__name__, scheduler.config
    flow = name.startswith("FlowMatch") or (
        config.get("prediction_type") == "flow_prediction" and config.get("use_flow_sigmas")
    )
    if name not in SOLVERS or not flow:
        raise InputError(
            f"The sampler 'scheduler' cannot use the pipeline's {name}: it takes {', '.join(SOLVERS)}, the last two "
            'with `prediction_type="flow_prediction", use_flow_sigmas=True`. Set `pipe.scheduler`, or choose '
            "`sampler: renoise` or `sampler: euler`."
        )
    if config.get("stochastic_sampling") or str(config.get("algorithm_type")).startswith("sde"):
        raise InputError(
            f"The pipeline's {name} adds noise of its own in every step (`stochastic_sampling` or an SDE algorithm), "
            "so a candidate would not follow from its noise. Use its deterministic form, or `sampler: renoise`."
        )


def prepared(scheduler: Any, steps: int, device: torch.device) -> tuple[Any, Schedule]:
    """A copy of the scheduler that is set to `steps`, and its noise levels."""
    solver = copy.deepcopy(scheduler)
    solver.set_timesteps(steps, device=device)
    return solver, Schedule(solver.timesteps, solver.sigmas[: len(solver.timesteps)].to(device))
