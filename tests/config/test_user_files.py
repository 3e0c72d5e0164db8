"""Text files in any Unicode encoding with a mark, errors with their line, and paths in the home folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from streamt1_plugins.config.user_files import is_file, lines, read_text, user_path
from streamt1_plugins.errors import InputError

TEXT = "größe\n二つ\n"


def read(path: Path, limit: int = 1000) -> str:
    return read_text(path, "The file", limit)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_every_unicode_encoding_with_a_mark_is_read(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "f").write_bytes(TEXT.encode(encoding))
    assert read(tmp_path / "f") == TEXT


@pytest.mark.parametrize("mark", [b"\xfe\xff", b"\x00\x00\xfe\xff"])
def test_the_other_byte_order_is_read(tmp_path: Path, mark: bytes) -> None:
    (tmp_path / "f").write_bytes(mark + TEXT.encode("utf-16-be" if len(mark) == 2 else "utf-32-be"))
    assert read(tmp_path / "f") == TEXT


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\r\nb\r\xe9t\xe9\n", "'.*f', line 3 is not UTF-8: byte 0xe9 .*Save the file as UTF-8"),
        ("a\nb".encode("utf-16-le"), "line 1 contains NUL characters, as UTF-16 without a mark"),
        (b"a\n\0", "line 2 contains NUL characters"),
        (b"\xff\xfea\0\n\0b", "line 2 is not UTF-16"),
        (b"x" * 1001, "more than 1,000 bytes"),
    ],
)
def test_what_is_no_text_is_an_error_with_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path / "f")


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, message in {
        tmp_path: "is a folder",
        tmp_path / "pipe": "is no regular file",
        tmp_path / "missing": "does not exist",
        tmp_path / ("x" * 300): "cannot be read: File name too long",
        tmp_path / "f" / "\0": "cannot be read: embedded null byte",
    }.items():
        with pytest.raises(InputError, match=message):
            read(path)
        assert not is_file(path)


def test_lines_end_with_lf_cr_lf_or_cr_and_with_nothing_else() -> None:
    assert lines("a\nb\r\nc\rd\x85e\u2028f\x0bg") == ["a", "b", "c", "d\x85e\u2028f\x0bg"]


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/runs") == tmp_path / "runs"
    assert user_path("runs/~") == Path("runs/~")
    with pytest.raises(InputError, match="'~no-such-user', which is no home"):
        user_path("~no-such-user/x")
    with pytest.raises(InputError, match="NUL"):
        user_path("a\0b")
