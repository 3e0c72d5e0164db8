"""Commands under a launcher: every process runs the same command, and one of them prints."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from streamt1_plugins.cli.base import USER_ERROR, for_the_command
from streamt1_plugins.errors import InputError, StreamT1Error
from streamt1_plugins.search.distributed.launch import is_launched

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamt1_plugins.search.distributed.world import World


def check_processes(wanted: int | None) -> None:
    """Raise `InputError` if the number of processes that were started is not the wanted one."""
    found = int(os.environ.get("WORLD_SIZE", "1"))
    if wanted is not None and wanted != found:
        raise InputError(
            f"--processes {wanted}, but {found} {'was' if found == 1 else 'were'} started. Start them with torchrun "
            f"--nproc_per_node {wanted} -m streamt1_plugins ... (accelerate launch --cpu starts one process, whatever "
            "its --num_processes is; with GPUs, add --multi_gpu)."
        )


@contextmanager
def as_one_process(device: str | None) -> Iterator[World | None]:
    """Run a command as one of the processes a launcher started: they end together, and one prints the reason.

    Gives None without a launcher.
    """
    if not is_launched():
        yield None
        return
    from streamt1_plugins.search.distributed.world import world

    here = world(device)
    if here.device.startswith("cuda"):
        import torch

        torch.cuda.set_device(here.device)  # for rewards and libraries that use the current one
    for_the_command(here.ended_by_signals())
    try:
        with here.fail_together():
            yield here
            here.finish()
    except StreamT1Error as error:
        if not here.reports(error):
            raise typer.Exit(USER_ERROR) from error
        raise here.located(error) from error
