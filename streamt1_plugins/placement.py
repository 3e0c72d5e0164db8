"""Where a model's parts wait, and whether a run will fit: counted before it starts, with the knob that would help."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import torch

from streamt1_plugins.adapter import History, OutlinedSession
from streamt1_plugins.errors import PluginError, RecipeError, foreign_code, unknown_name
from streamt1_plugins.footprint import Held
from streamt1_plugins.parking import mapped
from streamt1_plugins.policies.width import widest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor

    from streamt1_plugins.contracts import Run
    from streamt1_plugins.parallel_settings import PlacementSettings
    from streamt1_plugins.reward import Reward

GIB, MB = 2**30, 10**6
PROBE = (
    4  # latent pixels a side: a decoder's state grows with the area, so a small picture tells the size of a large one
)
ENCODERS = ("text_encoder", "image_encoder")


def place(pipe: Any, settings: PlacementSettings, device: str) -> None:
    """Bring a loaded pipeline to `device`, except the components whose weights wait in CPU memory.

    Raises `UnknownNameError` for a component the pipeline lacks.
    """
    modules = {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    for name in settings.offload:
        if name not in modules:
            raise unknown_name("component of the pipeline", name, modules)
    for name, module in modules.items():
        with foreign_code(f"Moving {name} to {device!r}"):
            if name in settings.offload:
                _offload(name, module, device)
            else:
                module.to(device)


def _offload(name: str, module: torch.nn.Module, device: str) -> None:
    """Encoders run once, so they come whole and leave; of the others each layer's weights come when it runs."""
    import accelerate

    if name.startswith(ENCODERS):
        accelerate.cpu_offload_with_hook(module, torch.device(device))
    else:
        accelerate.cpu_offload(module, torch.device(device))


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
