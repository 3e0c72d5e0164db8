"""The pipeline's own bars: silent inside, as before after it, and whoever switched them off finds them off."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

import streamt1_plugins as streamt1
from streamt1_plugins.process.progress import CONFIG, is_wanted, silenced
from streamt1_plugins.runs.way_on import command_line
from tests.toy import ToyPipeline, ToySession


class Barred(ToyPipeline):
    """Has bars as a diffusers pipeline."""

    def progress_bar(self, total: int) -> None: ...

    def set_progress_bar_config(self, **config: Any) -> None:
        setattr(self, CONFIG, config)


@pytest.mark.parametrize("before", [None, {}, {"disable": True}, {"desc": "mine", "disable": False}])
def test_the_setting_comes_back(before: dict[str, Any] | None) -> None:
    pipe = Barred()
    if before is not None:
        setattr(pipe, CONFIG, before)
    with suppress(ZeroDivisionError), silenced(pipe):
        assert getattr(pipe, CONFIG) == {**(before or {}), "disable": True}
        _ = 1 / 0
    assert vars(pipe).get(CONFIG) is before
    assert (CONFIG in vars(pipe)) is (before is not None)


def test_what_is_set_meanwhile_stays() -> None:
    pipe = Barred()
    with silenced(pipe):
        pipe.set_progress_bar_config(desc="new")
    assert getattr(pipe, CONFIG) == {"desc": "new"}


def test_a_pipeline_without_bars_gets_no_setting() -> None:
    pipe = ToyPipeline()
    with silenced(pipe):
        assert CONFIG not in vars(pipe)
    assert is_wanted(pipe)


# In a search.


def shown(pipe: streamt1.StreamPipeline, capsys: pytest.CaptureFixture[str]) -> list[str]:
    pipe("a prompt")
    return [line.split()[0] for line in capsys.readouterr().err.splitlines()]


CHUNKS = ["chunk"] * 4


def test_a_search_shows_its_chunks_and_the_pipelines_bars_are_off_meanwhile(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, found = streamt1.wrap(Barred()), []
    generate = ToySession.generate

    def looking(self: ToySession, *args: Any) -> Any:
        found.append(is_wanted(pipe.pipe))
        return generate(self, *args)

    monkeypatch.setattr(ToySession, "generate", looking)
    assert shown(pipe, capsys) == CHUNKS
    assert set(found) == {False}
    assert is_wanted(pipe.pipe)
    assert shown(streamt1.wrap(pipe, "plain"), capsys) == []
    assert found[-1], "a plain call shows what the pipeline shows"


@pytest.mark.parametrize("kind", [ToyPipeline, Barred])
def test_it_can_be_switched_off_and_on_again(kind: type, capsys: pytest.CaptureFixture[str]) -> None:
    pipe = streamt1.wrap(kind())
    pipe.set_progress_bar_config(disable=True)
    assert shown(pipe, capsys) == []
    pipe.set_progress_bar_config(disable=False)
    assert shown(pipe, capsys) == CHUNKS


def test_there_is_one_bar_whoever_asks_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(streamt1.wrap(ToyPipeline(), observers={"console": {}}), capsys) == CHUNKS
    named = streamt1.wrap(ToyPipeline(), overrides=["observers.console={}"])
    assert shown(named, capsys) == CHUNKS
    with command_line():  # a command shows its own
        assert shown(streamt1.wrap(ToyPipeline()), capsys) == []


def test_a_program_without_standard_error_gets_its_video(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    assert len(streamt1.wrap(ToyPipeline())("a prompt")) == 12
