"""Weights are read from every form that people have them in; what is no weights is named for what it is."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import save_file

from streamt1_plugins.api.weights import check_file, check_model, check_values, header_of, is_finite, read_weights
from streamt1_plugins.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WEIGHTS = {f"layer.{index}.weight": torch.full((2, 3), float(index)) for index in range(3)}
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 5676070424\n"


def save(tensors: dict[str, torch.Tensor], file: Path) -> None:
    save_file(tensors, file) if file.suffix == ".safetensors" else torch.save(tensors, file)


def shards(folder: Path, suffix: str = ".safetensors", *, index: bool = True) -> Path:
    """A folder with a shard per tensor, as the libraries save them."""
    stem = "model" if suffix == ".safetensors" else "pytorch_model"
    names = {}
    for number, (name, tensor) in enumerate(WEIGHTS.items(), start=1):
        names[name] = f"{stem}-{number:05}-of-00003{suffix}"
        save({name: tensor}, folder / names[name])
    if index:
        (folder / f"{stem}{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    return folder


def check(found: dict[str, Any]) -> None:
    assert found.keys() == WEIGHTS.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in WEIGHTS.items())


# What can be read.


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.pth", "w.bin", "w.ckpt"])
def test_a_file_or_its_folder(name: str, tmp_path: Path) -> None:
    save(WEIGHTS, tmp_path / name)
    (tmp_path / "config.json").write_text("{}")
    check(read_weights(tmp_path / name))
    check(read_weights(tmp_path))


@pytest.mark.parametrize(("saved", "called"), [("w.safetensors", "w.pt"), ("w.pt", "w.safetensors")])
def test_the_content_decides_and_not_the_name(saved: str, called: str, tmp_path: Path) -> None:
    save(WEIGHTS, tmp_path / saved)
    (tmp_path / saved).rename(tmp_path / called)
    check(read_weights(tmp_path / called))


def test_the_old_format(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    check(read_weights(tmp_path / "old.pt"))


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
@pytest.mark.parametrize("index", [True, False])
def test_shards(suffix: str, index: bool, tmp_path: Path) -> None:
    folder = shards(tmp_path, suffix, index=index)
    check(read_weights(folder))
    check(read_weights(next(iter(sorted(folder.iterdir())))))


def test_an_index_by_its_name(tmp_path: Path) -> None:
    check(read_weights(shards(tmp_path) / "model.safetensors.index.json"))


def test_of_two_formats_the_safetensors(tmp_path: Path) -> None:
    shards(tmp_path)
    save({"other": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    check(read_weights(tmp_path))


def test_the_header(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "w.safetensors", metadata={"key": "value"})
    save(WEIGHTS, tmp_path / "w.pt")
    assert header_of(tmp_path / "w.safetensors") == {"key": "value"}
    assert header_of(tmp_path / "w.pt") == {}


# What cannot.


class Harmful:
    def __reduce__(self) -> Any:
        return (print, ("run",))


def cut(file: Path) -> None:
    save({"w": torch.zeros(1000)}, file)
    file.write_bytes(file.read_bytes()[:600])


FILES: list[tuple[str, Callable[[Path], Any], str]] = [
    (
        "w.safetensors",
        lambda f: f.write_text(POINTER),
        "pointer of 75 bytes to weights that were not downloaded. Run `g",
    ),
    ("w.pt", lambda f: f.write_text(POINTER), "pointer of 75 bytes to weights that were not downloaded"),
    ("w.bin", lambda f: f.write_text("/annex/objects/SHA256E-s4--a.bin\n"), "pointer of 33 bytes"),
    ("w.pt", lambda f: f.write_text("\n <!DOCTYPE html><html>Log in</html>"), "it is a web page.*hf auth login"),
    ("w.safetensors", lambda f: f.write_text("<html><body>404</body></html>"), "it is a web page"),
    ("w.bin", lambda f: f.write_text('<?xml version="1.0"?><Error>AccessDenied</Error>'), "it is a web page"),
    ("w.bin", lambda f: f.write_text("Entry not found"), "it is text .'Entry not found'.*Download it again"),
    ("w.safetensors", lambda f: f.write_text('{"error": "Repository not found"}'), "it is text"),
    ("w.safetensors", lambda f: f.write_bytes(b""), "it is empty, because its download did not finish"),
    ("w.pt", lambda f: f.write_bytes(b""), "it is empty"),
    ("w.safetensors", cut, "it is cut off: it has 600 of 4,0.. bytes"),
    ("w.pt", cut, "may be cut off or damaged"),
    ("w.safetensors", lambda f: f.write_bytes(b"\xff\xff\0\0\0\0\0\0{"), "it is cut off: it has 9 bytes, less than"),
    ("w.safetensors", lambda f: f.write_bytes(b"GGUF\3\0\0\0"), "GGUF file, quantised"),
    ("w.pt", lambda f: f.write_bytes(bytes(range(1, 255)) * 8), "neither a safetensors nor a PyTorch file"),
    ("w.pt", lambda f: torch.save([1, 2], f), "holds a list, not weights by name"),
    ("w.pt", lambda f: torch.save({"w": Harmful()}, f), "holds more than tensors .*print.* could run its code"),
    ("w.pt", lambda f: f.write_bytes(pickle.dumps(Harmful())), "holds more than tensors"),
]


@pytest.mark.parametrize(("name", "make", "message"), FILES, ids=[f"{name} {text[:24]}" for name, _, text in FILES])
@pytest.mark.parametrize("given", ["file", "folder"])
def test_files_that_are_no_weights(
    name: str, make: Callable[[Path], Any], message: str, given: str, tmp_path: Path
) -> None:
    make(tmp_path / name)
    with pytest.raises(InputError, match=f"{name} .*{message}"):
        read_weights(tmp_path / name if given == "file" else tmp_path)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    save(WEIGHTS, tmp_path / "model_ema.pt")
    with pytest.raises(InputError, match=r"model_emma.pt .* is not there. Did you mean 'model_ema.pt'"):
        read_weights(tmp_path / "model_emma.pt")
    with pytest.raises(InputError, match="neither is the folder"):
        read_weights(tmp_path / "nowhere" / "model.pt")
    (tmp_path / "link.pt").symlink_to(tmp_path / "blob")
    with pytest.raises(InputError, match="a link to a file that is not there, because its download did not finish"):
        read_weights(tmp_path / "link.pt")
    (tmp_path / "a.safetensors").mkdir()
    with pytest.raises(InputError, match="is a folder, where a file is expected"):
        check_file(tmp_path / "a.safetensors")


def test_folders_without_or_with_several_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found none, it is empty"):
        read_weights(tmp_path)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match=r"found none among notes.txt"):
        read_weights(tmp_path)
    for name in ("a.pt", "b.pt"):
        save(WEIGHTS, tmp_path / name)
    with pytest.raises(InputError, match=r"found a.pt, b.pt. Name the file"):
        read_weights(tmp_path)


@pytest.mark.parametrize("index", [True, False])
def test_missing_shards_are_named(index: bool, tmp_path: Path) -> None:
    folder = shards(tmp_path, index=index)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(InputError, match=r"model-00002-of-00003.safetensors. Download the rest"):
        read_weights(folder)


def test_a_shard_that_was_not_downloaded(tmp_path: Path) -> None:
    folder = shards(tmp_path)
    (folder / "model-00003-of-00003.safetensors").write_text(POINTER)
    with pytest.raises(InputError, match=r"model-00003-of-00003.safetensors .* not downloaded"):
        read_weights(folder)
    with pytest.raises(InputError, match=r"model-00003-of-00003.safetensors .* not downloaded"):
        check_model(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not an index of shards"),
        ("[]", "is not an index of shards"),
        ('{"weight_map": 3}', "is not an index of shards"),
        (POINTER, "is not an index of shards"),
        ('{"weight_map": {"w": "../w.safetensors"}}', "shards have to lie beside their index"),
        ('{"weight_map": {"w": "/etc/w.safetensors"}}', "shards have to lie beside their index"),
    ],
)
def test_an_index_that_is_none(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_weights(tmp_path)


def test_a_tensor_that_its_shard_lacks(tmp_path: Path) -> None:
    folder = shards(tmp_path)
    save({"other": torch.zeros(1)}, folder / "model-00002-of-00003.safetensors")
    with pytest.raises(InputError, match=r"layer.1.weight .in model-00002-of-00003.safetensors. should be in"):
        read_weights(folder)


# Values.


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float8_e5m2])
def test_numbers_that_are_not_finite(value: float, dtype: torch.dtype) -> None:
    broken = torch.ones(4)
    broken[2] = value
    with pytest.raises(InputError, match=r"a file: NaN or infinite numbers in b\.weight"):
        check_values({"a.weight": torch.ones(4).to(dtype), "b.weight": broken.to(dtype)}, "a file")


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.uint8, torch.complex64])
def test_weights_that_are_no_numbers_of_that_kind(dtype: torch.dtype) -> None:
    with pytest.raises(InputError, match=rf"w .{str(dtype)[6:]}. should hold floating-point numbers"):
        check_values({"w": torch.ones(4).to(dtype)}, "a file")


def test_good_values_pass() -> None:
    check_values({"a": torch.ones(3), "b": torch.zeros(2).bfloat16(), "c": torch.empty(0)}, "a file")
    assert is_finite(torch.ones(2).to(torch.float8_e4m3fn))
    assert is_finite(torch.empty(3, device="meta"))
