"""A board where every process leaves word of what it is at: read when one of them does not come back."""

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
class Word:
    """What a process was at.

    `meetings`: exchanges it has come to. `failed`: at what and why it ended. `told`: the user knows.
    """

    at: str = "starting"
    meetings: int = 0
    failed: str | None = None
    told: bool = False


class Board:
    """The words of all processes, in the store the launcher started."""

    def __init__(self, rank: int, store: Store | None = None) -> None:
        """`store`: by default the one at MASTER_ADDR and MASTER_PORT, which serves all processes."""
        self.rank = rank
        self._store = PrefixStore(PREFIX, store or _store())
        self.mine = Word()
        self.say()

    def say(self, **changes: object) -> None:
        """Change this process's word."""
        self.mine = replace(self.mine, **changes)  # type: ignore[arg-type]
        self._store.set(str(self.rank), json.dumps(asdict(self.mine)))

    def meeting(self) -> int:
        """Say that this process has come to one more exchange; returns how many that are."""
        self.say(meetings=self.mine.meetings + 1)
        return self.mine.meetings

    def word(self, rank: int) -> Word:
        """What a process said last. Raises `RuntimeError` where the store is gone."""
        if not self._store.check([str(rank)]):
            return Word()
        return Word(**json.loads(self._store.get(str(rank))))

    def failed(self, ranks: Iterable[int]) -> bool:
        """Whether one of `ranks` has said that it failed."""
        return any(self.word(rank).failed for rank in ranks)

    def count(self, name: str, more: int = 0) -> int:
        """A number all processes can add to."""
        return int(self._store.add(name, more))


def _store() -> Store:
    return TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=CONNECT)
