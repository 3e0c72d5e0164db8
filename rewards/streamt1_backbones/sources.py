"""Where weights and texts come from: a folder, a Hugging Face repository, an installed package (never imported)."""

from __future__ import annotations

import ast
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from streamt1_plugins.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch

DType = Literal["auto", "float32", "bfloat16", "float16"]


def torch_dtype(name: DType, device: str) -> torch.dtype:
    """The named dtype; `auto` is bfloat16 on an accelerator and float32 on a processor."""
    import torch

    if name == "auto":
        name = "float32" if torch.device(device).type == "cpu" else "bfloat16"
    found: torch.dtype = getattr(torch, name)
    return found


@contextmanager
def quiet() -> Iterator[None]:
    """transformers keeps its reports of unused keys to itself inside: keys are checked here, with errors."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


@contextmanager
def fetching(reward: str, source: str) -> Iterator[None]:
    """Loading from `source` inside: a folder or repository that cannot be read becomes a `PluginError`."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise PluginError(
            f"Reward {reward!r} cannot load {source!r}: {error} "
            f"It must be a folder, or a Hugging Face repository that is in the local cache or can be downloaded "
            f"(hf download {source})."
        ) from error


def find_file(reward: str, source: str, name: str, revision: str | None = None) -> Path:
    """File `name` of a folder or repository. Raises `PluginError` if it is not there or cannot be downloaded."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        if not (folder / name).is_file():
            raise PluginError(f"Reward {reward!r} finds no {name!r} in {folder}.")
        return folder / name
    from huggingface_hub import hf_hub_download

    with fetching(reward, source):
        return Path(hf_hub_download(source, name, revision=revision))


def installed_file(reward: str, package: str, name: str, install: str) -> Path:
    """File `name` of an installed package, without importing it. Raises `PluginError` with the install command."""
    try:
        path = Path(str(distribution(package).locate_file(name)))
    except PackageNotFoundError as error:
        raise PluginError(f"Reward {reward!r} needs the package {package!r}. Install it with: {install}") from error
    if not path.is_file():
        raise PluginError(f"Reward {reward!r} finds no {name!r} in the installed {package!r}; expected {path}.")
    return path


def text_constants(path: Path, names: Sequence[str]) -> list[str]:
    """String constants assigned at the top of a Python file, which is parsed and never run. Raises `PluginError`."""
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
        raise PluginError(f"{path} assigns no text to {', '.join(missing)}; it is not the file this reward needs.")
    return [found[name] for name in names]


def fill(template: str, prompt: str) -> str:
    """The template with `prompt` in its ``{text_prompt}``. Raises `PluginError` for templates with other fields."""
    try:
        return template.format(text_prompt=prompt)
    except (KeyError, IndexError, ValueError) as error:
        raise PluginError(f"The prompt template has a field other than {{text_prompt}}: {error!r}.") from error
