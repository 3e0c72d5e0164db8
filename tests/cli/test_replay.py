"""The commands that work with a recorded run: resume, replay, report, and generate with wandb."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from streamt1_plugins import hookimpl
from streamt1_plugins.api.types import Chunk
from streamt1_plugins.cli import main as cli
from streamt1_plugins.plugins.discovery import discovery
from streamt1_plugins.runs import journal


@dataclass
class StopsOnce:
    """Presses Ctrl-C after chunk 1, unless the file `marker` is there."""

    marker: str

    @hookimpl
    def streamt1_chunk_selected(self, chunk: Chunk) -> None:
        if chunk.index == 1 and not Path(self.marker).exists():
            Path(self.marker).touch()
            raise KeyboardInterrupt


class RecordParts:
    @hookimpl
    def streamt1_register_policies(self, register: Any) -> None:
        register("stops-once", kind="observer", target=f"{__name__}:StopsOnce")


@pytest.fixture(autouse=True, scope="module")
def _parts(_toy_plugin: None) -> None:
    sys.modules.setdefault(__name__, sys.modules[StopsOnce.__module__])
    discovery().add(RecordParts(), name="record-parts", origin="tests")


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def call(*args: str) -> Any:
    return CliRunner().invoke(cli.app, list(args))


def generate(*args: str) -> Any:
    return call("generate", "a prompt", "--model", "toy", *args)


def one_line(result: Any) -> str:
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    return line


def without_seconds(folder: str) -> list[dict[str, Any]]:
    return [{**node, "seconds": None} for node in journal.tree_of(journal.read(folder)).to_dict()["nodes"]]


def test_an_interrupted_run_is_resumed() -> None:
    generate("--out", "whole", "--quiet")
    cut = generate("--out", "cut", "-o", "observers.stops-once.marker=stopped")
    assert cut.exit_code == 130
    again = call("generate", "--resume", "cut")
    assert again.exit_code == 0, again.output
    assert "16 candidates in" in again.stdout
    assert without_seconds("cut") == without_seconds("whole")
    assert Path("cut/video.mp4").read_bytes() == Path("whole/video.mp4").read_bytes()


def test_what_cannot_be_changed_any_more_is_refused() -> None:
    generate("--out", "o", "-q")
    line = one_line(call("generate", "--resume", "o", "--seed", "3", "-o", "search.top_k=3"))
    assert line == "Error: --resume finishes a run as it was started: leave out --override, --seed."
    assert one_line(call("generate", "another", "--resume", "o")).endswith("leave out the prompt.")


def test_the_winner_is_replayed() -> None:
    generate("--out", "o", "-q")
    result = call("replay", "o")
    assert result.exit_code == 0, result.output
    (path,) = result.stdout.split()
    assert re.fullmatch(r"o/replay-003\.0\d/video\.mp4", path)
    assert Path(path).read_bytes() == Path("o/video.mp4").read_bytes()


def test_a_node_is_replayed_to_a_folder_of_ones_choice() -> None:
    generate("--out", "o", "-q")
    assert call("replay", "o", "--node", "001.02", "--out", "there").stdout == "there/video.mp4\n"
    assert Path("there/video.mp4").exists()
    assert "is not empty" in one_line(call("replay", "o", "--node", "001.02", "--out", "there"))


def test_a_person_goes_on_from_another_node() -> None:
    generate("--out", "o", "-q")
    loser = next(node for node in journal.tree_of(journal.read("o")) if node.chunk == 1 and node.fate == "pruned").id
    result = call("replay", "o", "--continue-from", loser, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["out"] == f"o-{loser}"
    assert found["winner"]["path"][1] == loser
    assert loser in Path(f"o-{loser}/report.html").read_text()


def test_nodes_and_folders_that_are_not_there_are_named() -> None:
    assert "nowhere holds no run" in one_line(call("replay", "nowhere"))
    assert "nowhere holds no run" in one_line(call("report", "nowhere"))
    assert "nowhere holds no run" in one_line(call("generate", "--resume", "nowhere"))
    generate("--out", "o", "-q")
    assert "Unknown node of o '009.00'" in one_line(call("replay", "o", "--node", "009.00"))
    assert "either --node" in one_line(call("replay", "o", "--node", "001.00", "--continue-from", "001.00"))


def test_the_page_is_written() -> None:
    generate("--out", "o", "-q")
    Path("o/report.html").unlink()
    assert call("report", "o").stdout == "o/report.html\n"
    assert call("report", "o", "--out", "page.html").stdout == "page.html\n"
    assert Path("o/report.html").read_text() == Path("page.html").read_text()
    assert "cannot be written" in one_line(call("report", "o", "--out", "no/where.html"))


def test_the_page_is_written_without_torch() -> None:
    generate("--out", "o", "-q")
    code = "import sys; from streamt1_plugins.runs.report import write_page; write_page('o')"
    code += "; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_generate_logs_to_wandb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wandb = pytest.importorskip("wandb")
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("WANDB_MODE", "offline")
    try:
        assert generate("--out", "o", "-q", "--wandb", "mine").exit_code == 0
    finally:
        wandb.teardown()
    assert len(list(tmp_path.rglob("*.wandb"))) == 1
    assert list(tmp_path.rglob("media/html/*.html"))
    assert Path("o/wandb.json").exists()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_sigterm_saves_and_says_how_to_go_on() -> None:
    command = [sys.executable, "-m", "streamt1_plugins", "generate", "a red circle", "--out", "o"]
    overrides = ["-o", "rewards.short={basic: {}}", "-o", "rewards.long={basic: {}}"]
    pipes: Any = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([*command, *overrides], env={**os.environ, "OMP_NUM_THREADS": "1"}, **pipes)
    path = Path("o", journal.JOURNAL)
    while not (path.exists() and b'"event": "chunk"' in path.read_bytes()) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143, said
    assert "Resume with: streamt1 generate --resume o" in said
    assert journal.read("o")[-1]["event"] == "finished"
    assert Path("o/video.mp4").exists()
