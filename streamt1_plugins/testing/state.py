"""The tensors that an object keeps alive, and the traces that code leaves on a pipeline."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Mapping
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator

_OPAQUE = (str, bytes, int, float, type, ModuleType, FunctionType, MethodType, nn.Module, torch.Generator)


def tensors_in(root: object, outside: object = None) -> Iterator[Tensor]:
    """Every tensor reachable from `root` through containers and attributes, but not through `outside`."""
    seen, todo = {id(outside)}, [root]
    while todo:
        item = todo.pop()
        if id(item) in seen or isinstance(item, _OPAQUE):
            continue
        seen.add(id(item))
        if isinstance(item, Tensor):
            yield item
        else:
            todo += gc.get_referents(item)


def tensor_bytes(root: object, outside: object = None) -> int:
    """Memory behind the tensors reachable from `root`; what they share counts once."""
    storages = [tensor.untyped_storage() for tensor in tensors_in(root, outside)]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def footprint(pipe: Any) -> dict[str, dict[str, Any]]:
    """Instance attributes, processors and hooks of a pipeline and all its modules, as far as code can add to them.

    Data is compared by name alone (pipelines keep their last guidance scale), functions and processors by identity.
    Data that a part's own code names is left out: its first call brings it.
    """
    parts: dict[str, Any] = {"pipe": pipe}
    for name, part in getattr(pipe, "components", {}).items():
        modules = part.named_modules() if isinstance(part, nn.Module) else ()
        parts.update({f"{name}.{path}": module for path, module in modules})
    own = {kind: _own_names(kind) for kind in {type(part) for part in parts.values()}}
    return {name: _traces(part, own[type(part)]) for name, part in parts.items()}


def _traces(part: Any, own: set[str]) -> dict[str, Any]:
    """The attributes of one part, without the data that it names itself."""
    return {
        key: _identity(value)
        for key, value in vars(part).items()
        if not _is_empty_registry(key, value) and (key not in own or _holds_code(part, value))
    }


def _holds_code(part: Any, value: Any) -> bool:
    """Whether a value can change what a part does: a function, or, in a module, a mapping, as hooks are kept in."""
    return callable(value) or hasattr(value, "hooks") or (isinstance(part, nn.Module) and isinstance(value, Mapping))


def _own_names(kind: type[Any]) -> set[str]:
    """Every name that the methods of a class and of its bases read or set; hooks are torch's, and not among them."""
    kinds = [each for each in kind.__mro__ if not each.__module__.startswith("torch.")]
    methods = [getattr(value, "fget", value) for each in kinds for value in vars(each).values()]
    codes = [getattr(inspect.unwrap(method), "__code__", None) for method in methods if callable(method)]
    return {name for code in codes if code is not None for name in code.co_names}


def _is_empty_registry(name: str, value: Any) -> bool:
    """Whether it is the registry without hooks that diffusers gives a model in its first forward pass."""
    return name == "_diffusers_hook" and not value.hooks


def _identity(value: Any) -> Any:
    if isinstance(getattr(value, "hooks", None), Mapping):
        return tuple(value.hooks)
    if isinstance(value, Mapping) and not isinstance(value, nn.Module):
        return tuple(value)
    return id(value) if callable(value) else None
