"""The callbacks with which a plugin declares the names that it offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from streamt1_plugins.api.adapter import Capabilities


Rewards = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Rewards as in a recipe: {"short": {name: {...}}, "long": {...}}."""

Vocabulary = Mapping[str, Sequence[str]]
"""The words that a model knows, by kind: {"shapes": ("circle", "square"), ...}."""

PolicyKind = Literal["width", "noise", "scoring", "revision", "selection", "memory", "observer"]
"""The sections of a recipe that a policy is registered for."""

Target = str | type[Any]
"""Where the registered class is: "module:attr", imported when a recipe names it, or the class itself."""


class RegisterAdapter(Protocol):
    """Callback of `streamt1_register_adapters`."""

    def __call__(  # noqa: PLR0913  every argument but two has a default, and a name
        self,
        name: str,
        *,
        pipelines: tuple[str, ...],
        target: Target,
        model: str | None = None,
        explicit: str | None = None,
        rewards: Rewards | None = None,
        capabilities: Capabilities | None = None,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        """Register an adapter for `pipelines`, the names of the classes that it drives.

        `model`: "module:function" that returns the bundled model's folder. `explicit`: why the class alone does not
        decide that this adapter fits; the user then has to name it.
        `rewards`: as in a recipe's `rewards`, {"short": {name: {...}}, "long": {...}}; recipes add their own to them.
        `capabilities`: those of its ordinary session, for `streamt1 plugins`. `vocabulary`: the words that the model
        knows, by kind, where they are few: a prompt with other words gets a warning that lists them.
        """


class RegisterReward(Protocol):
    """Callback of `streamt1_register_rewards`."""

    def __call__(self, name: str, *, target: Target, extra: str | None = None) -> None:
        """Register a reward. `extra`: the pip extra or distribution to install where its imports are missing."""


class RegisterPolicy(Protocol):
    """Callback of `streamt1_register_policies`."""

    def __call__(self, name: str, *, kind: PolicyKind, target: Target) -> None:
        """Register a policy or observer for one section of recipes, its `kind`."""
