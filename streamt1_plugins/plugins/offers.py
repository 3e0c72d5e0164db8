"""The names that a plugin registers: collected from its discovery hooks, and checked."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

from streamt1_plugins.api.register import PolicyKind
from streamt1_plugins.api.types import HORIZONS
from streamt1_plugins.errors import PluginError, foreign_code, guess, shown
from streamt1_plugins.plugins.registry import AdapterEntry, Entry

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pluggy

    from streamt1_plugins.api.register import Target

TARGET = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")

POLICY_KINDS = get_args(PolicyKind)


@dataclass
class Offers:
    """The adapters, rewards and policies that one plugin registers."""

    adapters: list[AdapterEntry] = field(default_factory=list)
    rewards: list[Entry] = field(default_factory=list)
    policies: list[tuple[PolicyKind, Entry]] = field(default_factory=list)


def offers_of(manager: pluggy.PluginManager, what: str, origin: str) -> Offers:
    """What the plugin in `manager` registers. Raises `PluginError`, which starts with `what`.

    A plugin that keeps a callback and calls it later changes nothing.
    """
    found = Offers()

    def adapter(name: str, *, target: Target, **declared: Any) -> None:
        found.adapters.append(AdapterEntry(name, target, origin, **declared))

    def reward(name: str, *, target: Target, extra: str | None = None) -> None:
        found.rewards.append(Entry(name, target, origin, extra))

    def policy(name: str, *, kind: PolicyKind, target: Target) -> None:
        found.policies.append((kind, Entry(name, target, origin)))

    for kind, register in (("adapters", adapter), ("rewards", reward), ("policies", policy)):
        hook, before = f"streamt1_register_{kind}", len(getattr(found, kind))
        with foreign_code(what, passes=()):
            answers = getattr(manager.hook, hook)(register=register)
        if answers and len(getattr(found, kind)) == before:
            called = "call register(name, ...) for each name"
            raise PluginError(f"{what}: {hook} registers nothing and returns {shown(answers[0])}; {called}.")
    for problem in _problems(found):
        raise PluginError(f"{what}: {problem}")
    return found


def _problems(found: Offers) -> Iterator[str]:
    """What cannot be a name, a target or a declaration: such are read by every command that looks for a name."""
    for entry in (*found.adapters, *found.rewards, *(entry for _, entry in found.policies)):
        name, target = entry.name, entry.target
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            yield f"register got the name {shown(name)}; expected a text such as 'my-reward'."
        elif not (inspect.isclass(target) or (isinstance(target, str) and TARGET.fullmatch(target))):
            yield f"{name!r} has the target {shown(target)}; expected 'module:Class' or a class."
        elif not isinstance(entry.extra, str | None):
            yield f"{name!r} has extra={shown(entry.extra)}; expected a text."
    for adapter in found.adapters:
        yield from _problems_of_adapter(adapter)
    for kind, entry in found.policies:
        if kind not in POLICY_KINDS:
            known = ", ".join(POLICY_KINDS)
            yield f"{entry.name!r} has the kind {shown(kind)}.{guess(str(kind), POLICY_KINDS)} Known: {known}."


def _problems_of_adapter(entry: AdapterEntry) -> Iterator[str]:
    forms: dict[str, tuple[object, bool, str]] = {
        "model": (entry.model, isinstance(entry.model, str | None), "a text"),
        "explicit": (entry.explicit, isinstance(entry.explicit, str | None), "a text"),
        "pipelines": (
            entry.pipelines,
            isinstance(entry.pipelines, tuple | list) and all(isinstance(each, str) for each in entry.pipelines),
            "a tuple of class names such as ('WanPipeline',)",
        ),
        "rewards": (entry.rewards, _is_suggestion(entry.rewards), "{'short': {name: {...}}, 'long': {...}}"),
        "capabilities": (entry.capabilities, _is_capabilities(entry.capabilities), "`Capabilities`"),
        "vocabulary": (entry.vocabulary, _is_vocabulary(entry.vocabulary), "{'shapes': ('circle', ...), ...}"),
    }
    for key, (value, is_right, form) in forms.items():
        if not is_right:
            yield f"{entry.name!r} has {key}={shown(value)}; expected {form}."


def _is_suggestion(rewards: object) -> bool:
    return rewards is None or (
        isinstance(rewards, Mapping)
        and all(horizon in HORIZONS and isinstance(named, Mapping) for horizon, named in rewards.items())
    )


def _is_vocabulary(words: object) -> bool:
    return words is None or (
        isinstance(words, Mapping)
        and all(isinstance(kind, str) and isinstance(known, tuple | list) for kind, known in words.items())
        and all(isinstance(word, str) for known in words.values() for word in known)
    )


def _is_capabilities(value: object) -> bool:
    from streamt1_plugins.api.adapter import Capabilities

    return value is None or isinstance(value, Capabilities)
