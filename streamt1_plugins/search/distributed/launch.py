"""From the `parallel` section of a recipe to the workers of this process."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamt1_plugins.api.workers import SingleProcess
from streamt1_plugins.errors import RecipeError

if TYPE_CHECKING:
    from streamt1_plugins.api.workers import Workers
    from streamt1_plugins.config.schema import ParallelSettings
    from streamt1_plugins.search.distributed.world import World


@dataclass(frozen=True)
class Group:
    """This process's group: its `workers` search one video; it is number `index` of `count` that take prompts."""

    workers: Workers
    index: int = 0
    count: int = 1


def is_launched() -> bool:
    """Whether a launcher (torchrun, accelerate launch) started several processes."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def sizes(settings: ParallelSettings, processes: int, *, many_prompts: bool) -> tuple[int, int]:
    """(groups, processes in each). Raises `RecipeError` where they do not make up the processes there are."""
    groups, each = settings.prompts, settings.candidates
    if not many_prompts and (groups or 1) > 1:
        raise RecipeError(f"parallel.prompts = {groups} needs a file of prompts: generate --prompts FILE.")
    if not many_prompts or (groups is not None and each is None):
        groups = groups or 1
        each = each or processes // groups
    else:
        each = each or 1
        groups = groups or processes // each
    if groups * each != processes:
        raise RecipeError(_mismatch(settings, processes, groups, each, many_prompts))
    return groups, each


def _mismatch(settings: ParallelSettings, processes: int, groups: int, each: int, many_prompts: bool) -> str:
    given = {"prompts": settings.prompts, "candidates": settings.candidates}
    shown = " and ".join(f"parallel.{name} = {value}" for name, value in given.items() if value)
    if not many_prompts or (settings.prompts and settings.candidates):
        wanted = f"{groups * each} processes"
    else:
        wanted = f"a multiple of {settings.prompts or settings.candidates} processes"
    return (
        f"{shown} needs {wanted}, but {processes} {'was' if processes == 1 else 'were'} started. Start them with "
        f"torchrun --nproc_per_node {max(groups, 1) * each} -m streamt1_plugins ... "
        "(accelerate launch --cpu starts one process, whatever --num_processes is)."
    )


def join(settings: ParallelSettings, device: str | None = None, *, many_prompts: bool = False) -> Group:
    """The group of this process. All processes of a launch have to call it, with the same settings.

    The same group each time, until one of the processes fails; they can then go on as another one.

    Raises `RecipeError` where the settings need another number of processes than were started.
    """
    if not is_launched():
        sizes(settings, 1, many_prompts=many_prompts)
        return Group(SingleProcess())
    from streamt1_plugins.search.distributed.world import world

    here = world(device)
    key = (settings, many_prompts)
    if key not in here.made:
        here.made[key] = _group(here, settings, many_prompts)
    made: Group = here.made[key]
    return made


def _group(here: World, settings: ParallelSettings, many_prompts: bool) -> Group:
    from streamt1_plugins.search.distributed.workers import DistributedWorkers

    groups, each = sizes(settings, here.size, many_prompts=many_prompts)
    index = here.rank // each
    ranks = range(index * each, (index + 1) * each)
    workers = DistributedWorkers(here, ranks, settings.timeout) if each > 1 else SingleProcess()
    return Group(workers, index, groups)
