"""Starting real processes, as torchrun does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent
SOURCES = os.pathsep.join(str(TESTS.parent / name) for name in ("", "adapters", "rewards", "studio"))
DIFFERING = ("time", "seconds", "reward_calls", "reward_profile")
CLI, WORKER = TESTS / "toy_cli.py", TESTS / "shared_search.py"


def launch(processes: int, script: Path, *arguments: object, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run a script in this many processes that find each other over gloo; one without a launcher."""
    launcher = ["-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--rdzv-backend=c10d"]
    launcher = [*launcher, "--rdzv-endpoint=localhost:0"] if processes > 1 else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": SOURCES, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, *launcher, str(script), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=False)


def without_times(record: Any) -> Any:
    """Plain data without what depends on the clock, or on how the questions to a reward are bundled."""
    if isinstance(record, dict):
        return {key: without_times(value) for key, value in record.items() if key not in DIFFERING}
    return [without_times(item) for item in record] if isinstance(record, list) else record
