"""docs/tree.md against the code: every field of the journal, every option, every number, and the examples."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest

import streamt1_plugins as streamt1
from streamt1_plugins.api.run import Cost
from streamt1_plugins.api.tree import RARE, ActionKind
from streamt1_plugins.runs import journal
from streamt1_plugins.runs.observers.record import record_to
from streamt1_plugins.runs.observers.scalars import chunk_scalars
from streamt1_plugins.runs.observers.wandb import Wandb
from streamt1_plugins.runs.way_on import command_line
from tests.toy import ToyPipeline

PAGE = Path(__file__).parents[2] / "docs" / "tree.md"
TEXT = PAGE.read_text(encoding="utf-8")
JOURNAL = TEXT.partition("## The journal")[2]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with every kind of event."""
    folder = tmp_path_factory.mktemp("docs") / "run"
    streamt1.wrap(ToyPipeline(), observers=record_to(folder))("a prompt")
    streamt1.resume(folder, ToyPipeline())
    return folder


def section(event: str) -> str:
    """The page's text on one event, up to the next one."""
    after = JOURNAL.partition(f"\n`{event}`")[2]
    return re.split(r"\n`(?:started|candidate|chunk|resumed|finished|tree\.json)`[,: ]", after)[0]


@pytest.mark.parametrize("event", ["started", "candidate", "chunk", "resumed", "finished"])
def test_every_field_is_documented_and_none_is_made_up(kept: Path, event: str) -> None:
    found = next(each for each in journal.read(kept) if each["event"] == event)
    written = set(found) - {"event", "time"}
    text = section(event)
    assert {name for name in written if f"`{name}`" not in text} == set()
    in_table = {
        name for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    assert in_table <= written | (set(RARE) if event == "candidate" else set())  # where they apply


def test_every_field_of_what_a_person_does_is_documented() -> None:
    text = JOURNAL.partition("\n`acted`")[2].partition("\n`finished`")[0]
    assert {field.name for field in fields(streamt1.Action) if f"`{field.name}`" not in text} == set()
    assert set(re.findall(r"`(roll|reroll|keep|back|prompt)`", text)) == set(get_args(ActionKind))


def test_every_cost_is_documented() -> None:
    assert {field.name for field in fields(Cost) if f"`{field.name}`" not in section("chunk")} == set()


def test_every_file_of_a_run_folder_is_documented(kept: Path) -> None:
    for path in kept.iterdir():
        assert f"`{path.name}{'/' if path.is_dir() else ''}`" in TEXT, path.name


def test_the_sample_of_an_interruption_is_what_is_printed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def stop(pipe: Any, index: int, _: dict[str, Any]) -> None:
        if index == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), command_line():
        streamt1.wrap(ToyPipeline(), observers=record_to(tmp_path / "run"))("a prompt", chunks=7, on_chunk_end=stop)
    (printed,) = [text for text in caplog.messages if text.startswith("Stopped")]
    assert f"^C{printed}".replace(str(tmp_path / "run"), "runs/circle") in TEXT


def test_the_tree_and_the_journal_have_the_same_nodes(kept: Path) -> None:
    tree = journal.tree_of(journal.read(kept)).to_dict()
    assert set(re.findall(r"`(\w+)`", TEXT.rpartition("`tree.json` holds")[2].split(".")[0])) == set(tree)
    candidate = next(each for each in journal.read(kept) if each["event"] == "candidate")
    assert set(tree["nodes"][0]) == set(candidate) - {"event", "time"}


def test_every_number_in_wandb_is_documented() -> None:
    pipe, names = streamt1.wrap(ToyPipeline()), set()

    def look(_: Any, __: int, kwargs: dict[str, Any]) -> None:
        names.update(chunk_scalars(kwargs["run"], kwargs["run"].chunk))

    pipe("a prompt", on_chunk_end=look)
    for name in names:
        general = re.sub(r"^(short|long)/.*", r"\1/NAME", re.sub(r"^seconds/(?!candidates).*", "seconds/STAGE", name))
        assert f"`{general}`" in TEXT, name


def test_every_option_of_wandb_is_documented() -> None:
    assert {field.name for field in fields(Wandb) if f"`{field.name}`" not in TEXT} == set()


def example(mark: str) -> dict[str, Any]:
    """The names that a Python example of the page defines."""
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if mark in block]
    names: dict[str, Any] = {"pipe": streamt1.wrap(ToyPipeline())}
    exec(compile(code, str(PAGE), "exec"), names)
    return names


def test_the_callback_stops_the_run() -> None:
    enough = example("def enough")["enough"]
    pipe = streamt1.wrap(ToyPipeline())
    pipe("a prompt", on_chunk_end=enough)
    assert len(pipe.tree.winner) == 4  # the toy's first candidates never score that well


def test_the_example_is_short_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(streamt1, "load", lambda model, **given: streamt1.wrap(ToyPipeline(), **given), raising=False)
    example("streamt1.record_to")
    assert (tmp_path / "runs/circle/report.html").exists()
