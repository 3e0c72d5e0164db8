"""The examples run: each as its first lines have it, Ray where it is installed, the Slurm script as bash reads it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import typer.main

from streamt1_plugins.cli.main import app
from tests.docs import notebook

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = f"{Path(sys.executable).parent}{os.pathsep}{sysconfig.get_path('scripts')}"


def run(*command: str | Path, cwd: Path, timeout: float = 300) -> str:
    """What a command prints, offline and in a folder of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    environment["PATH"] = f"{SCRIPTS}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def nodes(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "tree.json").read_text(encoding="utf-8"))["nodes"]
    return found


def test_every_example_has_a_test_and_says_how_to_run_it() -> None:
    tests = Path(__file__).read_text(encoding="utf-8")
    for path in EXAMPLES.iterdir():
        if path.is_file():
            assert f'"{path.name}"' in tests, path.name
            assert f"examples/{path.name}" in path.read_text(encoding="utf-8"), path.name


@pytest.mark.slow
def test_quickstart(tmp_path: Path) -> None:
    lines = run(sys.executable, EXAMPLES / "quickstart.py", cwd=tmp_path).splitlines()
    assert [line.split()[:3] for line in lines if line.endswith("transformer forwards")] == [
        ["plain", "3", "candidates,"],
        ["stream-t1", "12", "candidates,"],
    ]
    assert lines[-1].startswith("33 frames")
    assert (tmp_path / "runs/quickstart/report.html").exists()


@pytest.mark.slow
def test_a_reward_object_takes_part(tmp_path: Path) -> None:
    lines = run(sys.executable, EXAMPLES / "reward.py", cwd=tmp_path).splitlines()
    assert [line.split(":")[0] for line in lines] == ["chunk 0", "chunk 1", "chunk 2"]
    assert all(-2 <= float(line.split()[-1]) <= 2 for line in lines)


@pytest.mark.slow
def test_the_reward_takes_part(tmp_path: Path) -> None:
    plugin = ["-m", "streamt1_plugins", "--plugin", EXAMPLES / "reward.py"]
    options = ["--num-frames", "9", "--device", "cpu", "-q", "-o", "rewards.long.warmth.weight=0.5", "--out", "run"]
    run(sys.executable, *plugin, "generate", "a red circle", *options, cwd=tmp_path)
    assert all(-1 <= node["rewards"]["long"]["warmth"]["raw"] <= 1 for node in nodes(tmp_path / "run"))


@pytest.mark.slow
def test_the_policy_keeps_branches_apart(tmp_path: Path) -> None:
    plugin = ["-m", "streamt1_plugins", "--plugin", EXAMPLES / "policy.py"]
    options = ["--num-frames", "33", "--device", "cpu", "-q", "-o", "selection=family", "--out", "run"]
    run(sys.executable, *plugin, "generate", "a red circle", *options, cwd=tmp_path)
    kept = [node for node in nodes(tmp_path / "run") if node["fate"] == "kept" and node["chunk"]]
    assert len(kept) == len({(node["chunk"], node["parent"]) for node in kept}) == 4


@pytest.mark.slow
def test_a_causal_wan_pipeline(tmp_path: Path) -> None:
    lines = run(sys.executable, EXAMPLES / "wrap_causal_wan.py", cwd=tmp_path).splitlines()
    assert lines[0] == "33 frames from 12 candidates, 52 transformer forwards"
    assert len(lines) == 4


@pytest.mark.slow
def test_resume_and_branch(tmp_path: Path) -> None:
    lines = run(sys.executable, EXAMPLES / "resume_and_branch.py", "runs/mine", cwd=tmp_path).splitlines()
    assert "interrupted after 2 of 4 chunks" in lines
    assert "resumed: runs/mine/video.mp4" in lines
    (picked,) = re.findall(r"branched at (001\.\d\d)", lines[-1])
    whole, branched = tmp_path / "runs" / "mine", tmp_path / "runs" / f"mine-{picked}"
    assert {node["chunk"] for node in nodes(whole)} == {node["chunk"] for node in nodes(branched)} == {0, 1, 2, 3}
    fates = {node["id"]: node["fate"] for node in nodes(branched) if node["chunk"] == 1}
    assert [name for name, fate in fates.items() if fate == "kept"] == [picked]
    assert (branched / "video.mp4").exists()


@pytest.mark.slow
def test_the_director_rolls_keeps_goes_back_and_changes_the_prompt(tmp_path: Path) -> None:
    lines = run(sys.executable, EXAMPLES / "director.py", "runs/mine", cwd=tmp_path).splitlines()
    assert "Chunk 3: back to chunk 2" in lines
    assert sum("from here on 'a green star" in line for line in lines) == 1
    assert lines[-1].startswith("45 frames")
    assert {node["fate"] for node in nodes(tmp_path / "runs/mine")} == {"kept", "pruned", "abandoned"}


@pytest.mark.slow
def test_the_notebook_runs_and_shows_as_much_as_is_stored() -> None:
    stored = notebook.read(EXAMPLES / "takes.ipynb")
    pairs = zip(stored["cells"], notebook.executed(stored)["cells"], strict=True)
    for before, now in ((before, now) for before, now in pairs if now["cell_type"] == "code"):
        shown = [[(each["output_type"], *each.get("data", ())) for each in cell["outputs"]] for cell in (before, now)]
        assert shown[0] == shown[1]
        strips = [json.dumps(cell["outputs"]).count("<img") for cell in (before, now)]
        assert strips[0] == strips[1]


@pytest.mark.slow
def test_compare(tmp_path: Path) -> None:
    shown = run("bash", EXAMPLES / "compare.sh", "runs/mine", cwd=tmp_path, timeout=480)
    assert "page    runs/mine/report.html" in shown.splitlines()
    rows = [json.loads(line) for line in (tmp_path / "runs/mine/results.jsonl").read_text().splitlines()]
    assert sorted(row["recipe"] for row in rows) == ["plain", "plain", "stream-t1", "stream-t1"]


@pytest.mark.slow
def test_ray_makes_every_prompt_and_then_only_what_is_missing(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red circle moving right\na blue square moving up\n")
    command = [sys.executable, EXAMPLES / "ray_prompts.py", prompts, tmp_path / "out", "--num-frames", "9"]
    for _ in range(2):
        shown = run(*command, cwd=tmp_path, timeout=480)
        videos = sorted(Path(line) for line in shown.splitlines() if line.endswith("video.mp4"))
        assert [video.parent.name for video in videos] == ["0001", "0002"]
    first = videos[0].stat().st_mtime
    shutil.rmtree(videos[1].parent)
    run(*command, cwd=tmp_path, timeout=480)
    assert videos[0].stat().st_mtime == first
    assert videos[1].exists()


def test_the_slurm_script_is_bash_and_names_options_that_exist() -> None:
    script = EXAMPLES / "slurm.sbatch"
    subprocess.run(["bash", "-n", script], check=True)
    _, _, ours = script.read_text().partition("-m streamt1_plugins generate ")
    command = typer.main.get_command(app).commands["generate"]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    assert set(re.findall(r"--[a-z-]+", ours)) <= known
