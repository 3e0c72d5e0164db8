"""From findings to a recipe: what to switch on, what to leave off, and the reason in plain words."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from streamt1_plugins.compare.stats import ENOUGH_PROMPTS
from streamt1_plugins.config import yaml12
from streamt1_plugins.probe.formulas import WIDTHS, best_sigma, leads

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamt1_plugins.compare.stats import Interval
    from streamt1_plugins.config.schema import Recipe
    from streamt1_plugins.probe.findings import Findings, RewardFindings

ACTS = 0.02
"""The smallest effect of a memory route that counts, in distances between two candidates."""
LEAST, WORTH = 4, 0.5
"""Candidates per chunk of the default recipe, and the share of the gain of the widest search that is worth its cost."""
APPENDED = 2 / 3
"""The quantile of measured losses that opens a sink, where sinks help: a third of the chunks pass it."""
SHOWN = 3
"""Problems of candidates that are named."""
PROBED = "probed.yaml"
"""The recipe file beside an advice that does not extend a shipped recipe."""
NO_SEARCH: dict[str, dict[str, Any]] = {
    "search": {"candidates": 1, "top_k": 1},
    "noise": {"sigma": 0.0},
    "memory": {"name": "fixed", "route": "discard"},
}


@dataclass
class Advice:
    """Reasons for a person by topic, and recipe keys for `extends`.

    base: what the recipe extends. predicted: gain of each reward's mean reading per chunk over a plain run.
    """

    base: str
    reasons: dict[str, list[str]] = field(default_factory=dict)
    keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    predicted: dict[str, Interval] = field(default_factory=dict)

    @property
    def route(self) -> str:
        """The advised fixed route, by its name among the findings; empty where rewards decide."""
        memory = self.keys.get("memory", {})
        decay = self.keys.get("sinks", {}).get("ema_decay")
        return f"ema {decay:g}" if memory.get("route") == "ema" else str(memory.get("route", ""))

    def add(self, topic: str, sentence: str, section: str | None = None, **values: Any) -> None:
        """A reason, and the keys of a section that follow from it."""
        self.reasons.setdefault(topic, []).append(sentence)
        if section is not None:
            self.keys.setdefault(section, {}).update(values)

    def recipe(self) -> dict[str, Any]:
        """The recipe as data, on top of `base`."""
        return {"extends": self.base, "description": "advice of streamt1 probe", **self.keys}

    def to_yaml(self) -> str:
        """The recipe as a file: its reasons as comments, then keys and values."""
        reasons = [sentence for each in self.reasons.values() for sentence in each]
        return "".join(f"# {each}\n" for each in reasons) + yaml12.write(self.recipe())


def advise(found: Findings, probed: Recipe, base: str) -> Advice:
    """The advice for a model with these findings: changes to the recipe that was `probed`, which is called `base`."""
    advice = Advice(base)
    useful = {name: each for name, each in found.rewards.items() if each.reliability.is_above_zero}
    if not found.are_enough:
        advice.add("candidates", _too_few(found))
    elif not useful:
        advice.add("candidates", _nothing_ranks(found))
        advice.base, advice.keys = (base, deepcopy(NO_SEARCH)) if base == PROBED else ("plain", {})
    else:
        _width(advice, found, useful)
        _rewards(advice, found, useful, probed)
    for problem in found.problems[:SHOWN]:
        advice.add("candidates", f"Some candidates could not be judged: {problem.rstrip('.')}.")
    can_search = bool(useful) and found.are_enough
    _noise(advice, found, can_search)
    _memory(advice, found, can_search)
    if can_search:
        _predict(advice, found)
    return advice


def _too_few(found: Findings) -> str:
    few, them = ("1 prompt is", "it") if found.prompts == 1 else (f"{found.prompts} prompts are", "them")
    return (
        f"{few} not enough to tell what helps: the figures describe {them} alone, and no setting is changed. Probe at "
        f"least {ENOUGH_PROMPTS} prompts."
    )


def _nothing_ranks(found: Findings) -> str:
    if not found.rewards:
        return (
            "No reward is named, so nothing ranks candidates and a search gains nothing. Name rewards, or use `plain`."
        )
    named = ", ".join(f"{name} {each.error:.2g} of {each.spread:.2g}" for name, each in found.rewards.items())
    return (
        "No reward distinguishes the candidates of a chunk from its own repeat error, so a search gains nothing: use "
        f"`plain`, or other rewards. (Repeat error of the spread over candidates: {named}.)"
    )


def _width(advice: Advice, found: Findings, useful: Mapping[str, RewardFindings]) -> None:
    """The smallest width, from that of the default recipe on, with enough of the gain of the widest one."""
    total = {count: _in_spreads(useful, count) for count in WIDTHS}
    worth = WORTH * total[WIDTHS[-1]]
    count = next((each for each in WIDTHS if each >= LEAST and total[each] >= worth > 0), LEAST)
    for name, each in useful.items():
        listed = ", ".join(f"{width}: {_signed(gain)}" for width, gain in each.gains.items())
        advice.add(
            "candidates",
            f"{name} spreads {each.spread:.3g} over candidates, and {each.error:.2g} over repeated readings. Expected "
            f"gain of a video's mean by candidates per chunk: {listed}.",
        )
    part = f"{total[count] / total[WIDTHS[-1]]:.0%} of the gain of {WIDTHS[-1]}" if worth > 0 else "no sure gain"
    advice.add(
        "candidates",
        f"{count} candidates per chunk promise {part}. One beam keeps the best of them: the search measured here.",
        "search",
        candidates=count,
        top_k=1,
    )


def _in_spreads(useful: Mapping[str, RewardFindings], count: int) -> float:
    return fmean(each.gains[count].mean / each.spread for each in useful.values())


def _rewards(advice: Advice, found: Findings, useful: Mapping[str, RewardFindings], probed: Recipe) -> None:
    """Rewards that rank nothing get weight 0: their error would count as much as the others' verdicts."""
    dull = sorted(found.rewards.keys() - useful.keys())
    if not dull:
        return
    sections: dict[str, dict[str, Any]] = {}
    for horizon in ("short", "long"):
        for name, part in getattr(probed.rewards, horizon).items():
            kept = part.model_dump(mode="json", exclude_defaults=True)
            weight = {"weight": 0.0} if f"{horizon}.{name}" in dull else {}
            sections.setdefault(horizon, {})[name] = {**kept, **weight}
    named = ", ".join(dull)
    advice.add("candidates", f"{named}: no more than repeat error, so it is recorded and decides nothing.")
    advice.keys["rewards"] = sections


def _noise(advice: Advice, found: Findings, can_search: bool) -> None:
    first, later = (found.shares[part].get("initial") for part in ("first", "later"))
    if first is not None:
        rest = f" and {_percent(later)} of that of later chunks" if later is not None else ""
        advice.add("noise", f"The initial noise owns {_percent(first)} of the variance of a first chunk{rest}.")
    if found.hidden_draws:
        advice.add(
            "noise",
            "This family of pipelines keeps its later draws to itself, so only the initial noise can be inherited.",
        )
    if not can_search or found.score is None:
        return
    known = found.score.heritability
    sure = {draws: each for draws, each in known.items() if each.is_above_zero or each.is_below_zero}
    listed = "; ".join(f"{_words(draws)} {_signed(each)}" for draws, each in known.items())
    if not sure:
        why = f" (correlation of successive scores: {listed})" if listed else ""
        advice.add(
            "noise", f"Noise that scored well does not score well again in the next chunk{why}: fresh noise.", "noise"
        )
        advice.keys["noise"].update(sigma=0.0)
        return
    draws = max(sure, key=lambda each: abs(sure[each].mean))
    sigma = best_sigma(sure[draws].mean, found.chunks)
    advice.add(
        "noise",
        f"Scores of successive chunks that reuse noise correlate ({listed}), so each chunk inherits {_words(draws)} "
        f"with sigma {sigma:+.2f}.",
        "noise",
        sigma=sigma,
        draws=draws,
    )


def _words(draws: str) -> str:
    return "the initial noise" if draws == "initial" else "all draws"


def _memory(advice: Advice, found: Findings, can_search: bool) -> None:
    if len(found.route_names) < 2:
        advice.add("memory", "The memory of this family of pipelines cannot be routed, so there is nothing to set.")
        return
    if not found.routes:
        advice.add("memory", "No chunk leaves the memory window in this video, so routes change nothing in it.")
        return
    effects = ", ".join(f"{name} {each.effect.mean:.1%}" for name, each in found.routes.items())
    advice.add("memory", f"A route moves the next chunk by this share of the distance of two candidates: {effects}.")
    if not can_search:
        return
    acting = {name: each for name, each in found.routes.items() if each.effect.low >= ACTS}
    helping = {name: each.benefit for name, each in acting.items() if each.benefit.is_above_zero}
    if helping:
        _use(advice, found, helping)
    elif not acting:
        advice.add("memory", "That is too little to matter: memory sinking is left off.", "memory")
        advice.keys["memory"].update(name="fixed", route="discard")
    elif all(each.benefit.is_below_zero for each in acting.values()):
        worst = ", ".join(f"{name} {_signed(each.benefit)}" for name, each in acting.items())
        advice.add("memory", f"What acts lowers the rewards ({worst} spreads): memory sinking is left off.", "memory")
        advice.keys["memory"].update(name="fixed", route="discard")
    else:
        advice.add(
            "memory",
            "Whether that raises the rewards cannot be told from these prompts, so the memory settings stay.",
        )


def _use(advice: Advice, found: Findings, helping: Mapping[str, Interval]) -> None:
    """The route that raises the rewards most: a sink for more chunks, an EMA that acts, or one beyond the paper."""
    best = max(helping, key=lambda name: helping[name].mean)
    raised = f"{best} raises the rewards by {_signed(helping[best])} spreads"
    gains, losses = ([each[place] for each in found.feedback if math.isfinite(each[place])] for place in (0, 1))
    if best == "append" and gains and losses:
        long, short = float(np.quantile(losses, APPENDED)), float(np.quantile(gains, 1 - APPENDED))
        advice.add("memory", f"{raised}, so thresholds are set that let about a quarter of the chunks open one.")
        advice.keys["memory"] = {
            "name": "reward_feedback",
            "short_threshold": round(min(0.0, short), 3),
            "long_threshold": round(min(0.2, long), 3),
        }
        return
    if best == "append":
        advice.add("memory", f"{raised}, and reward feedback lacks a reward, so every chunk opens one.", "memory")
        advice.keys["memory"] = {"name": "fixed", "route": "append"}
        return
    if not best.startswith("ema "):
        advice.add("memory", f"{raised}, so every chunk that leaves the window takes this route.", "memory")
        advice.keys["memory"] = {"name": "fixed", "route": best}
        return
    decay = float(best.split()[1])
    advice.add("memory", f"{raised}, so chunks that leave the window are averaged into the sink.", "sinks")
    advice.keys["sinks"].update(ema_decay=decay)
    advice.keys["memory"] = {"name": "fixed", "route": "ema"}


def _predict(advice: Advice, found: Findings) -> None:
    """The gain of the advised recipe: that of its width, times what inherited noise adds to it, plus what sinks add."""
    count, noise = advice.keys["search"]["candidates"], advice.keys.get("noise", {})
    sigma, draws = noise.get("sigma", 0.0), noise.get("draws", "initial")
    known = found.score.heritability.get(draws) if found.score else None
    factor = float(np.mean(leads(sigma, known.mean, found.chunks))) if known and sigma else 1.0
    advice.predicted = {name: each.gains[count].times(factor) for name, each in found.rewards.items()}
    if advice.keys.get("memory", {}).get("name") == "fixed" and advice.route in found.routes:
        part = growing(found.chunks, found.routed_from)
        for name, raised in found.routes[advice.route].raised.items():
            advice.predicted[name] = advice.predicted[name].plus(raised.times(part))


def growing(chunks: int, start: int) -> float:
    """The mean over chunks of an effect that grows evenly from nothing before chunk `start` to 1 in the last one."""
    return sum((index - start + 1) / (chunks - start) for index in range(start, chunks)) / chunks


def _signed(values: Interval) -> str:
    return f"{values.mean:+.3g} [{values.low:+.3g}, {values.high:+.3g}]"


def _percent(values: Interval) -> str:
    return f"{values.mean:.1%}" if values.mean >= 0.001 else "less than 0.1%"
