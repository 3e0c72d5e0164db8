"""Several processes that search one video: each makes and measures its share of the candidates, all decide alike.

Bits cannot depend on how many there are: seeds belong to candidates and not to processes, every process selects from
the same readings, and survivors travel as they are. Memory is not sent but computed again from their latents, by every
process, exactly as a resumed run does; so, by default, are frames and decoder states. Latents are kilobytes where
those are gigabytes.
"""

from __future__ import annotations

import io
import pickle
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist

from streamt1_plugins.api.candidate import is_here

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from streamt1_plugins.api.candidate import Candidate
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.search.distributed.world import World

Result = TypeVar("Result")

COUNTS = ("candidates", "latent_frames_decoded", "reward_calls", "readings", "readings_saved")


@dataclass
class Traffic:
    """What this process has sent, and how long it took: `waited` for others to be as far, `sending` after that."""

    bytes: int = 0
    waited: float = 0.0
    sending: float = 0.0


class Processes:
    """A `team.Workers` of processes `ranks` of the world, in this order. All processes of the world have to make it."""

    def __init__(self, world: World, ranks: Sequence[int], timeout: float) -> None:
        self._world = world
        self.rank, self.size = ranks.index(world.rank) if world.rank in ranks else -1, len(ranks)
        self._timeout = timeout
        self._connection = world.connect(ranks, timeout)
        self.traffic = Traffic()

    def together(self) -> AbstractContextManager[None]:
        return self._world.attended()

    def doing(self, what: str) -> None:
        self._world.board.say(at=what)

    def share(self, run: Run, ordinals: Sequence[int], work: Callable[[list[int]], list[Result]]) -> list[Result]:
        rows = [[row for row, number in enumerate(ordinals) if number % self.size == r] for r in range(self.size)]
        before, notes = _spent(run), len(run.tree.notes)
        mine = work(rows[self.rank]) if rows[self.rank] else []
        spent = {name: count - before[name] for name, count in _spent(run).items()}
        told = self._exchange(run, (mine, spent, run.tree.notes[notes:], run.batch_limit))
        results: dict[int, Result] = {}
        for rank, (found, theirs, new, limit) in enumerate(told):
            results.update(zip(rows[rank], found, strict=True))
            if rank != self.rank:
                _add(run, theirs, new)
            run.batch_limit = min((each for each in (run.batch_limit, limit) if each is not None), default=None)
        return [results[row] for row in range(len(ordinals))]

    def deliver(self, run: Run, kept: list[Candidate]) -> list[Candidate]:
        whole = run.recipe.parallel.send == "decoded" and run.recipe.search.offload == "none"
        own = [candidate for candidate in kept if candidate.ordinal % self.size == self.rank]
        sent = _packed({c.ordinal: (c.latents, c.decoded if whole else None) for c in own})
        found: dict[int, Any] = {}
        for parcel in self._exchange(run, sent):
            found |= torch.load(io.BytesIO(parcel), map_location=run.device, weights_only=False)
        return [
            candidate if is_here(candidate) else _arrived(candidate, *found[candidate.ordinal]) for candidate in kept
        ]

    def exchange(self, value: Result) -> list[Result]:
        """One value from every process, in order of rank; all have to call it.

        Raises `LostProcessError` where one of them failed, has ended or does not come within the timeout.
        """
        meeting, start = self._world.board.meeting(), time.monotonic()
        found: list[Any] = [None] * self.size
        with self._meeting(meeting, start):
            dist.barrier(group=self._world.group(self._connection))
            self.traffic.waited += time.monotonic() - start
            start = time.monotonic()
            parcel = pickle.dumps(value)
            dist.all_gather_object(found, parcel, group=self._world.group(self._connection))
            self.traffic.sending += time.monotonic() - start
            self.traffic.bytes += len(parcel)
        return [pickle.loads(each) for each in found]

    def _exchange(self, run: Run, value: Result) -> list[Result]:
        with run.cost.timing("exchange"):
            return self.exchange(value)

    @contextmanager
    def _meeting(self, meeting: int, start: float) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # what gloo raises, whatever happened
            is_late = time.monotonic() - start >= self._timeout
            cause = f"did not answer for {self._timeout:g} s" if is_late else "has ended"
            raise self._world.lost(f"lost its connection ({error})", meeting, cause) from error


def _spent(run: Run) -> dict[str, int]:
    return {name: getattr(run.cost, name) for name in COUNTS} | {"forwards": run.session.forwards}


def _add(run: Run, spent: dict[str, int], notes: Sequence[str]) -> None:
    """What another process spent and noted is part of the run: the record does not tell how many processes made it."""
    for name in COUNTS:
        setattr(run.cost, name, getattr(run.cost, name) + spent[name])
    run.session.forwards += spent["forwards"]
    for note in notes:
        run.tree.note(note)


def _packed(parcel: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(parcel, buffer)
    return buffer.getvalue()


def _arrived(candidate: Candidate, latents: torch.Tensor, decoded: Any) -> Candidate:
    return replace(candidate, latents=latents, decoded=decoded or candidate.decoded)
