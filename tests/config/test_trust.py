"""Whose words a recipe's values are, and what the user's list allows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from streamt1_plugins.config import trust
from streamt1_plugins.config.load import load, recorded
from streamt1_plugins.config.trust import Origin, is_inside, is_loopback

WHERE = ("rewards", "short", "flicker", "where", "url")


def file(folder: Path, text: str, name: str = "shared") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return path


SHARED = "extends: stream-t1\nrewards: {short: {flicker: {where: 'http://elsewhere:1'}}}\nobservers: {wandb: {}}\n"


def test_values_of_a_file_are_foreign_and_those_of_the_user_are_not(tmp_path: Path) -> None:
    shared = file(tmp_path, SHARED)
    assert load(shared).origin.covers(WHERE)
    assert load(shared).origin.covers(("observers", "wandb", "project"))
    assert not load(shared).origin.covers(("observers", "video", "path"))
    own: list[Any] = ["stream-t1", {"extends": "beam", "model": "x"}, load("stream-t1").model_dump()]
    assert not any(load(each).origin.foreign for each in own)


def test_an_override_is_the_users_word(tmp_path: Path) -> None:
    shared = file(tmp_path, SHARED)
    mine = load(shared, ["rewards.short.flicker.where=http://mine:1"])
    assert not mine.origin.covers(WHERE)
    assert mine.origin.covers(("observers", "wandb"))
    assert not load(shared, ["rewards.short={flicker: {where: 'http://mine:1'}}"]).origin.covers(WHERE)
    assert load(shared, ["rewards={short: {basic: {}}, window: 3}"]).origin.covers(WHERE)
    assert load(shared, ["seed=3"]).origin.covers(WHERE)


def test_what_a_file_extends_is_from_a_file_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file(tmp_path, SHARED, "base")
    assert load(file(tmp_path, "extends: base.yaml\n")).origin.covers(WHERE)
    monkeypatch.chdir(tmp_path)
    assert load({"extends": "base.yaml", "seed": 3}).origin.covers(WHERE)
    own = {"extends": "base.yaml", "rewards": {"short": {"flicker": {"where": "http://mine:1"}}}}
    assert not load(own).origin.covers((*WHERE[:-1],))
    assert load({"extends": "base.yaml", "rewards": {"short": {}}}).origin.covers(WHERE)  # it is still the file's
    (tmp_path / "beam").write_text(SHARED)  # a file with the name of a shipped recipe
    assert load({"extends": "beam"}).origin.covers(WHERE)


def test_the_origin_stays_with_a_recipe_and_decides_no_comparison(tmp_path: Path) -> None:
    shared = load(file(tmp_path, SHARED))
    again = load(shared, ["seed=3"])
    assert again.origin.covers(WHERE)
    assert shared.sized(top_k=3).origin.covers(WHERE)
    assert shared == load(shared.model_dump())
    assert recorded(shared.model_dump(mode="json")).origin.covers(("seed",))


def test_places_of_empty_sections_and_origins_without_them() -> None:
    data = {"a": {"b": 1, "c": {}}, "d": []}
    assert set(trust.places(data)) == {("a", "b"), ("a", "c"), ("d",)}
    assert Origin.of(data).without([("a",)]).foreign == {("d",)}


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "::1"])
def test_hosts_that_are_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "localhost.evil.com", "127.0.0.1.evil.com", "0.0.0.0", "10.0.0.1", "::2", "judge"]
)
def test_hosts_that_may_be_another_machine(host: str) -> None:
    assert not is_loopback(host)


def test_a_listed_server_is_a_scheme_a_host_and_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(trust.TRUST, "http://judge:8700, https://far")
    assert trust.is_listed_server("http://JUDGE:8700/any/path")
    assert trust.is_listed_server("https://far:443")
    others = ["https://judge:8700", "http://judge", "http://judge:8700@evil", "http://far", "http://judge.evil:8700"]
    assert not any(map(trust.is_listed_server, [*others, "http://[", "http://judge:x"]))


def test_a_listed_folder_holds_its_files_but_no_links_out_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "out").symlink_to(tmp_path)
    monkeypatch.setenv(trust.TRUST, f"{tmp_path / 'mine'}")
    assert trust.is_listed_file(f"{tmp_path}/mine/x/video.mp4")
    for path in ("mine/../video.mp4", "mine/out/video.mp4", "minefield", "video.mp4"):
        assert not trust.is_listed_file(f"{tmp_path}/{path}")


def test_a_listed_program_is_the_one_that_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mine", "theirs"):  # both environments link to one interpreter, and only one is listed
        (tmp_path / name).mkdir()
        (tmp_path / name / "python").symlink_to("/usr/bin/env")
    monkeypatch.setenv(trust.TRUST, f"{tmp_path}/mine,judge-python")
    assert trust.is_listed_program(f"{tmp_path}/mine/python")
    assert trust.is_listed_program("judge-python")
    for program in (
        f"{tmp_path}/theirs/python",
        f"{tmp_path}/mine/../theirs/python",
        "python",
        f".{os.sep}judge-python",
    ):
        assert not trust.is_listed_program(program)


@pytest.mark.parametrize("path", ["a\0b", "~nobody-of-this-name/x"])
def test_a_path_that_cannot_be_is_nowhere(path: str, tmp_path: Path) -> None:
    assert not is_inside(path, tmp_path)
