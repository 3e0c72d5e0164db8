"""What the index shows of a run."""

from __future__ import annotations

import base64
import math
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from streamt1_plugins.runs.recorded import RecordedRun
from streamt1_plugins.runs.sheet.cards import card_of, ends, readings_of
from tests.runs.shared import Failing, recorded


def test_a_card_has_prompt_seed_recipe_score_and_files(tmp_path: Path) -> None:
    pipe = recorded(tmp_path / "run")
    card = card_of(tmp_path / "run")
    assert card is not None
    assert (card.folder, card.prompt, card.seed, card.recipe) == ("run", "a prompt", 42, "stream-t1")
    assert (card.page, card.video, card.made) == ("report.html", "video.mp4", "4 of 4 chunks")
    assert card.is_finished
    assert card.length == pytest.approx(12 / 8)
    winner = [pipe.tree.nodes[name] for name in pipe.tree.winner]
    assert card.score == pytest.approx(sum(node.score for node in winner) / 4)
    raw = [node.readings["long"]["bright"].raw for node in winner]
    assert card.readings["bright"] == pytest.approx(sum(raw) / 4, abs=1e-4)
    assert card.values == {"score": card.score, "reading bright": card.readings["bright"]}


def test_a_picture_has_the_first_and_the_last_frame(tmp_path: Path) -> None:
    recorded(tmp_path / "run")
    found = ends(RecordedRun.read(tmp_path / "run"))
    assert found is not None
    with Image.open(BytesIO(base64.b64decode(found[0]))) as picture:
        assert picture.format == "JPEG"
        assert picture.width / picture.height == pytest.approx(found[1])
    for strip in (tmp_path / "run" / "strips").iterdir():
        strip.write_bytes(b"no picture")
    assert ends(RecordedRun.read(tmp_path / "run")) is None
    card = card_of(tmp_path / "run")
    assert card is not None
    assert card.picture is None


def test_an_unfinished_run_has_a_card_that_names_its_state(tmp_path: Path) -> None:
    import streamt1_plugins as streamt1
    from streamt1_plugins.runs.observers.record import record_to
    from tests.toy import ToyPipeline

    observers = {**record_to(tmp_path / "run"), "failing": Failing(1, RuntimeError("no"))}
    with pytest.raises(streamt1.PluginError):
        streamt1.wrap(ToyPipeline(), observers=observers)("a prompt")
    card = card_of(tmp_path / "run")
    assert card is not None
    assert card.status.startswith("stopped: ")
    assert not card.is_finished
    assert card.made == "2 of 4 chunks"


def test_what_is_no_run_has_no_card(tmp_path: Path) -> None:
    assert card_of(tmp_path) is None
    (tmp_path / "journal.jsonl").write_text("torn")
    assert card_of(tmp_path) is None


def test_readings_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    recorded(tmp_path / "run", "rewards.short.picky={options: {chunk: 1, ordinals: [0, 1, 2, 3]}}")
    assert all(map(math.isfinite, readings_of(RecordedRun.read(tmp_path / "run")).values()))
