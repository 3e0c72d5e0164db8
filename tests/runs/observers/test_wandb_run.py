"""A wandb run of our own leaves the process as it was, with and without a run of the program."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from streamt1_plugins.runs.observers.wandb_run import OwnRun

wandb = pytest.importorskip("wandb")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    hooks = sys.excepthook, sys.exit  # which a run of the tests' own changes
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    wandb.teardown()
    yield
    sys.excepthook, sys.exit = hooks
    wandb.teardown()


def traces() -> dict[str, Any]:
    log = logging.getLogger("wandb")
    return {
        "hooks": (sys.excepthook, sys.exit),
        "logger": (log.level, log.propagate, list(log.handlers)),
        "environment": {name: value for name, value in os.environ.items() if name.startswith("WANDB")},
        "children": sorted(child.pid for child in psutil.Process().children()),
        "globals": (wandb.run, type(wandb.log), type(wandb.config)),
    }


def test_alone_it_ends_the_process_of_wandb_and_gives_the_hooks_back() -> None:
    before = traces()
    own = OwnRun(project="ours", settings=wandb.Settings(console="off"))
    own.run.log({"a": 1})
    assert traces()["children"] != before["children"], "wandb has a process of its own"
    own.finish(0)
    assert traces() == before


def test_beside_a_run_of_the_program_all_of_it_stays() -> None:
    theirs = wandb.init(project="theirs")
    before = traces()
    own = OwnRun(project="ours")
    assert wandb.run is theirs
    own.finish(1)
    assert traces() == before
    theirs.log({"a": 1})
    theirs.finish()


def test_a_run_that_the_program_starts_meanwhile_goes_on() -> None:
    own = OwnRun(project="ours")
    theirs = wandb.init(project="theirs", reinit="create_new")
    own.finish(0)
    theirs.log({"a": 1})
    theirs.finish()


def test_a_start_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = traces()
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    with pytest.raises(wandb.Error):
        OwnRun(project="ours", mode="online", settings=wandb.Settings(init_timeout=1.0))
    monkeypatch.delenv("WANDB_BASE_URL")
    monkeypatch.delenv("WANDB_API_KEY")
    assert traces() == before
