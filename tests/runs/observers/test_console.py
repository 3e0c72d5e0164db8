"""The console: a bar in a terminal, lines elsewhere, the table at the end."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console as Terminal

import streamt1_plugins as streamt1
from streamt1_plugins.api.tree import Tree
from streamt1_plugins.api.types import Chunk, Node
from streamt1_plugins.runs.observers.console import Console, chunk_line, tree_table
from streamt1_plugins.runs.observers.record import record_to
from tests.runs.shared import Failing, run
from tests.search.revising import Returning
from tests.toy import ToyPipeline


def test_without_a_terminal_there_is_a_line_per_chunk_and_notes_come_once(capsys: pytest.CaptureFixture[str]) -> None:
    run({"console": Console()}, "rewards.long.picky={options: {chunk: 1, ordinals: [0, 1, 2, 3]}}")
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert shown.out == ""
    assert [line[:7] for line in lines if line.startswith("chunk")] == [f"chunk {i}" for i in range(4)]
    assert lines[-1].endswith("s  (4 of 4 done)")
    assert sum("no valid candidate" in line for line in lines) == 1


def test_in_a_terminal_a_bar_shows_chunks_candidates_and_the_best_score(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console._terminal = Terminal(stderr=True, force_terminal=True, width=120)
    run({"console": console})
    shown = capsys.readouterr().err
    assert "0/4 chunks" in shown
    assert "16 candidates" in shown
    assert "eta" in shown


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_label_stands_before_the_progress_of_one_of_several_videos(
    is_terminal: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    console = Console(label="[3/40 {task}]")
    console._terminal = Terminal(stderr=True, force_terminal=is_terminal, width=80)
    run({"console": console})
    lines = [line for line in capsys.readouterr().err.splitlines() if "4/4 chunks" in line or "chunk 3 " in line]
    assert lines
    assert all("[3/40 {task}]" in line for line in lines)


def test_the_bar_of_a_resumed_run_starts_where_the_run_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run({**record_to(tmp_path), "failing": Failing(1, KeyboardInterrupt())})
    capsys.readouterr()
    console = Console()
    console._terminal = Terminal(stderr=True, force_terminal=True, width=120)
    streamt1.resume(tmp_path, ToyPipeline(), observers={"console": console})
    shown = capsys.readouterr().err
    assert "0/4 chunks" not in shown
    assert "4/4 chunks" in shown


def test_the_line_of_a_chunk_has_the_chunk_of_the_nodes_it_names(capsys: pytest.CaptureFixture[str]) -> None:
    run({"console": Console()})
    for line in capsys.readouterr().err.splitlines():
        chunk, node = line.split()[1], line.split("kept ")[1].split()[0]
        assert int(chunk) == int(node.partition(".")[0])


def test_a_bar_and_lines_fall_with_the_chunks_when_the_search_goes_back(capsys: pytest.CaptureFixture[str]) -> None:
    lines, bar = Console(), Console()
    bar._terminal = Terminal(stderr=True, force_terminal=True, width=120)
    done: list[int] = []

    class Watch:
        @streamt1.hookimpl(trylast=True)
        def streamt1_revised(self) -> None:
            assert bar._bar is not None
            done.append(bar._bar._done)

    for observers in ({"bar": bar, "watch": Watch()}, {"lines": lines}):
        capsys.readouterr()
        streamt1.wrap(ToyPipeline(), policies={"revision": Returning()}, observers=observers)("a prompt")
    assert done == [1]
    shown = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in shown if line.startswith("chunk ")] == ["0", "1", "2", "1", "2", "3"]
    assert [line for line in shown if line.startswith("Note: Chunk 3: made anew from chunk 1 on")]


def test_the_bar_is_taken_down_when_the_run_fails() -> None:
    console = Console()
    console._terminal = Terminal(stderr=True, force_terminal=True, width=120)
    with pytest.raises(RuntimeError):
        run({"console": console}, fail_at=1)
    assert console._bar is None


def test_a_line_and_a_table_tell_invalid_candidates_and_missing_scores() -> None:
    nodes = [
        Node(chunk=0, ordinal=0, parent=None, seed=1, problem="NaN", fate="invalid"),
        Node(chunk=0, ordinal=1, parent=None, seed=2, fate="kept", rank=0),
    ]
    tree = Tree({node.id: node for node in nodes}, winner=("000.01",))
    assert "2 candidates  best -  mean -  kept 000.01" in chunk_line(Chunk(0, 2), tree)
    terminal = Terminal(width=100, record=True, file=io.StringIO())
    terminal.print(tree_table(tree))
    assert "2 (1 invalid)" in terminal.export_text()


@pytest.mark.parametrize("plain", [False, True])
def test_a_closed_terminal_does_not_end_the_run(plain: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    console = Console(plain=plain)
    closed = Closed()
    monkeypatch.setattr(closed, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", closed)
    pipe = streamt1.wrap(ToyPipeline(), observers={"console": console})
    pipe("a prompt")
    assert len(pipe.tree.winner) == 4
