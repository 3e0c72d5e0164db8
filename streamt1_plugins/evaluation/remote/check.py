"""Checks of a reward that runs elsewhere, before a run: the place answers, has the reward, and takes its options."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

from streamt1_plugins.config.user_files import user_path
from streamt1_plugins.errors import PluginError, UnreachableError, brief

if TYPE_CHECKING:
    from streamt1_plugins.config.rewards import RewardPart

LAST_LINES = 3  # of what a process wrote, in an error message
CHECK = "--check"
"""The option of the worker that builds the reward and loads nothing."""


def check_place(name: str, settings: RewardPart, trusted: bool = False) -> None:
    """Raise an error where the reward cannot run at its place: `UnreachableError`, or `PluginError` from there.

    An interpreter is started, imports the reward and builds it with its options; no weights are loaded. A server is
    read. trusted: as for `RemoteReward`.
    """
    if settings.where is None:
        return
    if settings.where.python is not None:
        _check_interpreter(name, settings, settings.where.python, settings.where.start_timeout)
        return
    from streamt1_plugins.evaluation.remote.client import RemoteReward  # here: it imports torch

    remote = RemoteReward(name, settings.where, settings.options, trusted)
    try:
        remote.load("cpu")
    finally:
        remote.unload()


def _check_interpreter(name: str, settings: RewardPart, python: str, timeout: float) -> None:
    command = [str(user_path(python)), "-m", "streamt1_plugins.cli.reward_worker", name]
    command += ["--options", json.dumps(settings.options), CHECK]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        )
    except (OSError, ValueError) as error:
        raise UnreachableError(f"Reward {name!r}: {python!r} cannot be started ({error}).") from error
    except subprocess.TimeoutExpired as error:
        raise UnreachableError(f"Reward {name!r}: {python!r} did not answer in {timeout:g} s.") from error
    if done.returncode:
        lines = done.stdout.decode("utf-8", "replace").splitlines()
        said = brief(" | ".join(map(str.strip, lines[-LAST_LINES:]))) or f"exit code {done.returncode}"
        raise PluginError(f"Reward {name!r} cannot run in {python!r}: {said}")
