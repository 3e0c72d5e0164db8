"""Measures one prompt on an open run: single candidates, made and judged outside of any search."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch

from streamt1_plugins.api.candidate import Beam
from streamt1_plugins.api.noise import chunk_noise, draws_of
from streamt1_plugins.api.types import Proposal
from streamt1_plugins.errors import RecipeError
from streamt1_plugins.pipeline import wrap
from streamt1_plugins.policies.noise import inherited
from streamt1_plugins.probe.formulas import distance
from streamt1_plugins.search.expand import Branch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Generator, Tensor

    from streamt1_plugins.api.candidate import Candidate
    from streamt1_plugins.api.types import Chunk
    from streamt1_plugins.pipeline import StreamPipeline
    from streamt1_plugins.policies.noise import Draws

FEW_DRAWS = 6  # draws that are measured one by one; more of them are measured in two halves
Values = dict[str, list[float]]
"""Raw readings of candidates by ``horizon.reward``."""


@dataclass(frozen=True)
class ProbeOptions:
    """How much a probe measures.

    candidates: per chunk. pairs: of candidates that exchange single draws. chunks: of the walk, from the first one;
    more where the memory window needs them. decays: of the EMA sink.
    """

    candidates: int = 8
    pairs: int = 3
    chunks: int = 6
    decays: tuple[float, ...] = (0.999, 0.9, 0.5)


@dataclass
class Bench:
    """An open run whose candidates are made one beam at a time."""

    pipe: StreamPipeline
    run: Any
    search: Any

    def made(self, chunk: Chunk, beam: Beam, noises: Sequence[tuple[Tensor, Generator]]) -> list[Candidate]:
        """The candidates of these noises, denoised and decoded."""
        self.run.beams, self.run.chunk = (beam,), chunk
        proposals = [Proposal(index, *noise) for index, noise in enumerate(noises)]
        branches = [Branch(index, beam, proposal) for index, proposal in enumerate(proposals)]
        found = self.search.expander.expand(chunk, branches)
        return [self.search.offload.onload(each) for each in found]

    def values(self, candidates: Sequence[Candidate]) -> Values:
        """The raw readings of candidates of one chunk, in their order."""
        found: Values = {}
        for judged in self.search.evaluator.evaluate(list(candidates), lambda each: 0.0):
            for horizon, named in judged.readings.items():
                for name, reading in named.items():
                    found.setdefault(f"{horizon}.{name}", []).append(reading.raw)
        return found

    def noise(self, beam: Beam, seed: int) -> tuple[Tensor, Generator]:
        """The noise of the next chunk from a seed, and the generator behind it."""
        generator = torch.Generator().manual_seed(seed)
        return chunk_noise(self.run.session, beam.history, generator), generator


@contextmanager
def opened(pipe: StreamPipeline, prompt: str, seed: int, call: Mapping[str, Any]) -> Iterator[Bench]:
    """A bench for one prompt, with its rewards loaded; closed at the end."""
    run = pipe.begin(prompt, generator=torch.Generator().manual_seed(seed), **call)
    search = pipe.search(run)
    try:
        search.evaluator.pool.start(run)
        yield Bench(pipe, run, search)
    finally:
        search.evaluator.pool.finish()
        run.session.close()


def probe_prompt(
    pipe: StreamPipeline, prompt: str, seed: int, call: Mapping[str, Any], options: ProbeOptions
) -> dict[str, Any]:
    """All measurements of one prompt, as plain data: a walk along one branch, then the effect of each memory route."""
    start = perf_counter()
    with opened(pipe, prompt, seed, call) as bench:
        chunks, latents = _walk(bench, seed, options)
        forwards, memory = bench.run.session.forwards, None
        has_routes = len(bench.run.session.capabilities.routes) > 1
    if has_routes:
        memory = _routes(pipe, prompt, seed, call, options, latents)
    seconds = round(perf_counter() - start, 2)
    return {"prompt": prompt, "seed": seed, "chunks": chunks, "memory": memory, "forwards": forwards, "seconds": seconds}


def _walk(bench: Bench, seed: int, options: ProbeOptions) -> tuple[list[dict[str, Any]], list[Tensor]]:
    """Measure chunk after chunk; the first candidate of each is committed, as in a plain run."""
    run, beam = bench.run, Beam(bench.run.session.root())
    found: list[dict[str, Any]] = []
    latents: list[Tensor] = []
    before: list[tuple[Tensor, Generator]] = []
    run.beams = (beam,)
    last = min(run.session.num_chunks - 1, _depth(run, options))
    for chunk in run.chunks():
        seeds = [seed + 1000 * (1 + chunk.index) + index for index in range(options.candidates)]
        noises = [bench.noise(beam, each) for each in seeds]
        candidates = bench.made(chunk, beam, noises)
        values = bench.values(candidates)
        row: dict[str, Any] = {"index": chunk.index, "values": values, "repeated": bench.values(candidates[:1] * 2)}
        row["distance"] = [distance(a.latents, b.latents) for a, b in pairwise(candidates)]
        if chunk.index in (0, 1, last):
            row["shares"] = _exchanged(bench, chunk, beam, seeds, candidates, options.pairs)
        if before:
            row["inherited"] = {
                draws: bench.values(bench.made(chunk, beam, _passed_on(bench, beam, before, draws)))
                for draws in ("initial", "all")
            }
        found.append(row)
        latents.append(candidates[0].latents)
        if chunk.index == last:
            break
        beam, before = bench.search.commit(candidates[0]), noises
    return found, latents


def _depth(run: Any, options: ProbeOptions) -> int:
    """The last chunk of a walk: far enough for a chunk to have left the memory window."""
    sinks = run.recipe.sinks
    return max(options.chunks - 1, sinks.sink_chunks + sinks.window_chunks + 1)


def _exchanged(
    bench: Bench, chunk: Chunk, beam: Beam, seeds: Sequence[int], candidates: Sequence[Candidate], pairs: int
) -> dict[str, list[float]]:
    """By group of draws: distances between a candidate and one that differs from it in that group alone."""
    found: dict[str, list[float]] = {}
    for first, second in list(pairwise(range(len(candidates))))[:pairs]:
        other = candidates[second].noise
        for name, draws in groups(draws_of(other).shape[1]).items():
            noise, generator = bench.noise(beam, seeds[first])
            mixed = draws_of(noise).clone()
            mixed[:, draws] = draws_of(other)[:, draws].to(mixed)
            changed = bench.made(chunk, beam, [(mixed.view_as(noise), generator)])[0]
            found.setdefault(name, []).append(distance(candidates[first].latents, changed.latents))
    return found


def groups(draws: int) -> dict[str, list[int]]:
    """The draws of a chunk by name: the initial noise, and the draws of later steps, one by one or in halves."""
    later = list(range(1, draws))
    if draws <= FEW_DRAWS:
        return {"initial": [0], **{f"step {each + 1}": [each] for each in later}}
    half = draws // 2
    return {"initial": [0], f"steps 2-{half}": later[: half - 1], f"steps {half + 1}-{draws}": later[half - 1 :]}


def _passed_on(
    bench: Bench, beam: Beam, before: Sequence[tuple[Tensor, Generator]], draws: Draws
) -> list[tuple[Tensor, Generator]]:
    """The noises of the chunk before, used again: all of their draws, or the initial noise with fresh draws after it."""
    found = []
    for index, (parent, _) in enumerate(before):
        fresh, generator = bench.noise(beam, 10**6 + 1000 * beam.history.index + index)
        mixed = inherited(parent, fresh, 1.0, draws)
        found.append((fresh if mixed is None else mixed, generator))
    return found


def _routes(
    pipe: StreamPipeline,
    prompt: str,
    seed: int,
    call: Mapping[str, Any],
    options: ProbeOptions,
    latents: Sequence[Tensor],
) -> dict[str, Any]:
    """What each route of the walk's chunks does to the candidates of the chunk after them, the noises being the same."""
    found: dict[str, Any] = {"effects": {}}
    for decay in options.decays:
        try:
            other = wrap(pipe, pipe.recipe, overrides=[f"sinks.ema_decay={decay}"])
        except RecipeError:
            continue
        with opened(other, prompt, seed, call) as bench:
            if "discard" not in found:
                found["discard"] = _after(bench, latents, "discard", seed, options)
            for route in sorted(bench.run.session.capabilities.routes - {"discard"}):
                name = f"ema {decay:g}" if route == "ema" else route
                if name not in found["effects"]:
                    found["effects"][name] = _after(bench, latents, route, seed, options)
    base = found["discard"].pop("candidates")
    for effect in found["effects"].values():
        effect["distance"] = [distance(a, b) for a, b in zip(base, effect.pop("candidates"), strict=True)]
    return found


def _after(bench: Bench, latents: Sequence[Tensor], route: str, seed: int, options: ProbeOptions) -> dict[str, Any]:
    """The candidates of the chunk after these, which are stored with one route, and their readings."""
    session, beam = bench.run.session, Beam(bench.run.session.root())
    bench.run.beams = (beam,)
    chunks = list(bench.run.chunks())
    for chunk in latents[:-1]:
        history = session.commit(beam.history, chunk, session.decode(beam.history, chunk)[0], route)
        beam = Beam(history, beam.path)
    noises = [bench.noise(beam, seed + index) for index in range(max(2, options.candidates // 2))]
    found = bench.made(chunks[len(latents) - 1], beam, noises)
    return {"candidates": [each.latents for each in found], "values": bench.values(found)}
