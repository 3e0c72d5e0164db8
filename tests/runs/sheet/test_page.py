"""The index of a folder of runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from streamt1_plugins.runs.sheet import INDEX, Sheet
from streamt1_plugins.runs.sheet import page as sheet
from tests.compare.examples import NASTY
from tests.runs.shared import recorded


def test_the_index_links_every_run_in_the_order_that_was_asked_for(tmp_path: Path) -> None:
    for name in ("a", "b", "with space & more"):
        recorded(tmp_path / name)
    (tmp_path / "other").mkdir()
    made = Sheet(tmp_path, [tmp_path / "with space & more", tmp_path / "b", tmp_path / "not there"])
    assert made.write() == tmp_path / INDEX
    html = (tmp_path / INDEX).read_text()
    order = ["with%20space%20%26%20more", "b", "a"]
    assert re.findall(r'<a href="([^"]*)/report.html">', html) == order
    assert re.findall(r'<video src="([^"]*)/video.mp4"', html) == order
    assert html.count("data:image/jpeg;base64,") == 3


def test_nothing_of_a_run_can_run_in_the_index_and_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    recorded(tmp_path / "run", prompt=NASTY)
    html = Sheet(tmp_path).render()
    assert NASTY.partition("{{")[0] not in html
    assert "<img src=x" not in html
    assert html.count("<script>") == 1
    assert html.count("{{ 7 * 7 }}") >= 2
    found = re.findall(r"""(?:src|href|poster)=["']([^"']*)""", html)
    assert {address.partition("/")[0].partition(":")[0] for address in found} == {"data", "run"}


def test_a_run_is_read_again_only_when_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    card_of = sheet.card_of
    monkeypatch.setattr(sheet, "card_of", lambda folder: read.append(folder.name) or card_of(folder))
    recorded(tmp_path / "a")
    made = Sheet(tmp_path)
    made.write()
    recorded(tmp_path / "b")
    made.write()
    assert read == ["a", "b"]
    (tmp_path / "a" / "journal.jsonl").write_text("gone")
    assert [card.folder for card in made.cards()] == ["b"]


def test_an_empty_folder_has_an_empty_index(tmp_path: Path) -> None:
    assert "<h1>0 videos</h1>" in Sheet(tmp_path).render()
    assert Sheet(tmp_path / "none").cards() == []
