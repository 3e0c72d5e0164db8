"""Several processes that search one video: each makes and evaluates its share of the candidates, all decide alike.

Results do not depend on the number of processes: seeds belong to candidates, every process selects from the same
readings, and survivors travel bit by bit. Memory is not sent but computed again from their latents, in every process,
exactly as in a resumed run; so, by default, are frames and decoder states. Latents are kilobytes where those are
gigabytes.
"""

from __future__ import annotations

import io
import pickle
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from streamt1_plugins.search.distributed.world import LostProcessError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from torch import Tensor
    from torch.distributed import ProcessGroup

    from streamt1_plugins.api.candidate import Candidate
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.search.distributed.world import World

Result = TypeVar("Result")


@dataclass
class Traffic:
    """Bytes this process has sent, and seconds it took: `waited` for others to arrive, `sending` after that."""

    bytes: int = 0
    waited: float = 0.0
    sending: float = 0.0


class DistributedWorkers:
    """`Workers` of processes `ranks` of the world, of which this is one, in this order."""

    def __init__(self, world: World, ranks: Sequence[int], timeout: float) -> None:
        """`timeout`: seconds to wait for another process before it counts as lost."""
        self._world = world
        self.rank, self.size = ranks.index(world.rank), len(ranks)
        self._ranks, self._timeout = ranks, timeout
        self.traffic = Traffic()

    def fail_together(self) -> AbstractContextManager[None]:
        return self._world.fail_together()

    def set_status(self, activity: str) -> None:
        self._world.status_board.update(activity=activity)

    def map(self, run: Run, ordinals: Sequence[int], work: Callable[[list[int]], list[Result]]) -> list[Result]:
        rows = [[row for row, number in enumerate(ordinals) if number % self.size == r] for r in range(self.size)]
        before, notes = run.cost.counts(), len(run.tree.notes)
        mine = work(rows[self.rank]) if rows[self.rank] else []
        spent = {name: count - before[name] for name, count in run.cost.counts().items()}
        shares = self._timed_gather(run, (mine, spent, run.tree.notes[notes:]))
        results: dict[int, Result] = {}
        for rank, (found, counts, new_notes) in enumerate(shares):
            results.update(zip(rows[rank], found, strict=True))
            if rank != self.rank:  # costs and notes of all processes belong to the run
                run.cost.add(counts)
                for note in new_notes:
                    run.tree.note(note)
        return [results[row] for row in range(len(ordinals))]

    def gather_survivors(self, run: Run, kept: list[Candidate]) -> list[Candidate]:
        whole = run.recipe.parallel.send == "decoded" and run.recipe.search.offload == "none"
        own = [candidate for candidate in kept if candidate.ordinal % self.size == self.rank]
        sent = _packed({c.ordinal: (c.latents, c.decoded if whole else None) for c in own})
        found: dict[int, Any] = {}
        for parcel in self._timed_gather(run, sent):
            found |= torch.load(io.BytesIO(parcel), map_location=run.device, weights_only=False)
        return [_arrived(c, *found[c.ordinal]) if c.location == "elsewhere" else c for c in kept]

    def all_gather(self, value: Result) -> list[Result]:
        """The values of all processes, in order of rank; all have to call it.

        Raises `LostProcessError` where one of them failed, has ended or does not arrive within the timeout.
        """
        exchange, start = self._world.status_board.count_exchange(), time.monotonic()
        parcel = pickle.dumps(value)
        with self._lost_processes(exchange, start):
            self._world.group(self._ranks, self._timeout).barrier().wait()
            self.traffic.waited += time.monotonic() - start
            start = time.monotonic()
            found = _gathered(self._world.group(self._ranks, self._timeout), parcel)
            self.traffic.sending += time.monotonic() - start
            self.traffic.bytes += len(parcel)
        return [pickle.loads(each) for each in found]

    def _timed_gather(self, run: Run, value: Result) -> list[Result]:
        with run.cost.timing("exchange"):
            return self.all_gather(value)

    @contextmanager
    def _lost_processes(self, exchange: int, start: float) -> Iterator[None]:
        try:
            yield
        except LostProcessError:
            raise
        except RuntimeError as error:  # what gloo raises, whatever happened
            is_late = time.monotonic() - start >= self._timeout
            late = f"did not answer for {self._timeout:g} s" if is_late else None
            raise self._world.lost(f"lost its connection ({error})", exchange, late) from error


def _gathered(group: ProcessGroup, parcel: bytes) -> list[bytes]:
    """The parcels of all processes. They travel in the size of the largest one."""
    sizes = _all_gather(group, torch.tensor([len(parcel)], device="cpu"))
    padded = torch.zeros(max(map(int, sizes)), dtype=torch.uint8, device="cpu")
    padded[: len(parcel)] = torch.frombuffer(bytearray(parcel), dtype=torch.uint8)
    found = _all_gather(group, padded)
    return [row[: int(size)].numpy().tobytes() for row, size in zip(found, sizes, strict=True)]


def _all_gather(group: ProcessGroup, mine: Tensor) -> list[Tensor]:
    found = [torch.empty_like(mine) for _ in range(group.size())]
    group.allgather([found], [mine]).wait()
    return found


def _packed(parcel: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(parcel, buffer)
    return buffer.getvalue()


def _arrived(candidate: Candidate, latents: Tensor, decoded: Any) -> Candidate:
    if decoded is None:
        return replace(candidate, latents=latents)
    return replace(candidate, latents=latents, decoded=decoded, location="here")
