"""`streamt1` with the toy pipeline installed, to be started by a launcher."""

from __future__ import annotations

import atexit
import sys
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from streamt1_plugins.cli.main import main
from streamt1_plugins.plugins.discovery import discovery
from streamt1_plugins.search.distributed import world
from tests import shared_search, toy


def connections() -> None:
    """Tell of threads that serve connections; registered first, so that this is the last to run."""
    names = [file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm")]  # empty where not Linux
    if left := sorted(name for name in names if "gloo" in name):
        sys.stderr.write(f"still there at exit: {left}\n")


atexit.register(connections)
torch.set_num_threads(1)
discovery().add(toy, name="toy", origin="tests")
discovery().rewards.add(replace(discovery().rewards["bright"], name="trouble", target="tests.shared_search:Trouble"))
assert shared_search
world.GRACE = 60.0  # on a busy machine a process may take longer than the usual 3 seconds to report first
main()
