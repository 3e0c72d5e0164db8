"""A wandb run beside those of the program: it joins none, finishes none, and leaves no trace in the process."""

from __future__ import annotations

import logging
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Traces:
    """What wandb changes in a process when a run starts: hooks of `sys`, its logger, and a process of its own."""

    sys_hooks: dict[str, Any]
    logger: tuple[int, bool, tuple[logging.Handler, ...]]
    is_running: bool

    @classmethod
    def now(cls) -> Traces:
        """The present state of the process."""
        import wandb

        log = logging.getLogger("wandb")
        hooks = {name: getattr(sys, name) for name in ("excepthook", "exit")}
        return cls(
            hooks, (log.level, log.propagate, tuple(log.handlers)), wandb.setup().most_recent_active_run is not None
        )

    def give_back(self, left: Traces) -> None:
        """Bring the process back to this state; what was changed since wandb `left` it is somebody else's and stays.

        The process of wandb ends where no run is active any more, and none was before.
        """
        import wandb

        if not self.is_running and wandb.setup().most_recent_active_run is None:
            wandb.teardown()
        for name, hook in self.sys_hooks.items():
            if getattr(sys, name) == left.sys_hooks[name]:
                setattr(sys, name, hook)
        log = logging.getLogger("wandb")
        level, propagate, handlers = self.logger
        log.setLevel(level)
        log.propagate = propagate
        for handler in set(left.logger[-1]) - set(handlers):
            log.removeHandler(handler)


class OwnRun:
    """A new wandb `run`, which is not the active one of the program; `finish` it whatever happens."""

    def __init__(self, **arguments: Any) -> None:
        """`arguments` are those of ``wandb.init``."""
        import wandb

        self._before = Traces.now()
        with ExitStack() as failed:
            failed.callback(lambda: self._before.give_back(Traces.now()))
            self.run = wandb.init(reinit="create_new", **arguments)
            failed.pop_all()
        self._left = Traces.now()

    def finish(self, exit_code: int) -> None:
        """End the run; 0 marks it as finished, another code as failed."""
        try:
            self.run.finish(exit_code=exit_code)
        finally:
            self._before.give_back(self._left)
