"""Plots of a comparison, as SVG inside its page: matplotlib draws them, the page's style sheet colors them."""

from __future__ import annotations

import html
import math
import re
from functools import partial
from importlib.util import find_spec
from io import StringIO
from statistics import fmean
from typing import TYPE_CHECKING, Any

from streamt1_plugins.compare import drift
from streamt1_plugins.compare.stats import Interval, bootstrap, column, grouped
from streamt1_plugins.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from matplotlib.axes import Axes

INSTALL = "pip install 'streamt1-plugins[compare]'"
COLOURS, DASHES = 8, ("-", (0, (3.5, 2)), (0, (1, 1.5)))
BANDS, DOTS = 3, 12
"""The most recipes whose intervals are drawn as bands by chunk, and the most chunks whose means are drawn as dots."""
APART = 0.03
"""The least distance of two points on the axis of forwards, as a share of it: their intervals stay readable."""

STEPS, TICKS = (1, 2, 5, 10), 14
"""Distances of ticks, times a power of ten, and the most chunks that are numbered."""

VARIABLES = ("soft", "line", "raised", "edge-kept", *(f"c{index}" for index in range(COLOURS + 1)))
INKS = {name: f"#0000{place:02x}" for place, name in enumerate(VARIABLES, start=1)}
"""Colors that matplotlib draws with, by the variables of the style sheet that replace them: one plot, light or dark."""
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "streamt1",
    "font.size": 12,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "axes.labelcolor": INKS["soft"],
    "axes.labelpad": 8,
    "figure.constrained_layout.h_pad": 0,
    "figure.constrained_layout.w_pad": 0,
    "lines.linewidth": 2,
    "lines.markeredgecolor": INKS["raised"],
    "xaxis.labellocation": "right",
}


def require_matplotlib() -> None:
    """Raise `OutputError` with the command that installs matplotlib, where it is missing."""
    if find_spec("matplotlib") is None:
        raise OutputError(
            f"The page of a comparison needs 'matplotlib', which is not installed. Install it with: {INSTALL}"
        )


def family(label: str) -> str:
    """The recipe behind ``name@width``."""
    return label.partition("@")[0]


def groups(labels: Iterable[str]) -> dict[str, list[str]]:
    """The widths of each recipe, by its name; a recipe of one width goes by its whole label."""
    members: dict[str, list[str]] = {}
    for label in labels:
        members.setdefault(family(label), []).append(label)
    return {name if len(own) > 1 else own[0]: own for name, own in members.items()}


def colours(labels: Iterable[str]) -> dict[str, int]:
    """A color by label: the same for all widths of a recipe; 0 is the first recipe's."""
    families = enumerate(groups(labels).values())
    return {label: 1 + (index - 1) % COLOURS if index else 0 for index, own in families for label in own}


def dashes(labels: Iterable[str]) -> dict[str, int]:
    """An index of `DASHES` by label: the last width of a recipe has a solid line, those before it others."""
    return {label: index % len(DASHES) for own in groups(labels).values() for index, label in enumerate(own[::-1])}


def scaling(found: Mapping[str, Any], metric: str) -> str:
    """A metric against transformer forwards, on a logarithmic axis; empty without a single value."""
    entries = {label: each for label, each in found["recipes"].items() if each["metrics"][metric]}
    if not entries:
        return ""
    costs = {label: each["cost"]["forwards"] for label, each in entries.items()}
    means = {label: each["metrics"][metric]["mean"] for label, each in entries.items()}
    places, colour = side_by_side(costs), colours(found["recipes"])

    def draw(axes: Axes) -> None:
        written = ticks(costs.values(), places.values())
        axes.set_xlabel("forwards per video, logarithmic")
        axes.set_xticks([*written], [*written.values()])
        axes.set_xlim(*_with_room(places.values()))
        for labels in groups(entries).values():
            ordered, ink = sorted(labels, key=places.__getitem__), INKS[f"c{colour[labels[0]]}"]
            axes.plot([places[label] for label in ordered], [means[label]["mean"] for label in ordered], color=ink)
            for label in ordered:
                x, mean = places[label], means[label]
                axes.plot((x, x), (mean["low"], mean["high"]), color=ink, linewidth=1.5)
                text = f"{label}: {mean['mean']:.3f} [{mean['low']:.3f}, {mean['high']:.3f}], {costs[label]:g} forwards"
                axes.plot(x, mean["mean"], "o", color=ink, markersize=11, gid=_tooltip(text))

    return _svg(draw)


def by_chunk(rows: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> str:
    """The judge's score of every chunk; empty where it does not score single chunks."""
    chunks = {drift.number_of(chunk): chunk for chunk in drift.chunks(rows)}
    means = {label: _means(rows, label, chunks) for label in labels}
    if len(chunks) < 2 or not any(means.values()):
        return ""
    colour, dash = colours(labels), dashes(labels)

    def draw(axes: Axes) -> None:
        axes.set_xlabel("chunk")
        axes.set_xticks([*chunks][:: math.ceil(len(chunks) / TICKS)])
        axes.set_xlim(min(chunks), max(chunks))
        for label, own in means.items():
            ink = INKS[f"c{colour[label]}"]
            if len(labels) <= BANDS:
                low, high = [mean.low for mean in own.values()], [mean.high for mean in own.values()]
                axes.fill_between([*own], low, high, color=ink, alpha=0.13, linewidth=0)
            axes.plot([*own], [mean.mean for mean in own.values()], color=ink, linestyle=DASHES[dash[label]])
            for number, mean in own.items():
                text = f"{label}, chunk {number}: {mean.mean:.3f}"
                alpha = 1 if len(chunks) <= DOTS else 0
                axes.plot(
                    number, mean.mean, "o", color=ink, markersize=7, alpha=alpha, clip_on=False, gid=_tooltip(text)
                )

    return _svg(draw)


def gains(found: Mapping[str, Any], metric: str) -> dict[str, str]:
    """The gain of each recipe with its interval, all on the same axis, with a line at zero."""
    each = {label: entry["metrics"][metric] for label, entry in found["recipes"].items()}
    known = {label: value["gain"] for label, value in each.items() if value and value["gain"]}
    ends = [0.0, *(gain[end] for gain in known.values() for end in ("low", "high"))]

    def draw(axes: Axes, gain: Mapping[str, float], ink: str) -> None:
        axes.set_axis_off()
        axes.set_xlim(*_with_room(ends))
        axes.axvline(0, color=INKS["edge-kept"], linewidth=1)
        axes.plot((gain["low"], gain["high"]), (0, 0), color=ink)
        axes.plot(gain["mean"], 0, "o", color=ink, markersize=9, markeredgewidth=0)

    inks = {label: INKS[f"c{colour}"] for label, colour in colours(found["recipes"]).items()}
    return {label: _svg(partial(draw, gain=gain, ink=inks[label]), 170, 20) for label, gain in known.items()}


def side_by_side(costs: Mapping[str, float]) -> dict[str, float]:
    """Logarithms of the costs: those too close to each other are moved apart around their middle."""
    exact = {label: math.log(max(cost, 1)) for label, cost in costs.items()}
    apart = APART * ((max(exact.values()) - min(exact.values())) or 1.0)

    def placed(crowd: Sequence[str]) -> list[float]:
        first = fmean(exact[label] for label in crowd) - (len(crowd) - 1) / 2 * apart
        return [first + place * apart for place in range(len(crowd))]

    crowds: list[list[str]] = []
    for label in sorted(exact, key=exact.__getitem__):
        crowd = [label]
        while crowds and placed(crowd)[0] - placed(crowds[-1])[-1] < apart:
            crowd = crowds.pop() + crowd
        crowds.append(crowd)
    return {label: place for crowd in crowds for label, place in zip(crowd, placed(crowd), strict=True)}


def ticks(costs: Iterable[float], places: Collection[float]) -> dict[float, str]:
    """The costs to write on the axis, by their place; those that would touch the one before are left out."""
    room = 2.3 * APART * ((max(places) - min(places)) or 1.0)
    found: dict[float, str] = {}
    for cost in sorted(set(costs)):
        place = math.log(max(cost, 1))
        if not found or place - max(found) >= room:
            found[place] = f"{cost:g}"
    return found


def _means(rows: Sequence[Mapping[str, Any]], label: str, chunks: Mapping[int, str]) -> dict[int, Interval]:
    values = {number: grouped(column(rows, label, chunk)) for number, chunk in chunks.items()}
    return {number: bootstrap(value) for number, value in values.items() if value}


def _with_room(values: Collection[float]) -> tuple[float, float]:
    room = 0.06 * ((max(values) - min(values)) or 1.0)
    return min(values) - room, max(values) + room


def _tooltip(text: str) -> str:
    """The id of an element that `_svg` gives this tooltip. Without quotes, whose escape depends on matplotlib."""
    return f"tooltip:{html.escape(text)}"


def _svg(draw: Callable[[Axes], None], width: int = 640, height: int = 320) -> str:
    """What `draw` puts on the axes; the same text on every call."""
    from matplotlib import style
    from matplotlib.figure import Figure

    file = StringIO()
    with style.context(["default", STYLE]):
        figure = Figure((width / 72, height / 72), frameon=False, layout="constrained")
        axes = figure.add_subplot(frameon=False)
        draw(axes)
        _scale_heights(axes)
        figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    drawn = file.getvalue()[file.getvalue().index("<svg") :]
    names = {ink: f"var(--{name})" for name, ink in INKS.items()}
    coloured = re.sub("|".join(names), lambda ink: names[ink[0]], drawn)
    titled = re.sub('<g id="tooltip:([^"]*)">', lambda group: f"<g><title>{html.unescape(group[1])}</title>", coloured)
    return re.sub('<g id="[^"]*"', "<g", titled)  # the plots of a page repeat these ids


def _scale_heights(axes: Axes) -> None:
    """Draw a line at every tick of the vertical axis, which begins and ends with one."""
    from matplotlib.ticker import MaxNLocator

    heights = MaxNLocator(8, steps=STEPS).tick_values(*axes.dataLim.intervaly)
    axes.set_yticks(heights)
    axes.set_ylim(heights[0], heights[-1])
    axes.tick_params(length=0, pad=8, labelcolor=INKS["soft"])
    axes.grid(axis="y", color=INKS["line"], linewidth=1)
