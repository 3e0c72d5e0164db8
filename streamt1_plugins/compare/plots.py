"""Plots of a comparison, as SVG inside its page: matplotlib draws them, the page's style sheet colors them."""

from __future__ import annotations

import html
import re
from io import StringIO
from typing import TYPE_CHECKING, Any

from streamt1_plugins.compare import drift
from streamt1_plugins.compare.stats import bootstrap, column, grouped
from streamt1_plugins.errors import needs_extra

with needs_extra("compare", "A page with plots"):
    from matplotlib import style
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator
    from matplotlib.transforms import ScaledTranslation

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from matplotlib.axes import Axes

COLOURS, DASHES = 8, ("-", (0, (3.5, 2)), (0, (1, 1.5)))
BANDS = 3  # the most recipes whose intervals are drawn as bands by chunk
ASIDE = 6  # points between the intervals of two recipes at the same cost

INKS = {
    name: f"#0000{place:02x}"
    for place, name in enumerate(("soft", "line", "raised", "edge-kept", *(f"c{i}" for i in range(COLOURS + 1))), 1)
}
"""Colors that matplotlib draws with, by the variables of the style sheet that replace them: one plot, light or dark."""
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "streamt1",
    "font.size": 12,
    "axes.formatter.useoffset": False,
    "axes.labelcolor": INKS["soft"],
    "lines.markeredgecolor": INKS["raised"],
    "xaxis.labellocation": "right",
}
DRAWN = style.context(["default", STYLE])
"""Decorator of the functions that draw: their plots do not depend on matplotlib's settings, and leave them alone."""


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


@DRAWN
def scaling(found: Mapping[str, Any], metric: str) -> str:
    """A metric against transformer forwards, on a logarithmic axis; empty without a single value."""
    means = {label: e["metrics"][metric]["mean"] for label, e in found["recipes"].items() if e["metrics"][metric]}
    costs = {label: found["recipes"][label]["cost"]["forwards"] for label in means}
    families, colour = sorted(groups(means).values(), key=lambda own: costs[own[0]]), colours(found["recipes"])
    axes = new_axes()
    axes.set_xlabel("forwards per video, logarithmic")
    axes.set_xscale("log")
    axes.xaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}", minor_locator=NullLocator())
    axes.update_datalim([(costs[label], mean[end]) for label, mean in means.items() for end in ("low", "high")])
    axes.margins(x=0.1)
    for place, labels in enumerate(families):
        inches = ASIDE / 72 * (place - (len(families) - 1) / 2)
        aside = axes.transData + ScaledTranslation(inches, 0, axes.figure.dpi_scale_trans)
        own: dict[str, Any] = {"color": INKS[f"c{colour[labels[0]]}"], "transform": aside}
        ordered = sorted(labels, key=costs.__getitem__)
        axes.plot([costs[label] for label in ordered], [means[label]["mean"] for label in ordered], **own)
        for label in ordered:
            mean, low, high = (means[label][key] for key in ("mean", "low", "high"))
            axes.vlines(costs[label], low, high, **own)
            text = f"{label}: {mean:.3f} [{low:.3f}, {high:.3f}], {costs[label]:g} forwards"
            axes.plot(costs[label], mean, "o", markersize=7, gid=tooltip(text), **own)
    return to_svg(axes) if means else ""


@DRAWN
def by_chunk(rows: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> str:
    """The judge's score of every chunk; empty where it does not score single chunks."""
    chunks = {drift.number_of(chunk): chunk for chunk in drift.chunks(rows)}
    values = {(label, n): grouped(column(rows, label, chunks[n])) for label in labels for n in chunks}
    known = {key: bootstrap(value) for key, value in values.items() if value}
    colour, dash = colours(labels), dashes(labels)
    axes = new_axes()
    axes.set_xlabel("chunk")
    axes.locator_params(axis="x", integer=True)
    axes.margins(x=0.02)
    for label in labels:
        own = {number: known[label, number] for number in chunks if (label, number) in known}
        ink = INKS[f"c{colour[label]}"]
        if len(labels) <= BANDS:
            low, high = [mean.low for mean in own.values()], [mean.high for mean in own.values()]
            axes.fill_between([*own], low, high, color=ink, alpha=0.13, linewidth=0)
        axes.plot([*own], [mean.mean for mean in own.values()], color=ink, linestyle=DASHES[dash[label]])
        for number, mean in own.items():
            text = f"{label}, chunk {number}: {mean.mean:.3f}"
            axes.plot(number, mean.mean, "o", color=ink, markersize=5, gid=tooltip(text))
    return to_svg(axes) if len(chunks) > 1 and known else ""


@DRAWN
def gains(found: Mapping[str, Any], metric: str) -> dict[str, str]:
    """The gain of each recipe with its interval, all on the same axis, with a line at zero."""
    each = {label: entry["metrics"][metric] for label, entry in found["recipes"].items()}
    known = {label: value["gain"] for label, value in each.items() if value and value["gain"]}
    ends = [0.0, *(gain[end] for gain in known.values() for end in ("low", "high"))]
    colour, drawn = colours(found["recipes"]), {}
    for label, gain in known.items():
        axes, ink = new_axes(170, 20), INKS[f"c{colour[label]}"]
        axes.set_axis_off()
        axes.plot(ends, [0] * len(ends), linestyle="none")  # the axis holds every recipe's interval
        axes.axvline(0, color=INKS["edge-kept"], linewidth=1)
        axes.hlines(0, gain["low"], gain["high"], color=ink)
        axes.plot(gain["mean"], 0, "o", color=ink, markersize=9, markeredgewidth=0)
        drawn[label] = to_svg(axes)
    return drawn


def tooltip(text: str) -> str:
    """The id of an element that `to_svg` gives this tooltip. Without quotes, whose escape depends on matplotlib."""
    return f"tooltip:{html.escape(text)}"


def new_axes(width: int = 640, height: int = 320) -> Axes:
    """Axes of that many points, without a frame."""
    axes = Figure((width / 72, height / 72), frameon=False, layout="constrained").add_subplot(frameon=False)
    axes.tick_params(length=0, pad=8, labelcolor=INKS["soft"])
    axes.grid(axis="y", color=INKS["line"], linewidth=1)
    return axes


def to_svg(axes: Axes) -> str:
    """The plot as SVG with the style sheet's colors; the same text on every call."""
    file = StringIO()
    axes.figure.canvas.print_figure(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    drawn = file.getvalue()[file.getvalue().index("<svg") :]
    names = {ink: f"var(--{name})" for name, ink in INKS.items()}
    coloured = re.sub("|".join(names), lambda ink: names[ink[0]], drawn)
    titled = re.sub('<g id="tooltip:([^"]*)">', lambda group: f"<g><title>{html.unescape(group[1])}</title>", coloured)
    return re.sub('<g id="[^"]*"', "<g", titled)  # the plots of a page repeat these ids
