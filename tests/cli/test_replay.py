"""The commands that work with a recorded run: resume, replay, and generate with wandb."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from streamt1_plugins import hookimpl
from streamt1_plugins.api.types import Chunk
from streamt1_plugins.plugins.discovery import discovery
from streamt1_plugins.runs import journal
from tests.cli.calling import call, generate, one_line


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
    shown = call("replay", "o", "--continue-from", loser, "--out", "again").stdout
    tree = journal.tree_of(journal.read("again"))
    assert f"{len(tree) - 8} new candidates and 8 of the run that it continues, in " in shown  # 8 in chunks 0 and 1


def test_nodes_and_folders_that_are_not_there_are_named() -> None:
    assert "nowhere holds no run" in one_line(call("replay", "nowhere"))
    assert "nowhere holds no run" in one_line(call("generate", "--resume", "nowhere"))
    generate("--out", "o", "-q")
    assert "Unknown node of o '009.00'" in one_line(call("replay", "o", "--node", "009.00"))
    assert "either --node" in one_line(call("replay", "o", "--node", "001.00", "--continue-from", "001.00"))


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


def test_a_replay_does_not_follow_a_link_in_the_run_folder(tmp_path: Path) -> None:
    assert generate("--out", "run", "-q").exit_code == 0
    winner = journal.tree_of(journal.read("run")).winner[-1]
    (tmp_path / "elsewhere").mkdir()
    Path("run", f"replay-{winner}").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    found = call("replay", "run")
    assert found.exit_code == 2
    assert "is a symbolic link" in one_line(found)
    assert list((tmp_path / "elsewhere").iterdir()) == []
