"""The memory a search will take on its device, estimated from a recipe: sums of what is kept, without activations."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import prod
from typing import TYPE_CHECKING

import torch

from streamt1_plugins.api.adapter import History, MemoryPlan, OutlinedSession
from streamt1_plugins.errors import PluginError, RecipeError, foreign_code
from streamt1_plugins.policies.width import widest
from streamt1_plugins.search.offload import mapped

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from torch import Tensor

    from streamt1_plugins.api.adapter import Footprint
    from streamt1_plugins.api.reward import Reward
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.config.schema import Recipe, SearchSettings

UNITS = ("B", "kB", "MB", "GB")


@dataclass(frozen=True)
class Held:
    """How many of each are on the device at once: candidates made here, those of them that wait with a decoder state,
    and beams with their memory.
    """

    candidates: int
    waiting: int
    beams: int

    @classmethod
    def by(cls, search: SearchSettings, width: int, processes: int = 1) -> Held:
        """`width`: candidates per beam at most, which `processes` share."""
        candidates = -(-width * search.top_k // processes)
        waiting = candidates if search.park == "device" else min(candidates, search.batch)
        return cls(candidates, waiting, 1 if search.park == "cpu" else search.top_k)


@dataclass(frozen=True)
class Peak:
    """Bytes at the peak. Memory that branches share is counted for each of them, so this is rather too much.

    model: weights. context: keys and values of the beams, and those a forward pass reads. candidates: noise, latents,
    frames and decoder states of a chunk. videos: latents, frames and decoder states of the beams. rewards: weights they
    declare.
    """

    model: int
    context: int
    candidates: int
    videos: int
    rewards: int

    @property
    def total(self) -> int:
        return sum(getattr(self, item.name) for item in fields(self))

    def __str__(self) -> str:
        parts = ", ".join(f"{item.name} {sized(getattr(self, item.name))}" for item in fields(self))
        return f"about {sized(self.total)} of memory, activations aside ({parts})"


def peak(search: SearchSettings, each: Footprint, width: int, rewards: int = 0) -> Peak:
    """`each`: what one of everything takes. `width`: candidates per beam at most. `rewards`: bytes of their weights."""
    held = Held.by(search, width)
    return Peak(
        model=each.weights,
        context=held.beams * each.memory + each.reading,
        candidates=held.candidates * (2 * each.latents + each.frames) + held.waiting * each.state,
        videos=search.top_k * (each.chunks * (each.latents + each.frames) + each.state),
        rewards=rewards,
    )


def memory_plan(recipe: Recipe) -> MemoryPlan:
    """The largest memory a branch of this recipe can have: without routes no sinks are added and none is averaged."""
    sinks = recipe.sinks
    if recipe.memory.name == "fixed" and recipe.memory.options.get("route", "discard") == "discard":
        sinks = sinks.model_copy(update={"max_sink_chunks": sinks.sink_chunks, "sink_precision": "model"})
    return sinks


def sized(count: float) -> str:
    """Bytes for people, in powers of 1000."""
    unit = 0
    while count >= 1000 and unit < len(UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.3g} {UNITS[unit]}"


GIB, MB = 2**30, 10**6


PROBE = (
    4  # latent pixels a side: a decoder's state grows with the area, so a small picture tells the size of a large one
)


@dataclass(frozen=True)
class Needs:
    """Bytes a run will take besides the model's weights. Memory shared by branches is counted for each of them.

    memory: keys and values of all beams. states: decoder states of this process's candidates of a chunk. frames: of
    those candidates, and of the beams' videos. rewards: weights the rewards declare. Activations are not counted.
    """

    memory: int
    states: int
    frames: int
    rewards: int

    @property
    def total(self) -> int:
        return self.memory + self.states + self.frames + self.rewards


def check(run: Run, pipe: Any, rewards: Iterable[Reward], width: object = None) -> None:
    """Raise `RecipeError` where a run cannot fit into the free memory of its device, which is known for GPUs only.

    width: the run's width policy, which may want more candidates than `search.candidates`.
    """
    free = free_bytes(run.device)
    if free is None or not run.recipe.placement.check:
        return
    found = needs(run, pipe, rewards, width)
    if found.total > free:
        parts = {name: getattr(found, name) for name in ("memory", "states", "frames", "rewards")}
        listed = ", ".join(f"{name} {size / GIB:.1f}" for name, size in parts.items() if size)
        raise RecipeError(
            f"The run needs about {found.total / GIB:.1f} GiB on {run.device} besides the model ({listed}), and "
            f"{free / GIB:.1f} GiB are free. {_knob(parts)} placement.check=false tries it all the same."
        )


def _knob(parts: Mapping[str, int]) -> str:
    """What makes the largest part smaller."""
    knobs = {
        "memory": "Choose a smaller search.top_k or sinks.window_chunks, or search.park=cpu.",
        "states": "Choose search.park=recompute, or fewer search.candidates.",
        "frames": "Choose a smaller search.top_k, fewer search.candidates or a shorter video.",
        "rewards": "Give a reward another device, or offload: true.",
    }
    return knobs[max(parts, key=lambda name: parts[name])]


def free_bytes(device: str) -> int | None:
    """What is free on a GPU, None for other devices."""
    if not device.startswith("cuda"):
        return None
    free: int = torch.cuda.mem_get_info(device)[0]
    return free


def needs(run: Run, pipe: Any, rewards: Iterable[Reward], width: object = None) -> Needs:
    """The bytes a run will take, as far as the model tells: what cannot be known counts as nothing."""
    search = run.recipe.search
    spent = run.session.forwards
    shape = run.session.draw(run.session.root(), torch.Generator().manual_seed(0)).shape
    run.session.forwards = spent  # a look beforehand is no part of what the search takes
    state, frames = _decoded(run, pipe, shape)
    held = Held.by(search, widest(width, search), run.team.size)
    loaded = {id(reward): reward.weights_mb for reward in rewards}
    return Needs(
        memory=held.beams * _memory(run, pipe, shape),
        states=held.waiting * state,
        frames=(held.candidates + search.top_k * run.session.num_chunks) * frames,
        rewards=int(sum(loaded.values()) * MB),
    )


def _memory(run: Run, pipe: Any, shape: torch.Size) -> int:
    """Keys and values of one beam: a transformer that routes its memory keeps both, per layer and token."""
    config: Any = getattr(getattr(pipe, "transformer", None), "config", None)
    if not run.session.capabilities.routes or getattr(config, "num_layers", None) is None:
        return 0
    tokens = prod(shape[2:]) // prod(getattr(config, "patch_size", (1, 1, 1)))
    width = config.num_attention_heads * config.attention_head_dim
    sinks = run.recipe.sinks
    chunks = min(run.session.num_chunks, sinks.max_sink_chunks + sinks.window_chunks)
    # With guidance a clean pass has a row per condition, and each leaves keys and values.
    rows = max((1, *run.session.outline().commit)) if isinstance(run.session, OutlinedSession) else 1
    return int(2 * rows * config.num_layers * tokens * width * chunks * pipe.transformer.dtype.itemsize)


def _decoded(run: Run, pipe: Any, shape: torch.Size) -> tuple[int, int]:
    """(decoder state, frames) of one candidate's chunk, in bytes, from decoding a small picture."""
    vae = getattr(pipe, "vae", None)
    if vae is None or run.session.capabilities.decode != "carried":
        return 0, 0
    small = torch.zeros((*shape[:3], PROBE, PROBE), device=run.device, dtype=vae.dtype)
    try:
        with foreign_code("Decoding a small picture"), torch.inference_mode():
            first, both = (run.session.decode(History(), torch.cat([small] * count, dim=2))[0] for count in (1, 2))
    except PluginError:
        return 0, 0
    scale = prod(shape[3:]) / PROBE**2
    later = _bytes(both.frames) - _bytes(first.frames)  # a first chunk may have fewer frames than those after it
    return int(scale * _bytes(first.state)), int(scale * later)


def _bytes(item: Any) -> int:
    """The bytes of all tensors inside, each counted once."""
    found: dict[int, Tensor] = {}

    def look(leaf: Any) -> Any:
        if isinstance(leaf, torch.Tensor):
            found[id(leaf)] = leaf
        return leaf

    mapped(item, look)
    return sum(tensor.numel() * tensor.element_size() for tensor in found.values())
