"""A board with the status of every process, read when one of them does not answer."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch.distributed import Store  # type: ignore[attr-defined]

PREFIX = "streamt1"
CONNECT = timedelta(seconds=60)


@dataclass(frozen=True)
class Status:
    """What a process does: its `activity` and how many `exchanges` it has reached.

    `failed`: during what and why it ended, None while it runs. `reported`: the user has been shown that error.
    """

    activity: str = "starting"
    exchanges: int = 0
    failed: str | None = None
    reported: bool = False


class StatusBoard:
    """The status of all processes, in the store that the launcher started."""

    def __init__(self, rank: int, store: Store | None = None) -> None:
        """`store`: by default the one at MASTER_ADDR and MASTER_PORT, which serves all processes."""
        self.rank = rank
        self._store = PrefixStore(PREFIX, store or _store())
        self.mine = Status()
        self.update()

    def update(self, **changes: object) -> None:
        """Change and publish this process's status."""
        self.mine = replace(self.mine, **changes)  # type: ignore[arg-type]
        self._store.set(str(self.rank), json.dumps(asdict(self.mine)))

    def count_exchange(self) -> int:
        """Publish that this process has reached one more exchange; returns their number."""
        self.update(exchanges=self.mine.exchanges + 1)
        return self.mine.exchanges

    def status(self, rank: int) -> Status:
        """The last status of a process. Raises `RuntimeError` where the store is gone."""
        if not self._store.check([str(rank)]):
            return Status()
        return Status(**json.loads(self._store.get(str(rank))))

    def any_failed(self, ranks: Iterable[int]) -> bool:
        """Whether one of `ranks` has published a failure."""
        return any(self.status(rank).failed for rank in ranks)

    def count(self, name: str, more: int = 0) -> int:
        """A counter that all processes can add to."""
        return int(self._store.add(name, more))


def _store() -> Store:
    return TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=CONNECT)
