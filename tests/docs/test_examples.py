"""The examples run: Ray on this machine where it is installed, the Slurm script as far as bash can tell."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from streamt1_plugins.cli.main import app

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.slow
def test_ray_makes_every_prompt_and_then_only_what_is_missing(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red circle moving right\na blue square moving up\n")
    command = [sys.executable, EXAMPLES / "ray_prompts.py", prompts, tmp_path / "out", "--num-frames", "9"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    for _ in range(2):
        found = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=480, check=False)
        assert found.returncode == 0, found.stderr
        videos = sorted(Path(line) for line in found.stdout.splitlines() if line.endswith("video.mp4"))
        assert [video.parent.name for video in videos] == ["0001", "0002"]
    first = videos[0].stat().st_mtime
    shutil.rmtree(videos[1].parent)
    subprocess.run(command, capture_output=True, env=environment, timeout=480, check=True)
    assert videos[0].stat().st_mtime == first
    assert videos[1].exists()


def test_the_slurm_script_is_bash_and_names_options_that_exist() -> None:
    script = EXAMPLES / "slurm.sbatch"
    subprocess.run(["bash", "-n", script], check=True)
    _, _, ours = script.read_text().partition("-m streamt1_plugins generate ")
    command = typer.main.get_command(app).commands["generate"]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    assert set(re.findall(r"--[a-z-]+", ours)) <= known
