"""Measures one prompt: candidates along two walks, exchanged draws, inherited noise, and the routes of the memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from time import perf_counter
from typing import TYPE_CHECKING, Any

from streamt1_plugins.api.candidate import Beam
from streamt1_plugins.api.noise import draws_of
from streamt1_plugins.errors import InputError
from streamt1_plugins.policies.memory import feedback
from streamt1_plugins.policies.noise import inherited
from streamt1_plugins.probe.bench import SCORE, Bench, Noise, Values, opened, values
from streamt1_plugins.probe.formulas import distance

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from torch import Tensor

    from streamt1_plugins.api.candidate import Candidate
    from streamt1_plugins.api.types import Chunk, Draws, MemoryRoute
    from streamt1_plugins.config.schema import MemoryPlan
    from streamt1_plugins.pipeline import StreamPipeline

FEW_DRAWS = 6  # draws that are measured one by one; more of them are measured in two halves
INHERITED = 10**6
"""Added to seeds of the fresh draws that go with inherited ones, so that no candidate shares them."""

Row = dict[str, Any]
OnProgress = Callable[[float], None]
"""Called with the share of a prompt's measurements that is done, 0..1."""


@dataclass(frozen=True)
class ProbeOptions:
    """How much a probe measures.

    candidates: per chunk. pairs: of candidates that exchange single draws. chunks: measured from the first one, more
    where the memory window needs them, fewer where the video ends. decays: of the EMA sink.
    """

    candidates: int = 8
    pairs: int = 3
    chunks: int = 6
    decays: tuple[float, ...] = (0.999, 0.9, 0.5)

    def __post_init__(self) -> None:
        """Raise `InputError` for a number out of range."""
        for name, (least, most) in {"candidates": (4, 64), "pairs": (1, 63), "chunks": (2, 10_000)}.items():
            value = getattr(self, name)
            if not isinstance(value, int) or not least <= value <= most:
                raise InputError(f"A probe's {name} = {value!r}: expected a number from {least} to {most}.")
        if not all(0 <= decay <= 1 for decay in self.decays):
            raise InputError(f"A probe's decays = {self.decays!r}: expected numbers from 0 to 1.")


@dataclass(frozen=True)
class Measurement:
    """What a prompt is measured with."""

    pipe: StreamPipeline
    prompt: str
    seed: int
    call: Mapping[str, Any]
    options: ProbeOptions

    def opened(self) -> AbstractContextManager[Bench]:
        """A bench for the prompt."""
        return opened(self.pipe, self.prompt, self.seed, self.call)

    def seeds(self, chunk: int) -> list[int]:
        """The seeds of a chunk's candidates, the same on every walk."""
        return [self.seed + 1000 * (1 + chunk) + index for index in range(self.options.candidates)]


def probe_prompt(measurement: Measurement, progress: OnProgress = lambda done: None) -> Row:
    """All measurements of one prompt, as plain data."""
    start, plan = perf_counter(), measurement.pipe.recipe.sinks
    with measurement.opened() as bench:
        session = bench.session
        chunks = list(bench.run.chunks())[: max(measurement.options.chunks, _beyond(plan) + 2)]
        walk = _walk(bench, measurement, chunks, lambda done: progress(0.6 * done))
        plain = _plain_walk(bench, measurement, chunks, walk[0]) if len(chunks) > 1 else []
        found = {"session": _facts(bench), "chunks": walk, "plain": [each for each, _ in plain]}
        forwards, routes = session.forwards, session.capabilities.routes
    progress(0.8)
    memory = None
    if len(routes) > 1 and len(chunks) > _beyond(plan):
        memory = _routes(measurement, chunks, [latents for _, latents in plain])
    progress(1.0)
    row = {"prompt": measurement.prompt, "seed": measurement.seed, **found, "memory": memory}
    return {**row, "forwards": forwards, "seconds": round(perf_counter() - start, 2)}


def _beyond(plan: MemoryPlan) -> int:
    """How many chunks are committed before one of them has left the memory window, and taken its route."""
    return plan.sink_chunks + plan.window_chunks


def _facts(bench: Bench) -> Row:
    """What this family of pipelines lets a probe measure."""
    capabilities, root = bench.session.capabilities, bench.root()
    draws = draws_of(bench.noise(root, 0).value).shape[1]
    known: Row = {"draws": draws, "hidden_draws": draws == 1 and capabilities.stochastic_steps}
    known["routed_from"] = _beyond(bench.run.recipe.sinks)
    return {**known, "routes": sorted(capabilities.routes), "video_chunks": bench.session.num_chunks}


def _walk(bench: Bench, measurement: Measurement, chunks: Sequence[Chunk], progress: OnProgress) -> list[Row]:
    """Measure chunk after chunk; the best candidate of each is committed, as in a search."""
    beam, before = bench.root(), None
    rows = []
    for place, chunk in enumerate(chunks):
        noises = [bench.noise(beam, seed) for seed in measurement.seeds(chunk.index)]
        judged = bench.judged(bench.made(chunk, beam, noises))
        row: Row = {"index": chunk.index, "values": values(judged)}
        if problem := next((each.problem for each in judged if each.problem), None):
            row["problem"] = problem
        row["distance"] = [distance(a.latents, b.latents) for a, b in pairwise(judged)]
        if again := _repeated(bench, judged, row["values"]):
            row["repeated"] = again
        if place in (0, 1, len(chunks) - 1):
            row["shares"] = _exchanged(bench, measurement, chunk, beam, judged)
        if before is not None:
            row["inherited"] = _inherited(bench, chunk, beam, before, measurement.seeds(chunk.index))
        for each in judged:
            bench.run.tree.add(each.node())
        best = judged[_best(row["values"].get(SCORE, ()))]
        if beam.path:
            row["feedback"] = _feedback(bench, best)
        rows.append(row)
        if place + 1 < len(chunks):
            beam, before = bench.search.commit(best), noises
        progress((place + 1) / len(chunks))
    return rows


def _best(scores: Sequence[float]) -> int:
    known = [index for index, score in enumerate(scores) if math.isfinite(score)]
    return max(known, key=lambda index: scores[index], default=0)


def _feedback(bench: Bench, best: Candidate) -> list[float]:
    """What reward feedback compares with its thresholds: (gain, loss) in calibrated units."""
    window = max(1, bench.run.recipe.rewards.window - 1)
    return list(feedback(best.beam.path, best, window))


def _repeated(bench: Bench, judged: Sequence[Candidate], first: Values) -> Values | None:
    """Second readings of all candidates, None where they repeat the first ones (which one candidate shows)."""
    if not first:
        return None
    once = bench.read_again(judged[:1])
    pairs = [(named[0], first[name][0]) for name, named in once.items() if name in first and name != SCORE]
    if all(math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-9) or (math.isnan(a) and math.isnan(b)) for a, b in pairs):
        return None
    return bench.read_again(judged)


def _exchanged(
    bench: Bench, measurement: Measurement, chunk: Chunk, beam: Beam, candidates: Sequence[Candidate]
) -> dict[str, list[float]]:
    """By group of draws: distances between a candidate and one that differs from it in that group alone."""
    found: dict[str, list[float]] = {}
    seeds = measurement.seeds(chunk.index)
    for first, second in list(pairwise(range(len(candidates))))[: measurement.options.pairs]:
        for name, noise in _exchanges(bench, beam, seeds[first], seeds[second]).items():
            changed = bench.made(chunk, beam, [noise])[0]
            found.setdefault(name, []).append(distance(candidates[first].latents, changed.latents))
    return found


def _exchanges(bench: Bench, beam: Beam, first: int, second: int) -> dict[str, Noise]:
    """By group of draws: the noise of one seed, with that group from another one."""
    found, other = {}, bench.noise(beam, second)
    draws = draws_of(other.value).shape[1]
    for name, places in groups(draws).items():
        own = bench.noise(beam, first)
        mixed = draws_of(own.value).clone()
        mixed[:, places] = draws_of(other.value)[:, places]
        found[name] = Noise(mixed.view_as(own.value), own.generator)
    if draws == 1 and bench.session.capabilities.stochastic_steps:
        found["later"] = Noise(bench.noise(beam, first).value, other.generator)
    return found


def groups(draws: int) -> dict[str, list[int]]:
    """The draws of a chunk by name: the initial noise, and the draws of later steps, one by one or in halves."""
    later = list(range(1, draws))
    if draws <= FEW_DRAWS:
        return {"initial": [0], **{f"step {each + 1}": [each] for each in later}}
    half = draws // 2
    return {"initial": [0], f"steps 2-{half}": later[: half - 1], f"steps {half + 1}-{draws}": later[half - 1 :]}


def _inherited(
    bench: Bench, chunk: Chunk, beam: Beam, before: Sequence[Noise], seeds: Sequence[int]
) -> dict[str, Values]:
    """Readings of candidates with the noises of the chunk before: `initial` noise alone, and `all` draws.

    Empty for a chunk of another length, which cannot take that noise.
    """
    found: dict[str, Values] = {}
    kinds: tuple[Draws, ...] = ("initial", "all") if draws_of(before[0].value).shape[1] > 1 else ("initial",)
    for draws in kinds:
        noises = []
        for index, parent in enumerate(before):
            fresh = bench.noise(beam, seeds[index] + INHERITED)
            mixed = inherited(parent.value, fresh.value, 1.0, draws)
            if mixed is None:
                return {}
            noises.append(Noise(mixed, fresh.generator))
        found[draws] = values(bench.judged(bench.made(chunk, beam, noises)))
    return found


def _plain_walk(
    bench: Bench, measurement: Measurement, chunks: Sequence[Chunk], first: Row
) -> list[tuple[Values, Tensor]]:
    """Readings of each chunk's candidates, and the latents of the first of them, which is committed: a plain run."""
    beam = bench.root()
    found = []
    for place, chunk in enumerate(chunks):
        seeds = measurement.seeds(chunk.index)
        noises = [bench.noise(beam, seed) for seed in (seeds if place else seeds[:1])]
        judged = bench.judged(bench.made(chunk, beam, noises))
        found.append((values(judged) if place else first["values"], judged[0].latents))
        if place + 1 < len(chunks):
            beam = bench.search.commit(judged[0])
    return found


def _routes(measurement: Measurement, chunks: Sequence[Chunk], latents: Sequence[Tensor]) -> Row:
    """What each route of a plain walk's chunks does to the candidates of the next one, their noises being the same."""
    plan, made = measurement.pipe.recipe.sinks, {}
    found: dict[str, Row] = {}
    for decay in dict.fromkeys((plan.ema_decay, *measurement.options.decays)):
        with _decaying(measurement.pipe, decay), measurement.opened() as bench:
            for route in _in_order(bench.session.capabilities.routes):
                name = f"ema {decay:g}" if route == "ema" else route
                if name not in found:
                    candidates = _after(bench, measurement, chunks, latents, route)
                    made[name] = [each.latents for each in candidates]
                    found[name] = {"values": values(candidates)}
        if "ema" not in bench.session.capabilities.routes:
            break
    for name, each in found.items():
        each["distance"] = [distance(a, b) for a, b in zip(made["discard"], made[name], strict=True)]
    apart = [distance(a, b) for a, b in pairwise(made["discard"])]
    return {"routes": found, "distance": apart}


def _in_order(routes: Collection[MemoryRoute]) -> list[MemoryRoute]:
    """The routes of the paper first, then those that the adapter declares beyond them, by name."""
    paper = ("discard", "ema", "append")
    return [*(each for each in paper if each in routes), *sorted(set(routes).difference(paper))]


@contextmanager
def _decaying(pipe: StreamPipeline, decay: float) -> Iterator[None]:
    """Open the pipeline's sessions with another decay; its rewards stay loaded."""
    before = pipe.recipe
    pipe.recipe = before.model_copy(update={"sinks": before.sinks.model_copy(update={"ema_decay": decay})})
    try:
        yield
    finally:
        pipe.recipe = before


def _after(
    bench: Bench, measurement: Measurement, chunks: Sequence[Chunk], latents: Sequence[Tensor], route: Any
) -> list[Candidate]:
    """The judged candidates of the last chunk, after the others are stored with one route."""
    session, beam = bench.session, bench.root()
    for chunk in latents[:-1]:
        history = session.commit(beam.history, chunk, session.decode(beam.history, chunk)[0], route)
        beam = Beam(history)
    last = chunks[len(latents) - 1]
    noises = [bench.noise(beam, seed) for seed in measurement.seeds(last.index)]
    return bench.judged(bench.made(last, beam, noises))


def options_as_data(options: ProbeOptions) -> Row:
    """The options as JSON has them."""
    return {**asdict(options), "decays": list(options.decays)}
