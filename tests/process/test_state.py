"""What a plugin changes for the whole process is put back, whether it ends well or badly."""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from streamt1_plugins.process.state import process_kept

CHANGES: dict[str, tuple[Callable[[], object], Callable[[], Any]]] = {
    "the working folder": (lambda: os.chdir(os.sep), os.getcwd),
    "the recursion limit": (lambda: sys.setrecursionlimit(500), sys.getrecursionlimit),
    "the handlers of signals": (lambda: signal.signal(signal.SIGTERM, print), lambda: signal.getsignal(signal.SIGTERM)),
    "the root logger": (lambda: logging.disable(50), lambda: logging.root.manager.disable),
    "warnings as errors": (lambda: warnings.simplefilter("error"), lambda: warnings.filters[0][0] == "error"),
    "the standard streams": (lambda: setattr(sys, "stdout", None), lambda: sys.stdout),
    "torch's default device": (lambda: torch.set_default_device("meta"), lambda: torch.zeros(()).device),
    "torch's default dtype": (lambda: torch.set_default_dtype(torch.float64), lambda: torch.zeros(()).dtype),
    "torch's grad mode": (lambda: torch.set_grad_enabled(False), torch.is_grad_enabled),
    "torch's number of threads": (lambda: torch.set_num_threads(2), torch.get_num_threads),
    "torch's deterministic algorithms": (
        lambda: torch.use_deterministic_algorithms(True),
        torch.are_deterministic_algorithms_enabled,
    ),
    "torch's matmul precision": (
        lambda: torch.set_float32_matmul_precision("medium"),
        torch.get_float32_matmul_precision,
    ),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("fails", [False, True])
def test_a_setting_is_put_back_and_named(name: str, fails: bool) -> None:
    change, read = CHANGES[name]
    before = read()
    try:
        with process_kept() as changes:
            change()
            if fails:
                raise SystemExit
    except SystemExit:
        assert fails
    assert read() == before
    assert changes.settings == [name]
    assert not changes.drew


def test_random_states_are_put_back() -> None:
    def drawn() -> tuple[float, float, float]:
        return random.random(), np.random.rand(), torch.rand(()).item()

    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    first = drawn()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    with process_kept() as changes:
        drawn()
        torch.manual_seed(7)
    assert drawn() == first
    assert (changes.settings, changes.drew) == ([], True)


def test_nothing_changes_where_nothing_was_changed() -> None:
    with process_kept() as changes:
        torch.zeros(3).sum()
    assert (changes.settings, changes.drew) == ([], False)


def test_torch_that_a_plugin_imports_is_as_in_a_new_process() -> None:
    code = (
        "from streamt1_plugins.process.state import process_kept\n"
        "with process_kept() as changes:\n"
        "    import torch; torch.manual_seed(3); torch.set_default_dtype(torch.float64)\n"
        "print(torch.initial_seed(), torch.get_default_dtype(), changes.settings)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    seed, _, rest = printed.partition(" ")
    assert seed != "3"  # a new process has a seed of its own
    assert rest == 'torch.float32 ["torch\'s default dtype"]\n'
