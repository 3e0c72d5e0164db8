"""Finds weights and texts in a folder, a Hugging Face repository or an installed package, which is never imported."""

from __future__ import annotations

import ast
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Literal

from streamt1_plugins.api.weights import check_model
from streamt1_plugins.errors import InputError, PluginError, StreamT1Error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch

DType = Literal["auto", "float32", "bfloat16", "float16"]


def torch_dtype(name: DType, device: str) -> torch.dtype:
    """The named dtype; `auto` is bfloat16 on an accelerator and float32 on the CPU."""
    import torch

    if name == "auto":
        name = "float32" if torch.device(device).type == "cpu" else "bfloat16"
    found: torch.dtype = getattr(torch, name)
    return found


@contextmanager
def quiet() -> Iterator[None]:
    """Silences the warnings of transformers in the block: `check_keys` reports missing and unused keys as errors."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


@contextmanager
def fetching(reward: str, source: str) -> Iterator[None]:
    """Raises `PluginError` where loading from `source` in the block fails, or its weights were not downloaded."""
    from safetensors import SafetensorError

    folder = Path(source).expanduser()
    try:
        if folder.is_dir():
            check_model(folder)
        yield
    except InputError as error:
        raise PluginError(f"Reward {reward!r} cannot load {source!r}: {error}") from error
    except StreamT1Error:
        raise
    except (OSError, ValueError, RuntimeError, SafetensorError, UnpicklingError) as error:
        raise PluginError(
            f"Reward {reward!r} cannot load {source!r}: {error} "
            f"It must be a folder, or a Hugging Face repository that is in the local cache or can be downloaded "
            f"(hf download {source})."
        ) from error


def find_file(reward: str, source: str, name: str, revision: str | None = None) -> Path:
    """Path of the file `name` in a folder or repository. Raises `PluginError` where it is missing."""
    folder = Path(source).expanduser()
    if folder.is_file():
        raise PluginError(f"Reward {reward!r} needs a folder with {name!r}, and {folder} is a file.")
    if folder.is_dir():
        if not (folder / name).is_file():
            raise PluginError(f"Reward {reward!r} needs the file {name!r}, which is not in {folder}.")
        return folder / name
    from huggingface_hub import hf_hub_download

    with fetching(reward, source):
        return Path(hf_hub_download(source, name, revision=revision))


def installed_file(reward: str, package: str, name: str, install: str) -> Path:
    """Path of the file `name` in an installed package, not imported. Raises `PluginError` where it is missing."""
    try:
        path = Path(str(distribution(package).locate_file(name)))
    except PackageNotFoundError as error:
        raise PluginError(f"Reward {reward!r} needs the package {package!r}. Install it with: {install}") from error
    if not path.is_file():
        raise PluginError(f"Reward {reward!r} needs the file {path}, which the installed {package!r} does not have.")
    return path


def text_constants(path: Path, names: Sequence[str]) -> list[str]:
    """String constants of a Python file, which is parsed and never run. Raises `PluginError` where one is missing."""
    try:
        body = ast.parse(path.read_text(encoding="utf-8")).body
    except (OSError, SyntaxError, ValueError) as error:
        raise PluginError(f"{path} cannot be read as Python source: {error}") from error
    found: dict[str, str] = {}
    for node in body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            found.update({target.id: node.value.value for target in node.targets if isinstance(target, ast.Name)})
    missing = [name for name in names if name not in found]
    if missing:
        raise PluginError(
            f"{path} must assign a string to {', '.join(missing)}; it is not the file that this reward needs."
        )
    return [found[name] for name in names]


def fill(template: str, prompt: str) -> str:
    """The template with `prompt` in place of ``{text_prompt}``. Raises `PluginError` where it has other fields."""
    try:
        return template.format(text_prompt=prompt)
    except (KeyError, IndexError, ValueError) as error:
        raise PluginError(f"The prompt template has a field other than {{text_prompt}}: {error!r}.") from error
