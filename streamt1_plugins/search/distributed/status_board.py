"""A board with the status of every process, read when one of them does not answer."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from torch.distributed import PrefixStore  # type: ignore[attr-defined]

from streamt1_plugins.search.distributed.endings import machine

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch.distributed import Store  # type: ignore[attr-defined]

FIRST = "first"
"""Key of the process that failed first."""


@dataclass(frozen=True)
class Status:
    """What a process does: its `activity` and how many `exchanges` it has reached.

    `failed`: during what and why it ended, None while it runs. `reported`: the user has been shown that error.
    `pid` and `machine`: which process it is, None before it has joined. `ending`: how another process saw it end.
    """

    activity: str = "starting"
    exchanges: int = 0
    failed: str | None = None
    reported: bool = False
    pid: int | None = None
    machine: str | None = None
    ending: str | None = None


class StatusBoard:
    """The status of all processes, in a `store` that all of them reach."""

    def __init__(self, rank: int, store: Store) -> None:
        self.rank = rank
        self.store = store
        self.mine = Status(pid=os.getpid(), machine=machine())
        self.update()

    def update(self, **changes: object) -> None:
        """Change and publish this process's status."""
        self.mine = replace(self.mine, **changes)  # type: ignore[arg-type]
        self._publish(self.rank, self.mine)

    def fail(self, why: str, *, reported: bool) -> None:
        """Publish that this process fails."""
        self.update(failed=why, reported=reported)
        self.store.compare_set(FIRST, "", str(self.rank))

    def first_failed(self) -> Status | None:
        """The status of the process that failed first, None where none has."""
        return self.status(int(self.store.get(FIRST))) if self.store.check([FIRST]) else None

    def publish_ending(self, rank: int, ending: str) -> None:
        """Publish how the process of another rank was seen to end."""
        self._publish(rank, replace(self.status(rank), ending=ending))

    def count_exchange(self) -> int:
        """Publish that this process has reached one more exchange; returns their number."""
        self.update(exchanges=self.mine.exchanges + 1)
        return self.mine.exchanges

    def status(self, rank: int) -> Status:
        """The last status of a process. Raises `RuntimeError` where the store is gone."""
        if not self.store.check([str(rank)]):
            return Status()
        return Status(**json.loads(self.store.get(str(rank))))

    def any_failed(self, ranks: Iterable[int]) -> bool:
        """Whether one of `ranks` has published a failure."""
        return any(self.status(rank).failed for rank in ranks)

    def count(self, name: str, more: int = 0) -> int:
        """A counter that all processes can add to."""
        return int(self.store.add(name, more))

    def _publish(self, rank: int, status: Status) -> None:
        self.store.set(str(rank), json.dumps(asdict(status)))


def part(store: Store, *names: object) -> Store:
    """The part of a store under a path of `names`."""
    return PrefixStore("/".join(map(str, names)), store)
