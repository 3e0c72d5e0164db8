"""`streamt1` with the toy pipeline installed, to be started by a launcher."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from streamt1_plugins.cli import main
from streamt1_plugins.hooks import discovery
from tests import team_worker, toy

torch.set_num_threads(1)
discovery().add(toy, name="toy", origin="tests")
discovery().rewards.add(replace(discovery().rewards["bright"], name="trouble", target="tests.team_worker:Trouble"))
assert team_worker
main()
