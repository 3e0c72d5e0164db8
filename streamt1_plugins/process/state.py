"""What a plugin's code may change for the whole process, put back after it: torch's defaults, random states."""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True)
class Setting:
    """A value of the whole process. `fresh`: that of a new one, where a plugin imports the library that has it."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]
    fresh: Any = None


@dataclass
class Changes:
    """What the code inside changed: the names of `settings`, and whether it drew from torch's generators."""

    settings: list[str] = field(default_factory=list)
    drew: bool = False


@contextmanager
def process_kept() -> Iterator[Changes]:
    """Put back what the code inside changes for the whole process, also where it fails; yields what that was."""
    before, random_states = {each.name: each.read() for each in _settings()}, _random_states()
    changes = Changes()
    try:
        yield changes
    finally:
        for setting in _settings():
            value = before.get(setting.name, setting.fresh)
            if setting.read() != value:
                setting.write(value)
                changes.settings.append(setting.name)
        changes.drew = _restore_random(random_states)


def _settings() -> list[Setting]:
    """The settings of Python and, where it is imported, of torch."""
    return [*_PYTHON, *(_torch_settings(sys.modules["torch"]) if _has_torch() else ())]


def _has_torch() -> bool:
    return hasattr(sys.modules.get("torch"), "set_default_device")  # else it is being imported just now


def _torch_settings(torch: Any) -> list[Setting]:
    def set_device(device: Any) -> None:
        torch.set_default_device(None if device.type == "cpu" else device)

    def determinism() -> tuple[bool, bool]:
        return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()

    def set_determinism(value: tuple[bool, bool]) -> None:
        torch.use_deterministic_algorithms(value[0], warn_only=value[1])

    return [
        Setting("torch's default device", torch.get_default_device, set_device, torch.device("cpu")),
        Setting("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype, torch.float32),
        Setting("torch's grad mode", torch.is_grad_enabled, torch.set_grad_enabled, True),
        Setting("torch's number of threads", torch.get_num_threads, torch.set_num_threads, torch.get_num_threads()),
        Setting("torch's deterministic algorithms", determinism, set_determinism, (False, False)),
        Setting("torch's matmul precision", torch.get_float32_matmul_precision, _set_precision, "highest"),
    ]


def _set_precision(value: str) -> None:
    sys.modules["torch"].set_float32_matmul_precision(value)


def _folder() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:  # deleted meanwhile
        return None


def _set_folder(folder: str | None) -> None:
    with suppress(OSError):
        os.chdir(folder or ".")


def _logging() -> tuple[Any, ...]:
    root, ours = logging.getLogger(), logging.getLogger("streamt1")
    return (root.level, tuple(root.handlers), root.manager.disable, ours.level, ours.disabled, ours.propagate)


def _set_logging(state: tuple[Any, ...]) -> None:
    root, ours = logging.getLogger(), logging.getLogger("streamt1")
    level, handlers, disable, own_level, disabled, propagate = state
    root.setLevel(level)
    root.handlers[:] = handlers
    logging.disable(disable)
    ours.setLevel(own_level)
    ours.disabled, ours.propagate = disabled, propagate


def _warning_errors() -> list[Any]:
    """The filters that turn warnings into errors; others are libraries' own affair."""
    return [each for each in warnings.filters if each[0] == "error"]


def _set_warning_errors(kept: list[Any]) -> None:
    others = [each for each in warnings.filters if each[0] != "error" or each in kept]
    warnings.filters[:] = others if kept == [each for each in others if each[0] == "error"] else [*kept, *others]  # type: ignore[index]


def _signals() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}


def _set_signals(handlers: dict[int, Any]) -> None:
    with suppress(ValueError, TypeError):  # another thread than the main one; a handler that C code installed
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _set_streams(streams: tuple[Any, Any]) -> None:
    sys.stdout, sys.stderr = streams


_PYTHON = (
    Setting("the working folder", _folder, _set_folder),
    Setting("the recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
    Setting("the handlers of signals", _signals, _set_signals),
    Setting("the root logger", _logging, _set_logging),
    Setting("warnings as errors", _warning_errors, _set_warning_errors),
    Setting("the standard streams", lambda: (sys.stdout, sys.stderr), _set_streams),
)


def _random_states() -> dict[str, Any]:
    """The random states of Python and of the libraries that are imported."""
    states: dict[str, Any] = {"random": random.getstate()}
    if numpy := sys.modules.get("numpy.random"):
        states["numpy"] = numpy.get_state()
    if _has_torch():
        states["torch"] = _torch_states(sys.modules["torch"])
    return states


def _torch_states(torch: Any) -> list[Any]:
    """The CPU's state, and the current GPU's where one is in use."""
    used = torch.cuda.is_available() and torch.cuda.is_initialized()
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if used else [])]


def _restore_random(states: dict[str, Any]) -> bool:
    """Put the states back; returns whether torch's had changed. A library imported meanwhile starts afresh."""
    random.setstate(states["random"])
    if numpy := sys.modules.get("numpy.random"):
        numpy.set_state(states["numpy"]) if "numpy" in states else numpy.seed()
    if not _has_torch():
        return False
    torch = sys.modules["torch"]
    if "torch" not in states:
        torch.default_generator.seed()  # as in a new process
        return False
    before = states["torch"]
    drew = not all(map(torch.equal, before, _torch_states(torch)))  # where a GPU came into use, the CPU's state alone
    if drew:
        torch.set_rng_state(before[0])
        for gpu in before[1:]:
            torch.cuda.set_rng_state(gpu)
    return drew
