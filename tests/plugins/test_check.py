"""Checks before a model is loaded: interpreters, lengths, prompts, observers."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from streamt1_plugins import InputError, PluginError, RecipeError, hookimpl
from streamt1_plugins.evaluation.remote import check
from streamt1_plugins.plugins.acting import agreed
from streamt1_plugins.plugins.build import refuse_single_places
from streamt1_plugins.plugins.check import LONGEST, Checked, elsewhere, readable
from streamt1_plugins.plugins.resolve import resolve
from streamt1_plugins.runs.observers.record import record_to
from tests.toy import Bright


@dataclass
class Choosy(Bright):
    """Reads prompts of one word."""

    def check_prompt(self, prompt: str) -> None:
        if prompt == "crash":
            raise KeyError(prompt)
        if " " in prompt:
            raise InputError("it reads one word.")


def checked(*overrides: str, model: str = "tinyworld", recipe: Any = "stream-t1") -> Checked:
    return Checked.of(resolve(recipe, model, overrides=overrides), record_to("runs/x"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"num_frames": 4101}, "positions for 1024 .*The longest video is 4089 frames"),
        ({"num_frames": 20}, "does not fill whole chunks"),
        ({"num_frames": LONGEST + 1}, "a video has 1 to 1,000,000 frames"),
        ({"num_frames": 0}, "a video has 1 to"),
        ({"num_frames": 10**30}, "a video has 1 to"),
        ({"height": 63}, "`height` has to be a multiple of"),
        ({"width": -8}, "width"),
    ],
)
def test_a_call_that_the_model_cannot_make_is_refused_without_loading_it(call: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        checked().call(call)
    checked().call({"num_frames": 21, "height": 64})


def test_without_the_files_of_a_model_its_length_is_open() -> None:
    there = checked(model="not/here", recipe={"extends": "plain", "adapter": "wan"})
    there.call({"num_frames": 4101})
    with pytest.raises(InputError, match="does not fill whole chunks"):
        there.call({"num_frames": 20})


def test_a_prompt_that_a_reward_cannot_read_names_the_reward() -> None:
    readable("word", [("choosy", Choosy())])
    with pytest.raises(InputError, match="Reward 'choosy' cannot read this prompt: it reads one word"):
        readable("two words", [("choosy", Choosy())])
    with pytest.raises(PluginError, match="by reward 'choosy' failed: KeyError"):
        readable("crash", [("choosy", Choosy())])


def test_the_interpreter_of_a_reward_has_to_be_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    where = "rewards.long.bright={{where: {}}}"
    assert checked(where.format(sys.executable), model="toy")
    for python in ("/no/such/python", tmp_path / "file", tmp_path, "no-such-program"):
        with pytest.raises(RecipeError, match=r"rewards\.long\.bright\.where: '.*' is no program"):
            checked(where.format(python), model="toy")


FOREIGN = "extends: stream-t1\nrewards: {long: {bright: {where: {python: %s}, options: {%s}}}}\n"


def foreign(tmp_path: Path, options: str = "", python: str = sys.executable) -> Any:
    """A recipe file with a reward in another interpreter."""
    (tmp_path / "recipe.yaml").write_text(FOREIGN % (python, options), encoding="utf-8")
    return resolve(tmp_path / "recipe.yaml", "toy")


def test_a_place_that_a_file_names_is_not_started_unless_the_user_agrees(tmp_path: Path) -> None:
    (line,) = elsewhere(foreign(tmp_path))
    assert line == "not checked without --trust: rewards.long.bright, which runs elsewhere"
    with pytest.raises(
        RecipeError, match=r"no option 'call'\. Did you mean 'calls'\?.*installed here; check the other"
    ):
        elsewhere(foreign(tmp_path, "call: []"))


def test_a_place_that_the_user_agrees_to_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(check, "check_place", lambda *args: seen.append(args[0]))
    assert elsewhere(agreed(foreign(tmp_path), True)) == []
    assert elsewhere(resolve("stream-t1", "toy", overrides=["rewards.long.other.where=http://127.0.0.1:1"])) == []
    assert elsewhere(resolve("stream-t1", "toy")) == []
    assert seen == ["bright", "other"]


@pytest.mark.parametrize("url", ["http://[", "http://", "http://a b", "ftp://x", "http://x:0", "http://x:99999"])
def test_an_address_has_to_be_one(url: str) -> None:
    with pytest.raises(RecipeError, match=r"rewards\.long\.bright\.where\.url"):
        checked(f"rewards.long.bright={{where: {{url: '{url}'}}}}", model="toy")


@dataclass
class Writing:
    path: str = "x"

    @hookimpl
    def streamt1_run_finished(self) -> None: ...


def test_an_observer_that_writes_one_run_is_refused_for_several() -> None:
    refuse_single_places({"one": Choosy()}, "it makes two")
    with pytest.raises(InputError, match="The observer 'one' writes one run, to x, and it makes two"):
        refuse_single_places({"one": Writing()}, "it makes two")
