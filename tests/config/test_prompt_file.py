"""Prompt files from elsewhere: encodings, line ends, comments, and lines that are no prompts."""

from __future__ import annotations

from pathlib import Path

import pytest

import streamt1_plugins as streamt1
from streamt1_plugins.config.prompt_file import LONGEST, PromptLine, prompt_lines, read_prompts
from streamt1_plugins.config.schedule import Scene
from streamt1_plugins.errors import InputError

TEXT = "# a comment\n a dog \n\n\t# another\nzwei Kätzchen\n二匹の犬 🐕\n"
PROMPTS = ["a dog", "zwei Kätzchen", "二匹の犬 🐕"]


def write(folder: Path, text: str | bytes, encoding: str = "utf-8") -> Path:
    path = folder / "prompts.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_prompts_are_the_same_in_every_encoding_and_with_every_line_end(
    tmp_path: Path, encoding: str, end: str
) -> None:
    assert read_prompts(write(tmp_path, TEXT.replace("\n", end), encoding)) == PROMPTS


def test_marks_in_the_middle_of_joined_files_are_no_part_of_a_prompt(tmp_path: Path) -> None:
    assert read_prompts(write(tmp_path, "a\n\ufeffb\n\ufeff# c\n")) == ["a", "b"]


def test_duplicates_are_kept(tmp_path: Path) -> None:
    assert read_prompts(write(tmp_path, "a\na\n")) == ["a", "a"]


@pytest.mark.parametrize("character", ["\x1b", "\x0b", "\x0c", "\x85", "\u2028", "\u2029", "\x1c", "\x07", "\x9b"])
def test_a_character_that_is_no_text_is_a_problem_of_its_line(tmp_path: Path, character: str) -> None:
    path = write(tmp_path, f"good\n\nbad{character}one\nfine\n")
    found = [(line.number, line.text, line.problem is None) for line in prompt_lines(path)]
    assert found == [(1, "good", True), (3, f"bad{character}one", False), (4, "fine", True)]
    with pytest.raises(InputError, match=rf"line 3: character 4 is U\+{ord(character):04X}"):
        read_prompts(path)


def test_a_line_that_is_too_long_is_a_problem(tmp_path: Path) -> None:
    path = write(tmp_path, "a\n" + "b" * (LONGEST + 1))
    with pytest.raises(InputError, match="line 2: 20001 characters, at most 20000"):
        read_prompts(path)


def test_many_wrong_lines_are_one_short_message(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"line 5: .*; and 95 more") as caught:
        read_prompts(write(tmp_path, "\x07x\n" * 100))
    assert len(str(caught.value)) < 1000


def test_a_check_may_refuse_prompts(tmp_path: Path) -> None:
    def check(line: PromptLine) -> None:
        if line.prompt == "b":
            raise InputError("no b")

    found = prompt_lines(write(tmp_path, "a\nb\n\x07c\n"), check)
    assert [line.problem for line in found][:2] == [None, "no b"]
    assert "U+0007" in str(found[2].problem)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("caf\xe9\n".encode("latin-1"), "line 1 is not UTF-8"),
        ("a dog\n".encode("utf-16-le"), "as UTF-16 without a mark"),
        (b"# nothing\n \n\xef\xbb\xbf\n", "holds no prompts"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_prompts(write(tmp_path, content))


def test_it_is_public(tmp_path: Path) -> None:
    assert streamt1.read_prompts(str(write(tmp_path, TEXT))) == PROMPTS


def test_a_line_may_be_json_with_a_schedule(tmp_path: Path) -> None:
    text = """a dog
{"prompt": "sun", "schedule": [{"chunk": 7, "prompt": "rain", "memory": "flush"}, {"chunk": 9, "prompt": "snow"}]}
{"schedule": [{"chunk": 0, "prompt": "moon"}, {"chunk": 2, "prompt": "m\\u00e4rz"}]}
 { "prompt": "# alone"}
{red|blue} balls
"""
    dog, sun, moon, alone, balls = prompt_lines(write(tmp_path, text))
    assert (dog.text, dog.prompt, dog.call, dog.scenes) == ("a dog", "a dog", {}, ())
    assert sun.text == "sun; from chunk 7 (flush): rain; from chunk 9 (keep): snow"
    assert (sun.prompt, sun.prompts) == ("sun", ["sun", "rain", "snow"])
    assert sun.call["schedule"][0] == {"chunk": 7, "prompt": "rain", "memory": "flush"}
    assert moon.scenes == (Scene(0, "moon"), Scene(2, "m\u00e4rz"))
    assert moon.call == {"schedule": [{"chunk": 2, "prompt": "m\u00e4rz", "memory": "keep"}]}
    assert (alone.text, alone.call, balls.text) == ("# alone", {}, "{red|blue} balls")
    assert [line.problem for line in (dog, sun, moon, alone, balls)] == [None] * 5


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ('{"promt": "a"}', "line 2: unknown key 'promt'. Did you mean 'prompt'"),
        ('{"prompt": "a", "schedule": [{"chunk": 1, "prompt": "b", "memry": "keep"}]}', "Did you mean 'memory'"),
        ('{"prompt": "a", "prompt": "b"}', "the key 'prompt' is there twice"),
        ('{"prompt": "a", "schedule": [{"chunk": 1, "prompt": "b"}', "this is not JSON: .* at character 5"),
        ('{"prompt": 7}', "`prompt` has to be a text, got 7"),
        ('{"schedule": [{"chunk": 1, "prompt": "b"}]}', "`prompt` has to be given for the first chunks"),
        ('{"prompt": "a", "schedule": "b"}', "has to be a list of scenes"),
        ('{"schedule": []}', "Neither `prompt` nor `schedule`"),
        ('{"prompt": "a", "schedule": [{"chunk": 1, "prompt": "b\\u0007"}]}', r"U\+0007"),
        ('{"prompt": "a", "schedule": [{"chunk": 1, "prompt": "b"}]}', "The prompt changes, and here a video has one"),
    ],
)
def test_a_wrong_entry_is_a_problem_of_its_line(tmp_path: Path, line: str, match: str) -> None:
    with pytest.raises(InputError, match=match):
        read_prompts(write(tmp_path, f"good\n{line}\n"))
