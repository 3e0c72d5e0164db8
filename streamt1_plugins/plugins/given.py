"""Plugins that the caller of `wrap` gives as objects, checked: they need not be registered."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from streamt1_plugins.errors import InputError, PluginError, foreign_code, guess, shown
from streamt1_plugins.plugins.implementations import has_hooks, implements

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamt1_plugins.api.register import PolicyKind
    from streamt1_plugins.api.reward import Reward

ANSWERS: dict[PolicyKind, str] = {
    "width": "streamt1_width",
    "noise": "streamt1_propose_noise",
    "scoring": "streamt1_score",
    "revision": "streamt1_revise",
    "selection": "streamt1_select",
    "memory": "streamt1_route_memory",
}
"""The hook that every kind of policy answers."""
POLICY_SECTIONS: tuple[PolicyKind, ...] = tuple(ANSWERS)
EXAMPLES = {
    "rewards": 'rewards={"warmth": Warmth()}',
    "policies": 'policies={"selection": Family()}',
    "observers": 'observers={"stills": Stills()} or observers={"console": {}}',
}

_AGAIN = "Wrap the pipeline again, in an instant: streamt1_plugins.wrap(pipe, {})."
_RESULT = "It belongs to the last call."
FIXED = {
    "recipe": _AGAIN.format("recipe"),
    "given": _AGAIN.format("rewards=..., policies=..."),
    "pipe": "Wrap the other pipeline: streamt1_plugins.wrap(other).",
    "run": _RESULT,
    "last_run": _RESULT,
    "tree": _RESULT,
    "run_folder": _RESULT,
    "adapter": _AGAIN.format("adapter=..."),
    "overrides": _AGAIN.format("overrides=[...]"),
    "rewards": _AGAIN.format("rewards={...}"),
    "policies": _AGAIN.format("policies={...}"),
    "trust": _AGAIN.format("trust=..."),
    "observers": "Use set_observers({...}).",
    "on_chunk_end": "Pass it to the call.",
}
"""What cannot be set on a wrapped pipeline, and what does it instead."""


@runtime_checkable
class PerRun(Protocol):
    """An observer that is made anew for every run, as those of `record_to(..., per_run=True)`."""

    def for_run(self, prompt: str | None) -> Mapping[str, object]:
        """The observers of a run with this prompt; for None, some like them, to be checked and never used."""


@dataclass(frozen=True)
class Given:
    """Plugins that the caller gives as objects: rewards by name, policies by kind."""

    rewards: Mapping[str, Reward] = field(default_factory=dict)
    policies: Mapping[PolicyKind, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise `InputError` for an unknown kind of policy, and for what is no reward or no policy."""
        check_mapping("rewards", self.rewards)
        check_mapping("policies", self.policies)
        for kind, policy in self.policies.items():
            if kind not in POLICY_SECTIONS:
                known = ", ".join(POLICY_SECTIONS)
                raise InputError(f"policies: unknown kind {kind!r}.{guess(str(kind), POLICY_SECTIONS)} Known: {known}.")
            if isinstance(policy, str):
                raise InputError(
                    f"policies[{kind!r}] must be an object, got {policy!r}. A registered policy is named in the "
                    f'recipe: overrides=["{kind}={policy}"].'
                )
            check_hooks(f"policies[{kind!r}]", policy, ANSWERS[kind])
        if self.rewards:
            self._check_rewards()

    def _check_rewards(self) -> None:
        from streamt1_plugins.api.reward import Reward  # here: checking a recipe must not import torch
        from streamt1_plugins.evaluation.pool import problems

        for name, reward in self.rewards.items():
            if not isinstance(reward, Reward):
                raise InputError(f"rewards[{name!r}] must be a `Reward` object, got {shown(reward)}.{_hint(reward)}")
            for problem in problems(reward):
                raise PluginError(f"Reward {name!r} declares {problem}.")


def check_mapping(argument: str, value: Any, known: Iterable[str] = ()) -> None:
    """Raise `InputError` where an argument of `wrap` does not map names to objects. known: registered names."""
    if isinstance(value, Mapping):
        wrong = [name for name in value if not isinstance(name, str)]
        if not wrong:
            return
        value = wrong[0]
    names = [value] if isinstance(value, str) else value if isinstance(value, list | tuple | set) else []
    found = [f"{name!r}: {{}}" for name in names if isinstance(name, str) and name in known]
    unknown = [guess(name, known) for name in names if isinstance(name, str) and name not in known]
    way = f"{argument}={{{', '.join(found)}}}" if found else EXAMPLES[argument]
    raise InputError(f"`{argument}` maps names to objects, got {shown(value)}.{''.join(unknown)} Write {way}.")


def check_hooks(what: str, plugin: object, hook: str | None = None) -> None:
    """Raise `InputError` for an object that implements no hook, or not this one: it would do nothing."""
    with foreign_code(f"Reading the hooks of {what}", passes=()):
        is_one = not inspect.isclass(plugin) and (implements(plugin, hook) if hook else has_hooks(plugin))
    if not is_one:
        needed = f"a method `{hook}` that is" if hook else "methods that are"
        raise InputError(
            f"{what} must be an object with {needed} decorated with `@hookimpl`, got {shown(plugin)}.{_hint(plugin)}"
        )


def check_scalars(adapter: Any, trust: Any) -> None:
    """Raise `InputError` for an adapter that is no name, and for a consent that is neither yes, no nor a recipe."""
    if not isinstance(adapter, str | None):
        raise InputError(f'`adapter` is the name of a registered adapter, such as "wan", got {shown(adapter)}.')
    from streamt1_plugins.config.schema import Recipe  # here, because reward workers read no recipes

    if not isinstance(trust, bool | Recipe):
        raise InputError(f"`trust` is True, False or a recipe that names what is agreed to, got {shown(trust)}.")


def _hint(value: object) -> str:
    if inspect.isclass(value):
        return " Create one: add parentheses."
    return (
        " The settings of a registered one belong into the recipe." if isinstance(value, Mapping | str | float) else ""
    )


NOTHING_GIVEN = Given()
