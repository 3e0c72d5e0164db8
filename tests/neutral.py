"""A process before and after: whatever a program can set for the whole process is as it was."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import decimal
import gc
import locale
import logging
import multiprocessing
import os
import random
import signal
import socket
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import accelerate
import diffusers.utils.logging
import huggingface_hub.utils
import matplotlib
import numpy as np
import psutil
import torch
import torch.distributed as dist
import transformers.utils.logging

PATIENCE = 30.0  # seconds for threads and processes that are ending


def _signals() -> dict[str, Any]:
    return {number.name: signal.getsignal(number) for number in signal.Signals if number in signal.valid_signals()}


def _torch() -> dict[str, Any]:
    return {
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "matmul precision": torch.get_float32_matmul_precision(),
        "cuda tf32": torch.backends.cuda.matmul.allow_tf32,
        "cudnn": [getattr(torch.backends.cudnn, n) for n in ("enabled", "benchmark", "deterministic", "allow_tf32")],
        "mkldnn": torch.backends.mkldnn.enabled,
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        "anomalies": torch.is_anomaly_enabled(),
        "random": hash(torch.get_rng_state().numpy().tobytes()),
        "group": dist.group.WORLD if dist.is_initialized() else None,
        "accelerate": dict(accelerate.PartialState._shared_state),
    }


def _logging() -> dict[str, Any]:
    def state(log: logging.Logger) -> tuple[Any, ...]:
        return log.level, log.propagate, log.disabled, tuple(log.handlers), tuple(log.filters)

    plain = state(logging.Logger("plain"))
    loggers = {
        n: state(each) for n, each in logging.Logger.manager.loggerDict.items() if isinstance(each, logging.Logger)
    }
    return {
        **{name: found for name, found in loggers.items() if found != plain},
        "root": state(logging.getLogger()),
        "all": (logging.root.manager.disable, logging.getLoggerClass(), logging.raiseExceptions, logging.lastResort),
        "diffusers bars": diffusers.utils.logging._tqdm_active,
        "transformers bars": transformers.utils.logging.is_progress_bar_enabled(),
        "hub bars": huggingface_hub.utils.are_progress_bars_disabled(),
    }


def _python() -> dict[str, Any]:
    return {
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "umask": _umask(),
        "path": list(sys.path),
        "arguments": list(sys.argv),
        "finders": list(map(id, sys.meta_path)),
        "hooks": [sys.excepthook, sys.exit, sys.displayhook, sys.unraisablehook, threading.excepthook],
        "streams": [sys.stdin, sys.stdout, sys.stderr],
        "limits": (sys.getrecursionlimit(), sys.getswitchinterval(), socket.getdefaulttimeout()),
        "tracing": (sys.gettrace(), sys.getprofile()),
        "gc": (gc.isenabled(), gc.get_threshold()),
        "locale": locale.setlocale(locale.LC_ALL),
        "start method": multiprocessing.get_start_method(allow_none=True),
        "event loops": asyncio.events._event_loop_policy,
        "warnings": (list(warnings.filters), warnings.showwarning),
        "random": hash(random.getstate()),
        "decimal": repr(decimal.getcontext()),
        "numpy": (hash(repr(np.random.get_state())), np.geterr(), np.get_printoptions()),
        "temporary folder": tempfile.tempdir,
        "exit functions": atexit._ncallbacks(),
    }


def _umask() -> int:
    found = os.umask(0)
    os.umask(found)
    return found


def _matplotlib() -> dict[str, Any]:
    import matplotlib.pyplot as plt

    return {
        "backend": matplotlib.get_backend(),
        "rc": dict(dict.copy(matplotlib.rcParams)),
        "figures": plt.get_fignums(),
    }


def _wandb() -> dict[str, Any]:
    wandb = sys.modules.get("wandb")
    return {} if wandb is None else {name: getattr(wandb, name) for name in ("run", "log", "config", "summary")}


def _left() -> dict[str, Any]:
    """What ends by itself a moment later."""
    me = psutil.Process()
    return {
        "threads": sorted(f"{each.name} {each.ident}" for each in threading.enumerate()),
        "children": sorted(
            child.pid for child in me.children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE
        ),
        "files": sorted(_open_files()),
        "temporary files": sorted(os.listdir(tempfile.gettempdir())),
    }


def _open_files() -> list[str]:
    """Files and sockets by name: numbers in their names aside, which the system gives."""
    folder = Path("/proc/self/fd")
    found = []
    for entry in os.listdir(folder) if folder.is_dir() else ():
        with contextlib.suppress(OSError):
            found.append(os.readlink(folder / entry))
    return [name for name in found if not name.startswith(("/proc/", "/dev/urandom"))]


ASPECTS: dict[str, Callable[[], dict[str, Any]]] = {
    "signals": _signals,
    "torch": _torch,
    "logging": _logging,
    "python": _python,
    "matplotlib": _matplotlib,
    "wandb": _wandb,
    "left": _left,
}


def state() -> dict[str, Any]:
    """The state of the process by ``ASPECT: NAME``."""
    return {f"{aspect}: {name}": value for aspect, read in ASPECTS.items() for name, value in read().items()}


def changes(before: dict[str, Any], after: dict[str, Any], apart_from: Collection[str] = ()) -> dict[str, Any]:
    """What differs, with its two values; of mappings and lists only what differs in them."""
    names = (before.keys() | after.keys()) - set(apart_from)
    pairs = {name: (before.get(name), after.get(name)) for name in names}
    return {name: _difference(*pair) for name, pair in pairs.items() if not _same(*pair)}


def _difference(was: Any, now: Any) -> tuple[Any, Any]:
    if isinstance(was, dict) and isinstance(now, dict):
        return dict(was.items() - now.items()), dict(now.items() - was.items())
    if isinstance(was, list) and isinstance(now, list):
        return [each for each in was if each not in now], [each for each in now if each not in was]
    return was, now


def _same(one: Any, other: Any) -> bool:
    return bool(one is other or repr(one) == repr(other) or one == other)


@contextlib.contextmanager
def unchanged_process(*apart_from: str) -> Iterator[None]:
    """Raises `AssertionError`, with what changed, where code inside leaves the process other than it was.

    However the code ends: an exception passes once the process is found unchanged. apart_from: keys of `state` that may
    differ.
    """
    before = state()
    try:
        yield
    finally:
        end = time.monotonic() + PATIENCE
        found = changes(before, state(), apart_from)
        while found and all(name.startswith("left: ") for name in found) and time.monotonic() < end:
            time.sleep(0.05)
            gc.collect()
            found = changes(before, state(), apart_from)
        assert not found, "\n".join(f"{name}:\n  was {was}\n  is  {now}" for name, (was, now) in found.items())
