"""Where a pipeline runs: the choice of its device, and the one function that brings it there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from streamt1_plugins.errors import InputError, UnsupportedPipelineError, foreign_code, guess, unknown_name
from streamt1_plugins.process.imports import deferred

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import torch

    from streamt1_plugins.config.schema import PlacementSettings, Recipe
    from streamt1_plugins.errors import StreamT1Error
else:
    torch = deferred("torch")

AUTO = "auto"
ENCODERS = ("text_encoder", "image_encoder")
TYPES = ("cpu", "cuda", "mps", "xpu", "mtia")
"""The types of devices that come with torch; others may be installed beside it."""


def chosen(given: object = None, recorded: str | None = None, origin: str = "device") -> str:
    """The device to run on: the `given` one, else the `recorded` one, else (or for "auto") `cuda` or the CPU.

    Without a number, a launched process gets the device of its own number on this machine. origin: what the caller
    calls `given`. Raises `InputError` for a device that torch or this machine does not have.
    """
    if given is not None and given != AUTO:
        if str(given) == "meta":
            raise InputError(f"{origin}: tensors on 'meta' hold no data, so nothing can be generated there.")
        return _own(checked(given, origin))
    if given is None and recorded is not None:
        kind = recorded.partition(":")[0] if _local_rank() is not None else recorded
        hint = " Name another device for results that are close but not the same."
        return _own(checked(kind, "The device of the recorded run", hint=hint))
    return _own("cuda" if torch.cuda.is_available() else "cpu")


def checked(device: object, origin: str, error: type[StreamT1Error] = InputError, hint: str = "") -> str:
    """The name of a device, once it is clear that this machine has it.

    Raises `error` with `origin`, the devices there are, and `hint`.
    """
    name = str(device)
    kind, colon, number = name.partition(":")
    there = {each: _count(each) for each in TYPES if _count(each)}
    listed = ", ".join(each if count == 1 else f"{each}:0 to {each}:{count - 1}" for each, count in there.items())
    if not _is_type(kind) or (colon and not (number.isascii() and number.isdigit())):
        raise error(f"{origin}: {name!r} is not the name of a device.{guess(name, TYPES)} This machine has {listed}.")
    if _count(kind) <= int(number or 0):
        raise error(f"{origin}: this machine does not have {name!r}. It has {listed}.{hint}")
    return name


def place(pipe: Any, settings: PlacementSettings, device: str) -> None:
    """Bring a pipeline to a device; weights of the components in `placement.offload` stay in CPU memory until they run.

    Offloading that an earlier call began is ended first. On the CPU there is nothing to offload to. Raises
    `UnknownNameError` for a component that the pipeline lacks.
    """
    modules = _modules(pipe)
    for name in settings.offload:
        if name not in modules:
            raise unknown_name("component of the pipeline", name, modules)
    for name in offloaded(pipe):
        _end_offload(modules[name])
    if settings.offload and not is_cpu(device):
        for name, module in modules.items():
            with foreign_code(f"Moving {name} to {device!r}"):
                if name in settings.offload:
                    _offload(name, module, device)
                else:
                    module.to(device)
    elif hasattr(pipe, "to"):
        with foreign_code(f"Moving the model to {device!r}"):
            pipe.to(device)
    elif not is_cpu(device):  # where models are loaded
        raise UnsupportedPipelineError(f"{type(pipe).__name__} has no method `to`, so it only runs on the CPU.")


def move(pipe: Any, settings: PlacementSettings, *args: Any, **kwargs: Any) -> None:
    """What ``pipe.to(*args, **kwargs)`` does, and `place` for its device where the recipe offloads components."""
    device = kwargs.get("device", next((arg for arg in args if not isinstance(arg, torch.dtype)), None))
    if device is None or not settings.offload:
        pipe.to(*args, **kwargs)
        return
    dtype = kwargs.get("dtype", next((arg for arg in args if isinstance(arg, torch.dtype)), None))
    where = checked(torch.device(device) if isinstance(device, int) else device, "device")
    if dtype is not None:
        pipe.to(dtype=dtype)
    place(pipe, settings, where)


def notes(pipe: Any, recipe: Recipe, device: str) -> Iterator[str]:
    """A note for each setting of the recipe that places something and does not act on this pipeline."""
    waiting = sorted({*recipe.placement.offload} - {*offloaded(pipe)})
    if waiting and is_cpu(device):
        yield "placement.offload does nothing here: the pipeline runs on the CPU."
    elif waiting:
        yield (
            f"placement.offload was not applied to {', '.join(waiting)}: the caller placed the pipeline. Calling "
            f"`.to({device!r})` on the wrapped pipeline applies it."
        )
    if recipe.search.offload == "cpu" and is_cpu(device):
        yield "search.offload=cpu does nothing here: the pipeline runs on the CPU."


def offloaded(pipe: Any) -> list[str]:
    """The components of a pipeline whose weights an accelerate hook brings to the device when they run."""
    return [name for name, module in _modules(pipe).items() if hasattr(module, "_hf_hook")]


def is_cpu(device: str) -> bool:
    """Whether a device is the CPU."""
    return device.partition(":")[0] == "cpu"


def _modules(pipe: Any) -> Mapping[str, torch.nn.Module]:
    parts = getattr(pipe, "components", None) or {}
    return {name: part for name, part in parts.items() if isinstance(part, torch.nn.Module)}


def _is_type(kind: str) -> bool:
    """Whether torch, or what is installed beside it, has such a type of device."""
    try:
        return torch.device(kind).type == kind
    except RuntimeError:
        return False


def _count(kind: str) -> int:
    """How many devices of a type this machine has."""
    if kind == "meta":  # part of every torch, and no device of a machine: tensors without data
        return 1
    module: Any = getattr(torch, kind, None)
    return max(1, module.device_count()) if hasattr(module, "is_available") and module.is_available() else 0


def _local_rank() -> int | None:
    """This process's number on its machine, where a launcher started it."""
    rank = os.environ.get("LOCAL_RANK")
    return int(rank) if rank is not None else None


def _own(device: str) -> str:
    """`device`; without a number, in a launched process, with the number of this process."""
    rank = _local_rank()
    if rank is None or ":" in device or _count(device) == 1:
        return device
    return f"{device}:{rank % _count(device)}"


def _offload(name: str, module: torch.nn.Module, device: str) -> None:
    """Move an encoder whole when it runs, which it does once, and each layer of another component when that runs."""
    import accelerate  # here: it costs a second to import

    offload = accelerate.cpu_offload_with_hook if name.startswith(ENCODERS) else accelerate.cpu_offload
    offload(module, torch.device(device))


def _end_offload(module: torch.nn.Module) -> None:
    from accelerate.hooks import remove_hook_from_module

    remove_hook_from_module(module, recurse=True)
