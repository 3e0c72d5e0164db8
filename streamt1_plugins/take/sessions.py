"""The sessions of a take and its branches: shared while they have the same arguments, closed by the last one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamt1_plugins.api.adapter import Session


@dataclass(eq=False)
class Sessions:
    """The open sessions of one pipeline. `released`: gives the pipeline back when none is left."""

    released: Callable[[], None]
    _users: Counter[int] = field(default_factory=Counter)

    def join(self, session: Session) -> None:
        """One more take works with the session."""
        self._users[id(session)] += 1

    def leave(self, session: Session) -> None:
        """A take works with it no longer."""
        self._users[id(session)] -= 1
        if self._users[id(session)]:
            return
        del self._users[id(session)]
        try:
            session.close()
        finally:
            if not self._users:
                self.released()
