"""Plots of a probe, as SVG inside its page, in the style of a comparison's plots."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from streamt1_plugins.compare.plots import COLOURS, DRAWN, INKS, new_axes, to_svg, tooltip

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

    from streamt1_plugins.compare.stats import Interval
    from streamt1_plugins.probe.findings import Findings

ROW = 34  # points of height per row of a plot with names along the side
FEW_COLOURS = {name: index for index, name in enumerate(("first", "later"))}


def colours(names: Sequence[str]) -> dict[str, int]:
    """A color by reward."""
    return {name: 1 + index % COLOURS for index, name in enumerate(names)}


@DRAWN
def shares(found: Findings) -> str:
    """The share of a chunk's variance by group of draws, for the first chunk and for later ones; empty without any."""
    names = list(dict.fromkeys([*found.shares["first"], *found.shares["later"]]))
    if not names:
        return ""
    axes = _rows(names, "share of a chunk's variance")
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.set_xlim(0, 1.02)
    axes.set_xticks((0, 0.25, 0.5, 0.75, 1))
    for place, name in enumerate(names):
        for part, aside in (("first", -0.16), ("later", 0.16)):
            if name in found.shares[part]:
                share = found.shares[part][name]
                text = f"{name}, {part}: {share.mean:.2%} [{share.low:.2%}, {share.high:.2%}]"
                bar = axes.barh(place + aside, share.mean, 0.3, color=INKS[f"c{FEW_COLOURS[part]}"])
                bar[0].set_gid(tooltip(text))
    return to_svg(axes)


@DRAWN
def gains(found: Findings) -> str:
    """The expected gain of each reward by candidates per chunk, in spreads of the reward; empty without rewards."""
    rewards = {name: each for name, each in found.rewards.items() if each.spread > 0}
    if not rewards:
        return ""
    axes, colour = new_axes(), colours(list(found.rewards))
    axes.set_xlabel("candidates per chunk, logarithmic")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.axhline(0, color=INKS["edge-kept"], linewidth=1)
    for name, each in rewards.items():
        ink = INKS[f"c{colour[name]}"]
        known = {count: gain.times(1 / each.spread) for count, gain in each.gains.items() if gain.prompts}
        axes.fill_between([*known], *_ends(known), color=ink, alpha=0.13, linewidth=0)
        axes.plot([*known], [gain.mean for gain in known.values()], color=ink)
        for count, gain in known.items():
            text = f"{name}, {count} candidates: {_text(gain)} spreads"
            axes.plot(count, gain.mean, "o", color=ink, markersize=7, gid=tooltip(text))
        axes.set_xticks([*known], minor=False)
    axes.minorticks_off()
    return to_svg(axes)


@DRAWN
def heritability(found: Findings) -> str:
    """How the readings of successive chunks correlate where noise is reused; empty where no noise was."""
    every = {**({"score": found.score} if found.score else {}), **found.rewards}
    known = {
        (name, draws): value
        for name, each in every.items()
        for draws, value in each.heritability.items()
        if value.prompts
    }
    if not known:
        return ""
    colour = {"score": 0, **colours(list(found.rewards))}
    axes = _rows([f"{name}, {draws}" for name, draws in known], "rank correlation with the next chunk")
    axes.set_xlim(-1.05, 1.05)
    axes.set_xticks((-1, -0.5, 0, 0.5, 1))
    _intervals(axes, {f"{name}, {draws}": (value, colour[name]) for (name, draws), value in known.items()})
    return to_svg(axes)


@DRAWN
def routes(found: Findings) -> str:
    """How far each route of the memory moves the next chunk; empty where no route was measured."""
    if not found.routes:
        return ""
    axes = _rows(list(found.routes), "distances between two candidates")
    axes.locator_params(axis="x", nbins=5)
    _intervals(axes, {name: (each.effect, 1) for name, each in found.routes.items()})
    return to_svg(axes)


@DRAWN
def levels(found: Findings) -> str:
    """The mean reading by chunk, of a plain run and where the best is kept, in spreads over the first plain chunk."""
    rewards = {name: each for name, each in found.rewards.items() if each.spread > 0}
    if not rewards or found.chunks < 2:
        return ""
    axes, colour = new_axes(), colours(list(found.rewards))
    axes.set_xlabel("chunk")
    axes.locator_params(axis="x", integer=True)
    for name, each in rewards.items():
        ink, start = INKS[f"c{colour[name]}"], each.levels["plain"][0]
        for walk, dash in (("plain", (0, (1, 1.5))), ("best", "-")):
            values = [(value - start) / each.spread for value in each.levels[walk]]
            axes.plot(range(len(values)), values, color=ink, linestyle=dash)
            for chunk, value in enumerate(values):
                text = f"{name}, {walk}, chunk {chunk}: {value:+.2f}"
                axes.plot(chunk, value, "o", color=ink, markersize=5, gid=tooltip(text))
    return to_svg(axes)


def _rows(names: Sequence[str], label: str) -> Axes:
    """Axes with a row per name, the first one on top."""
    axes = new_axes(640, 64 + ROW * len(names))
    axes.grid(visible=False, axis="y")
    axes.grid(axis="x", color=INKS["line"], linewidth=1)
    axes.set_axisbelow(True)
    axes.set_yticks(range(len(names)), [name.replace("$", r"\$") for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(label)
    return axes


def _intervals(axes: Axes, values: Mapping[str, tuple[Interval, int]]) -> None:
    """A point with its interval in every row, and a line at zero."""
    axes.axvline(0, color=INKS["edge-kept"], linewidth=1)
    for place, (name, (value, colour)) in enumerate(values.items()):
        ink = INKS[f"c{colour}"]
        if math.isfinite(value.mean):
            axes.hlines(place, value.low, value.high, color=ink)
            axes.plot(value.mean, place, "o", color=ink, markersize=8, gid=tooltip(f"{name}: {_text(value)}"))


def _ends(values: Mapping[int, Interval]) -> tuple[list[float], list[float]]:
    return [each.low for each in values.values()], [each.high for each in values.values()]


def _text(value: Interval) -> str:
    return f"{value.mean:+.3g} [{value.low:+.3g}, {value.high:+.3g}]"
