"""The memory that a search will take on its device: from a recipe alone, or measured on the loaded pipeline."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from math import prod
from typing import TYPE_CHECKING, Any

import humanize

from streamt1_plugins.api.adapter import Footprint, HasPreview, History, MemoryPlan, OutlinedSession, Session
from streamt1_plugins.api.routed_memory import capacity
from streamt1_plugins.errors import PluginError, RecipeError, foreign_code
from streamt1_plugins.policies.revision import widening
from streamt1_plugins.policies.width import widest
from streamt1_plugins.process.imports import deferred
from streamt1_plugins.search.offload import map_leaves
from streamt1_plugins.search.previews import kept_chunks, problem, scores_previews_alone, wanted

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch
    from torch import Tensor

    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.types import RevisionLimits
    from streamt1_plugins.config.schema import Recipe, SearchSettings
    from streamt1_plugins.evaluation.pool import BoundReward
    from streamt1_plugins.search.loop import Search
else:
    torch = deferred("torch")

MEGABYTE = 10**6
PROBE = 4  # latent pixels a side: a decoder's state grows with the area, so a small picture is enough to measure it
KNOBS = {
    "model": "Offload components of the model: placement.offload.",
    "memory": "Choose a smaller search.top_k or sinks.window_chunks, or search.offload=cpu.",
    "states": "Choose search.offload=recompute, or fewer search.candidates.",
    "frames": "Choose a smaller search.top_k, fewer search.candidates or a shorter video.",
    "rewards": "Give a reward another device, or offload: true.",
}
"""What makes each part of an estimate smaller."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes at the peak of a search, without activations.

    Memory that branches share is counted for each of them, so this is an upper estimate of what is listed.

    model: weights of the pipeline. memory: keys and values of the beams, and those that a forward pass reads. states:
    decoder states of a chunk's candidates and of the beams. frames: noise, latents and frames of a chunk's candidates,
    latents and frames of the beams' videos. rewards: weights that the rewards declare.
    """

    model: int
    memory: int
    states: int
    frames: int
    rewards: int

    @property
    def total(self) -> int:
        """The sum of all parts."""
        return sum(size for _, size in self.parts())

    def parts(self) -> list[tuple[str, int]]:
        """(name, bytes) of every part."""
        return [(item.name, getattr(self, item.name)) for item in fields(self)]

    def __str__(self) -> str:
        listed = ", ".join(f"{name} {as_text(size)}" for name, size in self.parts())
        return f"about {as_text(self.total)} of memory, activations aside ({listed})"


def estimate(
    search: SearchSettings, each: Footprint, width: int, processes: int = 1, rewards: int = 0
) -> MemoryEstimate:
    """The estimate for a search on one device, all of whose candidates are decoded in full.

    each: what one beam, one candidate, one chunk takes. width: candidates per beam at most, which `processes` share.
    rewards: bytes of their weights.
    """
    candidates = -(-width * search.top_k // processes)
    waiting = candidates if search.offload == "none" else min(candidates, search.batch)
    beams = 1 if search.offload == "cpu" else search.top_k
    return MemoryEstimate(
        model=each.weights,
        memory=beams * each.memory + each.reading,
        states=(waiting + search.top_k) * each.state,
        frames=candidates * (2 * each.latents + each.frames)
        + search.top_k * each.chunks * (each.latents + each.frames),
        rewards=rewards,
    )


def with_past(found: MemoryEstimate, recipe: Recipe, each: Footprint, limits: RevisionLimits) -> MemoryEstimate:
    """The estimate with the beams of earlier chunks that a revision policy may go back to.

    Latents and frames are counted already, as those of the beams' videos.
    """
    chunks = 0 if limits.returns == 0 else each.chunks if limits.reach is None else min(limits.reach, each.chunks)
    if recipe.search.offload == "cpu":
        return found
    beams = recipe.search.top_k * chunks
    return replace(found, memory=found.memory + beams * each.memory, states=found.states + beams * each.state)


def of_recipe(recipe: Recipe, each: Footprint, width: int, processes: int = 1, rewards: int = 0) -> MemoryEstimate:
    """The estimate for the search of a recipe; where rewards score previews alone, only survivors have full states."""
    search = recipe.search
    found = estimate(search, each, width, processes, rewards)
    if each.preview is None or not wanted(recipe):
        return found
    states = min(found.states, 2 * search.top_k * each.state) if scores_previews_alone(recipe) else found.states
    previewed = search.top_k * min(each.chunks, kept_chunks(recipe) + 1) * each.frames
    small = 2 * search.top_k * each.preview
    return replace(found, states=states + small, frames=found.frames + previewed)


def reward_bytes(rewards: Iterable[BoundReward]) -> int:
    """The weights that the rewards declare, each object counted once."""
    declared = {id(bound.reward): bound.reward.weights_mb for bound in rewards}
    return int(sum(declared.values()) * MEGABYTE)


def memory_plan(recipe: Recipe) -> MemoryPlan:
    """The largest memory a branch of this recipe can have: without routes no sinks are added and none is averaged."""
    if recipe.memory.name == "fixed" and recipe.memory.options.get("route", "discard") == "discard":
        changes = {"max_sink_chunks": recipe.sinks.sink_chunks, "sink_precision": "model"}
        return recipe.sinks.model_copy(update=changes)
    return recipe.sinks


def check(search: Search, pipe: Any, width: object = None) -> None:
    """Raise `RecipeError` where a search cannot fit into the free memory of its device, which is known for GPUs only.

    width: the run's width policy, which may want more candidates than `search.candidates`.
    """
    run = search.run
    free = free_bytes(run.device)
    if free is None or not run.recipe.placement.check:
        return
    found = measured(search, pipe, width)
    if found.total > free:
        listed = ", ".join(f"{name} {as_text(size)}" for name, size in found.parts() if size)
        largest = max(found.parts(), key=lambda part: part[1])[0]
        raise RecipeError(
            f"The run needs about {as_text(found.total)} on {run.device} besides the model ({listed}), and "
            f"{as_text(free)} are free. {KNOBS[largest]} placement.check=false runs it without this check."
        )


def measured(search: Search, pipe: Any, width: object = None) -> MemoryEstimate:
    """The estimate for a loaded pipeline, besides its weights; what cannot be found out counts as nothing."""
    run, recipe = search.run, search.run.recipe
    each, rewards = footprint_of(run, pipe), reward_bytes(search.evaluator.pool.bound)
    most = widest(width, recipe.search) * widening(search.limits)
    found = of_recipe(recipe, each, most, search.workers.size, rewards)
    return with_past(found, recipe, each, search.limits)


def free_bytes(device: str) -> int | None:
    """Free memory of a GPU, None for other devices."""
    if not device.startswith("cuda"):
        return None
    free: int = torch.cuda.mem_get_info(device)[0]
    return free


def footprint_of(run: Run, pipe: Any) -> Footprint:
    """What one beam and one candidate of an open run take, measured with a small picture and a seed of its own."""
    session = run.session
    noise = session.draw(session.root(), torch.Generator().manual_seed(0))
    vae = getattr(pipe, "vae", None)
    is_measurable = vae is not None and session.capabilities.decode == "carried"
    small = noise.new_zeros((*noise.shape[:3], PROBE, PROBE), device=run.device, dtype=getattr(vae, "dtype", None))
    state, frames = _decoded(session, small) if is_measurable else (0, 0)
    scale = prod(noise.shape[3:]) / PROBE**2
    has_previews = wanted(run.recipe) and problem(session) is None
    return Footprint(
        weights=0,
        memory=_beam_memory(session, run.recipe.sinks, pipe, noise.shape),
        reading=0,
        latents=noise.numel() * noise.element_size(),
        frames=int(scale * frames),
        state=int(scale * state),
        chunks=session.num_chunks,
        preview=int(scale * _preview_state(session, small)) if has_previews else None,
    )


def _beam_memory(session: Session, sinks: MemoryPlan, pipe: Any, shape: torch.Size) -> int:
    """Keys and values of one beam: a transformer that routes its memory keeps both, per layer and token."""
    config: Any = getattr(getattr(pipe, "transformer", None), "config", None)
    if not session.capabilities.routes or getattr(config, "num_layers", None) is None:
        return 0
    tokens = prod(shape[2:]) // prod(getattr(config, "patch_size", (1, 1, 1)))
    width = config.num_attention_heads * config.attention_head_dim
    chunks = sum(capacity(sinks, session.num_chunks))
    # With guidance a clean pass has a row per condition, and each leaves keys and values.
    rows = max((1, *session.outline().commit)) if isinstance(session, OutlinedSession) else 1
    return int(2 * rows * config.num_layers * tokens * width * chunks * pipe.transformer.dtype.itemsize)


def _decoded(session: Session, small: Tensor) -> tuple[int, int]:
    """(decoder state, frames) of a chunk with these latents, in bytes; nothing where they cannot be decoded."""
    try:
        with foreign_code("Decoding a small picture"), torch.inference_mode():
            first, both = (session.decode(History(), torch.cat([small] * count, dim=2))[0] for count in (1, 2))
    except PluginError:
        return 0, 0
    later = tensor_bytes(both.frames) - tensor_bytes(first.frames)  # a first chunk may have fewer
    return tensor_bytes(first.state), later


def _preview_state(session: Session, small: Tensor) -> int:
    """Bytes of the preview decoder's state behind these latents; nothing where they cannot be decoded."""
    try:
        with foreign_code("Previewing a small picture"), torch.inference_mode():
            return tensor_bytes(session.preview(small, None)[0].state) if isinstance(session, HasPreview) else 0
    except PluginError:
        return 0


def tensor_bytes(item: Any) -> int:
    """The bytes of all tensors inside, each counted once."""
    found: dict[int, Tensor] = {}

    def note(leaf: Any) -> Any:
        if isinstance(leaf, torch.Tensor):
            found[id(leaf)] = leaf
        return leaf

    map_leaves(item, note)
    return sum(tensor.numel() * tensor.element_size() for tensor in found.values())


def as_text(count: float) -> str:
    """Bytes for people, in powers of 1000."""
    return str(humanize.naturalsize(count, format="%.3g"))
