"""Where points, lines and axes stand in the page's plots, in the units of their SVG."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from streamt1_plugins.compare import drift
from streamt1_plugins.compare.stats import Interval, bootstrap, column, grouped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 48, 16, 14, 42
APART = 15
"""Points of nearly the same cost are drawn this far apart, so that their intervals can be told apart."""
TICK_ROOM = 34
COLOURS = 8
DASHES = 3
"""How many widths of a recipe can be told apart by how their lines are drawn."""


@dataclass(frozen=True)
class Point:
    """A mean at `x`, `y` with its interval from `low` to `high`; `text` is shown when pointed at."""

    x: float
    y: float
    low: float
    high: float
    text: str


@dataclass(frozen=True)
class Series:
    """Points of one colour and the line through them; `band` is the area of their intervals.

    dash: how the line is drawn, 0 for a solid one.
    """

    name: str
    colour: int
    points: tuple[Point, ...]
    dash: int = 0

    @property
    def line(self) -> str:
        return _path((point.x, point.y) for point in self.points) if len(self.points) > 1 else ""

    @property
    def band(self) -> str:
        edge = [(point.x, point.high) for point in self.points] + [(p.x, p.low) for p in reversed(self.points)]
        return f"{_path(edge)}Z"


@dataclass(frozen=True)
class Plot:
    """Series and the ticks of both axes: (place, text)."""

    series: tuple[Series, ...]
    columns: tuple[tuple[float, str], ...]
    rows: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Bar:
    """A gain and its interval on a line of 100 units, with the place of zero."""

    zero: float
    low: float
    mean: float
    high: float


def family(label: str) -> str:
    """The recipe behind ``name@width``."""
    return label.partition("@")[0]


def colours(labels: Iterable[str]) -> dict[str, int]:
    """A colour by label: the same for all widths of a recipe; 0 is the first recipe's."""
    families = {name: index for index, name in enumerate(dict.fromkeys(map(family, labels)))}
    return {label: 1 + (families[family(label)] - 1) % COLOURS if families[family(label)] else 0 for label in labels}


def dashes(labels: Sequence[str]) -> dict[str, int]:
    """How a line is drawn, by label: solid for the last width of a recipe, and those before it in other ways."""
    members = {label: [each for each in labels if family(each) == family(label)] for label in labels}
    return {label: (len(own) - 1 - own.index(label)) % DASHES for label, own in members.items()}


def scaling(found: Mapping[str, Any], metric: str) -> Plot | None:
    """A metric against transformer forwards, on a logarithmic axis; None without a single value."""
    entries = {label: each for label, each in found["recipes"].items() if each["metrics"][metric]}
    if not entries:
        return None
    costs = {label: each["cost"]["forwards"] for label, each in entries.items()}
    means = {label: each["metrics"][metric]["mean"] for label, each in entries.items()}
    at = _logarithmic(min(costs.values()), max(costs.values()))
    places = _apart({label: at(cost) for label, cost in costs.items()})
    up, rows = _upwards([value[end] for value in means.values() for end in ("low", "high")])
    points = {
        label: Point(places[label], up(m["mean"]), up(m["low"]), up(m["high"]), f"{label}: {_told(m)}")
        for label, m in means.items()
    }
    columns = _thinned([(at(cost), f"{cost:g}") for cost in sorted(set(costs.values()))])
    return Plot(_series(points), tuple(columns), rows)


def by_chunk(rows: Sequence[Mapping[str, Any]], labels: Sequence[str], bands: bool = True) -> Plot | None:
    """The judge's score of every chunk; None where it tells nothing of single chunks.

    bands: whether intervals are going to be drawn and need room.
    """
    chunks = drift.chunks(rows)
    if len(chunks) < 2:
        return None
    means = {(label, chunk): _mean(rows, label, chunk) for label in labels for chunk in chunks}
    known = [mean for mean in means.values() if mean]
    up, ticks = _upwards([end for mean in known for end in ((mean.low, mean.high) if bands else (mean.mean,))])
    step = (WIDTH - LEFT - RIGHT) / (len(chunks) - 1)
    series = tuple(
        Series(
            label,
            colour,
            tuple(
                Point(LEFT + i * step, up(mean.mean), up(mean.low), up(mean.high), f"{label}, chunk {i + 1}")
                for i, chunk in enumerate(chunks)
                if (mean := means[label, chunk])
            ),
            dashes(labels)[label],
        )
        for label, colour in colours(labels).items()
    )
    columns = _thinned([(LEFT + i * step, str(i + 1)) for i in range(len(chunks))])
    return Plot(series, tuple(columns), ticks)


def gains(found: Mapping[str, Any], metric: str) -> dict[str, Bar]:
    """The gains of a metric on one common line."""
    each = {label: entry["metrics"][metric] for label, entry in found["recipes"].items()}
    known = {label: value["gain"] for label, value in each.items() if value and value["gain"]}
    low: float = min([0.0, *(gain["low"] for gain in known.values())])
    high: float = max([0.0, *(gain["high"] for gain in known.values())])
    room = (high - low) or 1.0

    def at(value: float) -> float:
        return round(4 + 92 * (value - low) / room, 2)

    return {label: Bar(at(0.0), at(gain["low"]), at(gain["mean"]), at(gain["high"])) for label, gain in known.items()}


def _mean(rows: Sequence[Mapping[str, Any]], label: str, chunk: str) -> Interval | None:
    values = grouped(column(rows, label, chunk))
    return bootstrap(values) if values else None


def _told(mean: Mapping[str, float]) -> str:
    return f"{mean['mean']:.3f} [{mean['low']:.3f}, {mean['high']:.3f}]"


def _series(points: Mapping[str, Point]) -> tuple[Series, ...]:
    colour = colours(points)
    names = dict.fromkeys(map(family, points))
    members = {name: [label for label in points if family(label) == name] for name in names}
    return tuple(
        Series(
            name if len(labels) > 1 else labels[0],
            colour[labels[0]],
            tuple(sorted((points[label] for label in labels), key=lambda point: point.x)),
        )
        for name, labels in members.items()
    )


def _logarithmic(low: float, high: float) -> Callable[[float], float]:
    low, high = math.log(max(low, 1)), math.log(max(high, 1))
    inner = 2 * APART

    def at(value: float) -> float:
        share = (math.log(max(value, 1)) - low) / (high - low) if high > low else 0.5
        return round(LEFT + inner + share * (WIDTH - LEFT - RIGHT - 2 * inner), 2)

    return at


def _upwards(values: Sequence[float]) -> tuple[Callable[[float], float], tuple[tuple[float, str], ...]]:
    """From a value to its height, and the ticks between the lowest and the highest."""
    low, high = min(values), max(values)
    step = _step((high - low) or 1.0)
    low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    high = high if high > low else low + step

    def up(value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 2)

    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    ticks = [low + i * step for i in range(round((high - low) / step) + 1)]
    return up, tuple((up(tick), f"{tick:.{digits}f}") for tick in ticks)


def _step(room: float) -> float:
    """A round distance of ticks that gives four to eight of them."""
    power: float = 10.0 ** math.floor(math.log10(room / 4))
    return next(power * each for each in (1, 2, 5, 10) if room / (power * each) <= 8)


def _apart(places: Mapping[str, float]) -> dict[str, float]:
    """The places, those too close to each other moved apart around their middle."""
    ordered = sorted(places, key=lambda label: places[label])
    gaps = [i for i in range(1, len(ordered)) if places[ordered[i]] - places[ordered[i - 1]] >= APART]
    found: dict[str, float] = {}
    for _, group in groupby(range(len(ordered)), key=lambda i: sum(gap <= i for gap in gaps)):
        names = [ordered[i] for i in group]
        middle = sum(places[name] for name in names) / len(names)
        found |= {name: round(middle + (i - (len(names) - 1) / 2) * APART, 2) for i, name in enumerate(names)}
    return found


def _thinned(ticks: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """The ticks without those that would touch the one before."""
    kept: list[tuple[float, str]] = []
    for tick in ticks:
        if not kept or tick[0] - kept[-1][0] >= TICK_ROOM:
            kept.append(tick)
    return kept


def _path(points: Iterable[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
