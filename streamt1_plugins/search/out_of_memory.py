"""Memory that runs out, on a GPU or a CPU: how it is recognised, and the error that names what to change."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from streamt1_plugins.errors import StreamT1Error, message_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamt1_plugins.api.run import Run

MESSAGES = ("DefaultCPUAllocator: not enough memory", "std::bad_alloc", "Cannot allocate memory", "out of memory")
"""Of a `RuntimeError`; accelerate has others."""
REMEDY = (
    "Make the video smaller (height, width, num_frames), choose fewer search.candidates or a smaller search.top_k, "
    "search.offload=cpu or recompute, or keep components of the model elsewhere with placement.offload."
)


class OutOfMemoryError(StreamT1Error, torch.OutOfMemoryError, MemoryError):
    """A search does not fit into memory, even with one candidate at a time."""


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether memory ran out, or did so in what caused the error."""
    while error is not None:
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or _is_message_of(error):
            return True
        error = error.__cause__
    return False


def _is_message_of(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if not isinstance(error, RuntimeError):
        return False
    from accelerate.utils.memory import should_reduce_batch_size  # here: it costs a second to import

    text = message_of(error)
    return any(each in text for each in MESSAGES) or bool(should_reduce_batch_size(RuntimeError(text)))


@contextmanager
def explained(run: Run) -> Iterator[None]:
    """A context in which memory that runs out is one clear error. Batches of candidates are halved further in."""
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        if isinstance(error, OutOfMemoryError) or not is_out_of_memory(error):
            raise
        where = "" if run.chunk is None else f" in chunk {run.chunk.index} of 0 to {run.chunk.count - 1}"
        raise OutOfMemoryError(f"Memory ran out on {run.device}{where} ({shortened(error)}). {REMEDY}") from error


def shortened(error: BaseException) -> str:
    """The first line of an error's message, or its kind where it has none."""
    return next(
        (line.strip().rstrip(".") for line in message_of(error).splitlines() if line.strip()), type(error).__name__
    )
