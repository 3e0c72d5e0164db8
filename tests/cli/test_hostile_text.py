"""Names, messages and files from elsewhere, through the output of every command: nothing steers the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import streamt1_plugins as streamt1
from streamt1_plugins.cli import main
from streamt1_plugins.plugins.discovery import discovery
from streamt1_plugins.text.printable import HOSTILE
from tests.cli.calling import call
from tests.plugins.test_acting import rewrite

EVIL = "a\x1b]0;title\x07\x1b[2J\x9b1m\u202e[red]b"


@dataclass
class Complaining(streamt1.Reward):
    """Fails with a hostile message."""

    def score(self, inp: streamt1.RewardInput) -> streamt1.RewardOutput:
        raise ValueError(EVIL)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder with hostile files, and a plugin with hostile names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STREAMT1_PLUGINS", "")  # which --plugin adds to
    text = json.dumps({"extends": "plain", "description": EVIL, "rewards": {"short": {EVIL: {}}}}, ensure_ascii=True)
    Path(f"{EVIL}.yaml").write_text(text, encoding="utf-8")
    Path("comment.yaml").write_text(f"# {EVIL}\nextends: plain\n", encoding="utf-8")
    Path("described.yaml").write_text(f"extends: plain\ndescription: {json.dumps(EVIL)}\n", encoding="utf-8")
    Path(f"{EVIL}.txt").write_text(EVIL.replace("\x07", "").replace("\u202e", "") + "\n", encoding="utf-8")
    table = discovery().rewards
    table[EVIL] = replace(table["bright"], name=EVIL, origin=EVIL, extra=EVIL, target=Complaining)
    discovery().plugins[EVIL] = EVIL
    yield
    del table[EVIL], discovery().plugins[EVIL]


def is_plain(result: Any) -> bool:
    found = {each for each in HOSTILE.findall(result.stdout + result.stderr) if each != "\r"}
    assert found == set(), repr(result.output)
    return True


COMMANDS: dict[str, tuple[str, ...]] = {
    "generate": ("generate", EVIL, "--model", "toy", "--out", EVIL, "-o", f"rewards.short={json.dumps({EVIL: {}})}"),
    "generate --quiet": ("generate", EVIL, "--model", "toy", "--out", EVIL, "-r", "plain", "--quiet"),
    "generate --json": ("generate", EVIL, "--model", "toy", "--out", EVIL, "-r", "plain", "--json"),
    "generate --prompts": ("generate", "--prompts", f"{EVIL}.txt", "--model", "toy", "--out", EVIL, "-r", "plain"),
    "generate, unknown recipe": ("generate", "a prompt", "-r", EVIL),
    "generate, unknown key": ("generate", "a prompt", "-o", f"{EVIL}={EVIL}"),
    "generate, unknown adapter": ("generate", "a prompt", "--adapter", EVIL),
    "generate --resume": ("generate", "--resume", EVIL),
    "no such option": ("generate", "a prompt", f"--{EVIL}"),
    "no such command": (EVIL,),
    "too many arguments": ("report", "a", EVIL),
    "not a number": ("generate", "a prompt", "--seed", EVIL),
    "report": ("report", EVIL),
    "replay": ("replay", EVIL, "--node", EVIL),
    "export": ("export", EVIL, "--as", "groups", "-o", EVIL),
    "export --as": ("export", "run", "--as", EVIL, "-o", "out"),
    "recipes list": ("recipes", "list"),
    "recipes show": ("recipes", "show", "comment.yaml"),
    "recipes show --resolved": ("recipes", "show", "described.yaml", "--resolved"),
    "recipes validate": ("recipes", "validate", "comment.yaml", "described.yaml", f"{EVIL}.yaml", EVIL),
    "recipes diff": ("recipes", "diff", f"{EVIL}.yaml", "described.yaml"),
    "recipes copy": ("recipes", "copy", "comment.yaml", f"{EVIL}-2.yaml"),
    "plugins": ("plugins",),
    "plugins --details": ("plugins", "--details"),
    "plugins --json": ("plugins", "--json", "--details"),
    "plugin file": ("--plugin", f"{EVIL}.py", "plugins"),
    "new-reward": ("new-reward", EVIL),
    "new-adapter": ("new-adapter", EVIL),
    "new-adapter, folder": ("new-adapter", "warm-light", EVIL),
    "new-policy": ("new-policy", EVIL, "--kind", "noise"),
    "new-policy, folder": ("new-policy", "warm-light", EVIL, "--kind", "noise"),
    "new-policy, kind": ("new-policy", "warm-light", "--kind", EVIL),
    "new-reward, folder": ("new-reward", "warm-light", EVIL),
    "serve-reward": ("serve-reward", EVIL + EVIL),
    "serve-reward, option": ("serve-reward", "drift", "-o", EVIL),
    "convert": ("convert", EVIL, EVIL, "--base", EVIL),
    "probe": ("probe", "toy", "-r", "described.yaml", "--prompts", f"{EVIL}.txt", "--out", EVIL, "--chunks", "2"),
    "probe, candidates": ("probe", EVIL, "--prompts", f"{EVIL}.txt", "--out", EVIL, "--candidates", EVIL),
    "compare": (
        *("compare", "plain", f"{EVIL}.yaml", "--prompts", f"{EVIL}.txt", "--judge", "seam"),
        *("--model", "toy", "--out", EVIL),
    ),
    "compare, judge": (
        "compare",
        "plain",
        "--prompts",
        f"{EVIL}.txt",
        "--judge",
        EVIL,
        "--model",
        "toy",
        "--out",
        EVIL,
    ),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_output_is_plain(command: tuple[str, ...]) -> None:
    result = call(*command)
    assert is_plain(result)
    assert result.output


def test_debug_shows_a_plain_traceback() -> None:
    result = call("--debug", "generate", "a prompt", "-r", EVIL)
    assert "Traceback" in result.stderr
    assert is_plain(result)


EXPORT = ("export", "run", "--as", "groups", "-o", "data", "--tensors", "none")


def test_a_hostile_record_is_shown_plainly() -> None:
    assert call("generate", "a prompt", "--model", "toy", "--out", "run").exit_code == 0
    journal = Path("run/journal.jsonl")
    lines = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    lines[0] |= {"prompt": EVIL}
    lines[0]["versions"][EVIL] = EVIL
    lines[-1] |= {"error": EVIL, "notes": [EVIL]}
    rewrite(journal, lines)
    for command in (("report", "run"), ("replay", "run"), ("generate", "--resume", "run"), EXPORT):
        assert is_plain(call(*command))


def test_machines_read_what_was_written(tmp_path: Path) -> None:
    found = call("plugins", "--json")
    assert EVIL in json.loads(found.stdout)["plugins"][-1].values()
    done = call("generate", EVIL, "--model", "toy", "--out", "run", "-r", "plain", "--json")
    assert json.loads(done.stdout)["prompt"] == EVIL
    Path("again.yaml").write_text(call("recipes", "show", "described.yaml", "--resolved").stdout, encoding="utf-8")
    assert call("recipes", "diff", "again.yaml", "described.yaml").stdout.strip() == "No difference."


def test_the_traceback_of_an_error_that_no_command_expects_is_plain(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise RuntimeError(EVIL)

    monkeypatch.setattr(main, "app", broken)
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 1
    printed = capsys.readouterr().err
    assert "Traceback" in printed
    assert not HOSTILE.search(printed)
