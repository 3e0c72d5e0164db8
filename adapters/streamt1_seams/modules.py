"""Small helpers on torch modules and tensors that adapters share."""

from __future__ import annotations

from typing import Any


def uncompiled(module: Any) -> Any:
    """The module behind `torch.compile`, which wraps it in another class."""
    return getattr(module, "_orig_mod", module)
