"""From findings to a recipe: what to switch on, what to leave off, and the reason in plain words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from streamt1_plugins.probe.formulas import WIDTHS, best_sigma, expected_best

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamt1_plugins.probe.findings import Findings, RewardFindings

ENOUGH = 0.02
"""The smallest effect of a memory route that counts, in distances between two candidates."""
USEFUL = 0.2
"""The smallest reliability with which a reward can rank candidates."""
SMALL_SHARE = 0.01


@dataclass
class Advice:
    """Sentences for a person, and recipe keys for `extends`."""

    sentences: list[str] = field(default_factory=list)
    keys: dict[str, dict[str, Any]] = field(default_factory=dict)

    def set(self, section: str, **values: Any) -> None:
        """Put keys into a section of the recipe."""
        self.keys.setdefault(section, {}).update(values)

    def recipe(self, base: str, description: str) -> str:
        """The recipe as YAML, on top of `base`."""
        text: str = yaml.safe_dump({"extends": base, "description": description, **self.keys}, sort_keys=False)
        return text


def advise(found: Findings) -> Advice:
    """The advice for a model with these findings."""
    advice = Advice()
    useful = {name: each for name, each in found.rewards.items() if each.reliability >= USEFUL and each.spread > 0}
    _width(advice, found, useful)
    _noise(advice, found, useful)
    _memory(advice, found)
    return advice


def _width(advice: Advice, found: Findings, useful: Mapping[str, RewardFindings]) -> None:
    dull = sorted(found.rewards.keys() - useful.keys())
    if not useful:
        advice.sentences.append(
            "No reward distinguishes the candidates of one chunk from its own repeat error, so a search can gain nothing: "
            "use `plain`, or other rewards."
        )
        advice.set("search", candidates=1, top_k=1)
        return
    table = ", ".join(f"{count}: {expected_best(count):.2f}" for count in WIDTHS)
    advice.sentences.append(
        f"The best of N candidates is expected to be this many spreads better than one (N: spreads): {table}. Four "
        "candidates per chunk reach more than half of what sixteen do, at a quarter of the cost."
    )
    for name, each in useful.items():
        gains = ", ".join(f"{count}: +{gain:.3g}" for count, gain in each.gains.items())
        advice.sentences.append(f"{name} has a spread of {each.spread:.3g} over candidates. Expected gain per chunk: {gains}.")
    for name in dull:
        advice.sentences.append(f"{name} does not distinguish candidates (spread {found.rewards[name].spread:.3g}): it ranks none.")
    advice.set("search", candidates=2, top_k=2)


def _noise(advice: Advice, found: Findings, useful: Mapping[str, RewardFindings]) -> None:
    first, later = (found.shares[part].get("initial", 1.0) for part in ("first", "later"))
    owned = f"The initial noise owns {first:.2%} of the variance of a first chunk and {later:.2%} of that of later chunks"
    draws = "initial" if later >= SMALL_SHARE else "all"
    proven = {
        name: each.heritability[draws] for name, each in useful.items() if each.heritability[draws].excludes_zero
    }
    weight = sum(useful[name].spread > 0 for name in proven)
    mean = sum(interval.mean for interval in proven.values()) / max(1, len(useful)) if weight else 0.0
    sigma = round(best_sigma(mean), 2)
    what = "the initial noise" if draws == "initial" else "all draws of the sampler"
    if not sigma:
        advice.sentences.append(
            f"{owned}. Noise that scored well does not score well again in the next chunk, whatever is reused, so nothing "
            "is inherited: fresh noise (sigma 0)."
        )
        advice.set("noise", sigma=0.0)
        return
    named = ", ".join(f"{name} {interval.mean:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]" for name, interval in proven.items())
    advice.sentences.append(
        f"{owned}. Readings of successive chunks that reuse {what} correlate ({named}), so sigma {sigma:+.2f} on {what}."
    )
    advice.set("noise", sigma=sigma, draws=draws)


def _memory(advice: Advice, found: Findings) -> None:
    if not found.routes:
        advice.sentences.append("The memory of this pipeline cannot be routed, so there is nothing to set.")
        return
    effects = ", ".join(f"{name} {each.mean:.1%}" for name, each in found.routes.items())
    strong = {name: each for name, each in found.routes.items() if each.low >= ENOUGH}
    text = f"A route changes the next chunk by this share of the distance between two candidates: {effects}."
    if not strong:
        advice.sentences.append(f"{text} That is too little to matter: memory sinking is left off.")
        advice.set("memory", name="fixed", route="discard")
        return
    decays = [float(name.split()[1]) for name in strong if name.startswith("ema ")]
    advice.sentences.append(f"{text} Sinks can act, so reward feedback routes them.")
    advice.set("memory", name="reward_feedback")
    if decays:
        advice.set("sinks", ema_decay=max(decays))
        advice.sentences.append(f"The slowest EMA that changes anything has decay {max(decays):g}.")
