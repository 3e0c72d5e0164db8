"""The samplers of causal Wan: what a chunk follows from, and that each is the stock pipeline's where there is one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from streamt1_plugins.api.adapter import MemoryPlan
from streamt1_plugins.errors import InputError, RecipeError
from streamt1_wan.adapter import CausalWanAdapter
from streamt1_wan.samplers import Euler, Point, Renoise, prepared
from streamt1_wan.schedule import uniform
from tests.adapters.tiny import seeded, tiny_pipeline

CALL = {"prompt": "a red circle", "height": 32, "width": 32, "num_frames": 9, "max_sequence_length": 16}
FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
STEPS = 4
SCHEDULERS = [
    FlowMatchEulerDiscreteScheduler(shift=3.0),
    UniPCMultistepScheduler(**FLOW),
    DPMSolverMultistepScheduler(**FLOW),
]


def chunk(pipe: Any, options: dict[str, Any], draws: torch.Tensor, **call: Any) -> torch.Tensor:
    """The first chunk, latents [1, 16, 3, 4, 4], from its draws."""
    session = CausalWanAdapter(**options).open(pipe, {**CALL, **call}, MemoryPlan())
    latents = session.generate(session.root(), draws, [seeded(0)] * len(draws))
    session.close()
    return latents


def noise(seed: int, count: int = 1) -> torch.Tensor:
    return torch.randn(count, 16, 3, 4, 4, generator=seeded(seed))


@pytest.mark.parametrize("scale", [1.0, 4.0])
@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=lambda each: type(each).__name__)
def test_a_video_of_one_chunk_is_the_stock_pipelines(scheduler: Any, scale: float) -> None:
    pipe = tiny_pipeline()
    pipe.scheduler = scheduler
    call = {**CALL, "num_inference_steps": STEPS, "guidance_scale": scale, "negative_prompt": "blue"}
    stock = pipe(**call, latents=noise(1), output_type="latent").frames
    guidance = {name: call[name] for name in ("guidance_scale", "negative_prompt")}
    ours = chunk(pipe, {"sampler": "scheduler", "steps": (STEPS,)}, noise(1), **guidance)
    if scale == 1.0:
        assert torch.equal(ours, stock)
    else:  # both conditions are one batch here
        torch.testing.assert_close(ours, stock, atol=1e-5, rtol=1e-5)


def test_euler_is_the_flow_match_euler_scheduler() -> None:
    pipe = tiny_pipeline()
    pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    schedule = uniform(STEPS, 5.0)
    pipe.scheduler.set_timesteps(sigmas=schedule.sigmas.tolist())
    torch.testing.assert_close(pipe.scheduler.sigmas[:-1], schedule.sigmas)
    stock = chunk(pipe, {"sampler": "euler", "steps": (STEPS,), "shift": 5.0}, noise(1))
    latents = noise(1)
    for timestep in pipe.scheduler.timesteps:
        velocity = chunk_flow(pipe, latents, timestep)
        latents = pipe.scheduler.step(velocity, timestep, latents, return_dict=False)[0]
    torch.testing.assert_close(stock, latents, atol=1e-5, rtol=0)


@torch.no_grad()
def chunk_flow(pipe: Any, latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    text = pipe.encode_prompt("a red circle", do_classifier_free_guidance=False, max_sequence_length=16)[0]
    flow: torch.Tensor = pipe.transformer(latents, timestep[None], text, return_dict=False)[0]
    return flow


@pytest.mark.parametrize(("sampler", "draws"), [("renoise", STEPS), ("euler", 1), ("scheduler", 1)])
def test_draws(sampler: Any, draws: int) -> None:
    session = CausalWanAdapter(sampler=sampler, steps=(STEPS,)).open(tiny_pipeline(), CALL, MemoryPlan())
    assert session.draws(session.root()) == draws
    assert session.steps(session.root()) == STEPS
    session.close()


def test_an_ode_takes_no_noise_from_the_generator() -> None:
    for sampler in ("euler", "scheduler"):
        pipe, options = tiny_pipeline(), {"sampler": sampler, "steps": (STEPS,)}
        session = CausalWanAdapter(**options).open(pipe, CALL, MemoryPlan())
        left, right = (session.generate(session.root(), noise(1), [seeded(seed)]) for seed in (2, 3))
        session.close()
        assert torch.equal(left, right)


@pytest.mark.parametrize("sampler", ["renoise", "euler", "scheduler"])
def test_a_draft_is_finished_twice_with_one_result(sampler: Any) -> None:
    pipe = tiny_pipeline()
    pipe.scheduler = UniPCMultistepScheduler(**FLOW)
    session = CausalWanAdapter(sampler=sampler, steps=(STEPS,)).open(pipe, CALL, MemoryPlan())
    root, generators = session.root(), [seeded(1), seeded(2)]
    whole = torch.cat([session.generate(root, noise(seed), [seeded(seed)]) for seed in (1, 2)])
    drafts = [session.draft(root, noise(seed), [seeded(seed)], 2)[0] for seed in (1, 2)]
    for _ in range(2):
        alone = [session.finish_drafts(root, [draft], [generators[0]]) for draft in drafts]
        assert torch.equal(torch.cat(alone), whole)
        together = session.finish_drafts(root, drafts, generators)
        torch.testing.assert_close(together, whole, atol=1e-5, rtol=0)
    session.close()


def test_a_callback_changes_what_the_next_step_begins_with() -> None:
    def zero(_pipe: Any, step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        return {"latents": torch.zeros_like(tensors["latents"])} if step == STEPS - 1 else {}

    for sampler in ("renoise", "euler", "scheduler"):
        options = {"sampler": sampler, "steps": (STEPS,)}
        assert not chunk(tiny_pipeline(), options, noise(1), callback_on_step_end=zero).any()


def test_one_euler_step_is_one_renoise_step() -> None:
    pipe = tiny_pipeline()
    left, right = (chunk(pipe, {"sampler": name, "steps": (1,)}, noise(1)) for name in ("euler", "renoise"))
    assert torch.equal(left, right)


def test_points_split_and_join() -> None:
    point = Renoise().start(torch.randn(3, 2, 16, 3, 4, 4), uniform(2, 5.0))
    again = Point.joined(point.split())
    assert torch.equal(again.latents, point.latents)
    assert torch.equal(again.draws, point.draws)


def test_a_changed_estimate_follows_only_where_a_step_ends_with_it() -> None:
    schedule, flow = uniform(2, 5.0), lambda noisy, _timestep: noisy
    for sampler, follows in ((Renoise(), True), (Euler(), False)):
        draws = torch.randn(1, sampler.draws(schedule), 16, 3, 4, 4)
        point = sampler.advance(sampler.start(draws, schedule), schedule, flow)
        changed = point.changed(torch.zeros_like(point.latents))
        assert (changed.estimate is changed.latents) == follows


def test_the_pipelines_scheduler_is_left_alone() -> None:
    pipe = tiny_pipeline()
    before = dict(vars(pipe.scheduler))
    chunk(pipe, {"sampler": "scheduler", "steps": (STEPS,)}, noise(1))
    after = vars(pipe.scheduler)
    assert before.keys() == after.keys()
    assert all(after[name] is value or after[name] == value for name, value in before.items())


def test_prepared_has_a_noise_level_per_timestep() -> None:
    for scheduler in SCHEDULERS:
        _, schedule = prepared(scheduler, STEPS, torch.device("cpu"))
        assert len(schedule) == len(schedule.sigmas) == STEPS
        torch.testing.assert_close(schedule.timesteps.float() / 1000, schedule.sigmas, atol=1.1e-3, rtol=0)


@pytest.mark.parametrize(
    ("scheduler", "match"),
    [
        (DDIMScheduler(), "cannot use the pipeline's DDIMScheduler"),
        (UniPCMultistepScheduler(), "flow_prediction"),
        (FlowMatchEulerDiscreteScheduler(stochastic_sampling=True), "noise of its own"),
        (DPMSolverMultistepScheduler(**FLOW, algorithm_type="sde-dpmsolver++"), "noise of its own"),
    ],
)
def test_unusable_schedulers_are_refused(scheduler: Any, match: str) -> None:
    pipe = tiny_pipeline()
    pipe.scheduler = scheduler
    with pytest.raises(InputError, match=match):
        CausalWanAdapter(sampler="scheduler").open(pipe, CALL, MemoryPlan())


@pytest.mark.parametrize("option", [{"shift": 3.0}, {"timesteps": (1000, 500)}, {"warp": False}])
def test_options_of_a_schedule_clash_with_the_pipelines(option: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=f"`{next(iter(option))}` has no effect"):
        CausalWanAdapter(sampler="scheduler", **option)


def test_fifty_steps_where_none_are_set() -> None:
    assert CausalWanAdapter(sampler="scheduler").outline(9).steps == (50,)
    assert CausalWanAdapter(sampler="euler").outline(9).steps == (4,)
    assert CausalWanAdapter(sampler="scheduler", steps=(8, 4)).outline(33).steps == (8, 4, 4)
