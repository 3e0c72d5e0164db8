"""The callbacks with which a plugin declares the names that it offers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from streamt1_plugins.api.adapter import Capabilities


Rewards = Mapping[str, Mapping[str, Mapping[str, Any]]]


PolicyKind = Literal["width", "noise", "scoring", "selection", "memory", "observer"]


class RegisterAdapter(Protocol):
    """Callback of `streamt1_register_adapters`."""

    def __call__(
        self,
        name: str,
        *,
        pipelines: tuple[str, ...],
        target: str,
        model: str | None = None,
        explicit: str | None = None,
        rewards: Rewards | None = None,
        capabilities: Capabilities | None = None,
    ) -> None:
        """`pipelines`: class names it drives. `model`: "module:function" that gives the bundled model's folder.

        `explicit`: why the class alone does not tell that this adapter fits; it must then be named by the user.
        `rewards`: as in a recipe's `rewards`, {"short": {name: {...}}, "long": {...}}, for recipes that name none.
        `capabilities`: those of its ordinary session, for `streamt1 plugins`.
        """
        ...


class RegisterReward(Protocol):
    """Callback of `streamt1_register_rewards`."""

    def __call__(self, name: str, *, target: str, extra: str | None = None) -> None:
        """`extra`: the pip extra (or distribution) to install when the reward's imports are missing."""
        ...


class RegisterPolicy(Protocol):
    """Callback of `streamt1_register_policies`."""

    def __call__(self, name: str, *, kind: PolicyKind, target: str) -> None:
        """`kind`: which section of a recipe may name it."""
        ...
