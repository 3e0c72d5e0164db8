"""A reward's place is checked before a run: it answers, has the reward, and takes its options."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from streamt1_plugins.config.rewards import RewardPart
from streamt1_plugins.errors import PluginError, UnreachableError
from streamt1_plugins.evaluation.remote.check import check_place


def part(where: object, **options: object) -> RewardPart:
    return RewardPart.model_validate({"where": where, "options": options})


def script(folder: Path, text: str) -> str:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


@pytest.mark.slow
def test_an_interpreter_builds_the_reward_and_reports_a_misspelt_option() -> None:
    check_place("flicker", part({"python": sys.executable}, half=0.1))
    with pytest.raises(PluginError, match=r"cannot run in '.*': .*no option 'haf'\. Did you mean 'half'\?"):
        check_place("flicker", part({"python": sys.executable}, haf=0.1))


def test_what_is_no_interpreter_is_an_error_with_what_it_wrote(tmp_path: Path) -> None:
    check_place("flicker", RewardPart())  # runs here
    with pytest.raises(PluginError, match=r"cannot run in .*: No module named streamt1_plugins"):
        check_place("flicker", part(script(tmp_path, "echo No module named streamt1_plugins; exit 1")))
    with pytest.raises(PluginError, match="exit code 3"):
        check_place("flicker", part(script(tmp_path, "exit 3")))
    with pytest.raises(UnreachableError, match="cannot be started"):
        check_place("flicker", part(str(tmp_path / "none")))
    with pytest.raises(UnreachableError, match=r"did not answer in 0\.2 s"):
        check_place("flicker", part({"python": script(tmp_path, "exec sleep 60"), "start_timeout": 0.2}))


def test_a_server_has_to_be_there() -> None:
    with pytest.raises(UnreachableError, match="cannot be reached"):
        check_place("flicker", part({"url": "http://127.0.0.1:1", "retries": 0}))
