"""Measures prompts into a folder that a later call can continue, a row per prompt, and draws the conclusions."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from streamt1_plugins.api.workers import SingleProcess
from streamt1_plugins.compare.run import append, make_folder
from streamt1_plugins.compare.run import read as read_rows
from streamt1_plugins.config.load import load
from streamt1_plugins.config.merge import flat, merged
from streamt1_plugins.config.user_files import user_path
from streamt1_plugins.errors import InputError, StreamT1Error, foreign_code, shown
from streamt1_plugins.pipeline import StreamPipeline
from streamt1_plugins.plugins import build
from streamt1_plugins.plugins.check import readable
from streamt1_plugins.probe.advice import PROBED, advise
from streamt1_plugins.probe.findings import findings
from streamt1_plugins.probe.measure import Measurement, ProbeOptions, probe_prompt
from streamt1_plugins.runs.files import alone_in, to_json, write_atomically, writing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from streamt1_plugins.config.schema import Recipe
    from streamt1_plugins.probe.advice import Advice
    from streamt1_plugins.probe.findings import Findings

ROWS, CONDITIONS, SUMMARY = "prompts.jsonl", "probe.json", "summary.json"
ADVICE = "advice.yaml"
OnFailure = Callable[[str, StreamT1Error], None]
OnProgress = Callable[[str, float], None]


@dataclass(frozen=True)
class Probe:
    """What is probed, and how much of it: a wrapped pipeline, prompts, arguments of its calls, options, a seed.

    base: the shipped recipe that the advice extends, None for the pipeline's own.
    """

    pipe: StreamPipeline
    prompts: Sequence[str]
    call: Mapping[str, Any] = field(default_factory=dict)
    options: ProbeOptions = field(default_factory=ProbeOptions)
    seed: int = 0
    base: str | None = None

    def measurement(self, prompt: str) -> Measurement:
        """The measurement of one of the prompts; its seeds do not depend on the others."""
        digest = blake2b(f"{self.seed}/{prompt}".encode("utf-8", "replace"), digest_size=6).digest()
        return Measurement(self.pipe, prompt, int.from_bytes(digest, "big"), self.call, self.options)

    def conditions(self) -> dict[str, Any]:
        """What all rows of a folder have in common, as JSON has it."""
        recipe = self.pipe.recipe.model_dump(mode="json", exclude={"description", "seed"})
        known = {"recipe": recipe, "call": dict(self.call), "options": asdict(self.options), "seed": self.seed}
        known["device"] = str(getattr(self.pipe.pipe, "device", "cpu")).partition(":")[0]
        found: dict[str, Any] = json.loads(json.dumps(known, default=str))
        return found


@dataclass(frozen=True)
class Probed:
    """The result of a probe: what was found, the advice, and the recipe that was probed. `str` of it is the reasons."""

    findings: Findings
    advice: Advice
    probed: Recipe

    def __str__(self) -> str:
        return "\n".join(f"{topic}: {each}" for topic, sentences in self.advice.reasons.items() for each in sentences)

    @property
    def recipe(self) -> Recipe:
        """The advised recipe, for `wrap` and `load`."""
        if self.advice.base != PROBED:
            return load(self.advice.recipe())
        return load(merged(self.probed.to_data(), self.advice.keys)).traced(self.probed.origin)

    def as_dict(self) -> dict[str, Any]:
        """Findings and advice as plain data."""
        advice = {"reasons": self.advice.reasons, "recipe": self.advice.recipe()}
        predicted = {name: asdict(each) for name, each in self.advice.predicted.items()}
        return {**self.findings.as_dict(), "advice": {**advice, "predicted": predicted}}


def searching(pipe: StreamPipeline) -> StreamPipeline:
    """The same pipeline for a probe: every reward reads every candidate, nothing is observed or shared.

    Early stages of rewards, vetoes and early pruning would leave candidates without readings.
    """
    rewards = pipe.recipe.rewards
    read: dict[str, Any] = {
        horizon: {name: part.model_copy(update={"stage": 1, "veto": None}) for name, part in named.items()}
        for horizon, named in (("short", rewards.short), ("long", rewards.long))
    }
    changes: dict[str, Any] = {"rewards": rewards.model_copy(update=read), "observers": {}}
    changes["early"] = pipe.recipe.early.model_copy(update={"steps": 0})
    changes["search"] = pipe.recipe.search.model_copy(update={"candidates": 2})
    single = StreamPipeline(pipe.pipe, pipe.recipe.model_copy(update=changes), {}, pipe.given)
    single.workers = SingleProcess()
    return single


def probe_model(
    pipe: StreamPipeline,
    prompts: Sequence[str],
    out: Path | None = None,
    *,
    options: ProbeOptions | None = None,
    seed: int = 0,
    **call: Any,
) -> Probed:
    """What noise, rewards and memory of a wrapped pipeline can do for a search, and a recipe that follows from it.

    prompts: six or more, for conclusions. out: a folder for the measurements, which the next call continues where this
    one was interrupted; it also gets `summary.json` and `advice.yaml`. call: arguments of the pipeline's call, such as
    `num_frames`. ``wrap(pipe, found.recipe)`` follows the advice.
    """
    if not isinstance(pipe, StreamPipeline):
        raise InputError(f"`probe_model` takes a wrapped pipeline, got {type(pipe).__name__}: wrap it first.")
    if isinstance(prompts, str) or not prompts or not all(isinstance(each, str) and each for each in prompts):
        raise InputError(f"`prompts` has to be a list of texts, at least one, got {shown(prompts)}.")
    if own := sorted(call.keys() & {"generator", "prompt"}):
        raise InputError(f"`{own[0]}` is no argument here: a probe has prompts and a seed of its own.")
    probe = Probe(searching(pipe), list(prompts), call, options or ProbeOptions(), seed)
    bound = [(each.name, each.reward) for each in build.rewards(pipe.recipe, pipe.given)]
    for prompt in prompts:
        readable(prompt, bound)
    if out is None:
        return conclude(probe, [probe_prompt(probe.measurement(prompt)) for prompt in dict.fromkeys(prompts)])
    folder = user_path(out)
    for _ in run(probe, folder):
        pass
    probed = conclude(probe, own_rows(probe, folder))
    write(folder, probed)
    return probed


def own_rows(probe: Probe, out: Path) -> list[dict[str, Any]]:
    """The rows of the probe's prompts in a folder, which may hold those of others."""
    wanted = set(probe.prompts)
    return [row for row in read(out) if row["prompt"] in wanted]


def missing(probe: Probe, out: Path) -> list[str]:
    """The prompts without a row in the folder, each once, in their order."""
    done = {row["prompt"] for row in read(out)}
    return [prompt for prompt in dict.fromkeys(probe.prompts) if prompt not in done]


def run(
    probe: Probe,
    out: Path,
    failed: OnFailure | None = None,
    progress: OnProgress = lambda prompt, done: None,
) -> Iterator[dict[str, Any]]:
    """Yield a row per missing prompt, after appending it to the folder.

    failed: called with each prompt that cannot be measured, and the error; without it the first error is raised. Until
    the last row, no other probe can write to the folder.
    """
    make_folder(out)
    with alone_in(out):
        _check_same(probe, out)
        yield from _rows(probe, out, failed, progress)


def _rows(probe: Probe, out: Path, failed: OnFailure | None, progress: OnProgress) -> Iterator[dict[str, Any]]:
    for prompt in missing(probe, out):
        try:
            with foreign_code("This prompt"):
                row = probe_prompt(probe.measurement(prompt), lambda done, prompt=prompt: progress(prompt, done))  # type: ignore[misc]
        except StreamT1Error as error:
            if failed is None:
                raise
            failed(prompt, error)
            continue
        with writing(f"{out / ROWS} cannot be written"):
            append(out, _written(row), ROWS)
        yield row


def read(out: Path) -> list[dict[str, Any]]:
    """The rows of a folder; what is not known is NaN in their lists."""
    return [_known(row) for row in read_rows(out, ROWS)]


def conclude(probe: Probe, rows: Sequence[Mapping[str, Any]]) -> Probed:
    """Findings and advice of the rows of a probe. Raises `InputError` without a row."""
    if not rows:
        raise InputError("No prompt could be measured, so a probe has nothing to conclude from.")
    found = findings(rows)
    return Probed(found, advise(found, probe.pipe.recipe, probe.base or PROBED), probe.pipe.recipe)


def write(out: Path, probed: Probed) -> None:
    """Write the findings as JSON, the advice as a recipe, and a recipe without a name that it extends."""
    files = {SUMMARY: to_json(probed.as_dict()), ADVICE: probed.advice.to_yaml()}
    if probed.advice.base == PROBED:
        files[PROBED] = probed.probed.to_yaml()
    for name, text in files.items():
        with writing(f"{out / name} cannot be written"):
            write_atomically(out / name, text)


def _check_same(probe: Probe, out: Path) -> None:
    """Write what the rows have in common. Raises `InputError` where the folder's rows were measured otherwise."""
    path, now = out / CONDITIONS, probe.conditions()
    if path.exists():
        before, ours = flat(json.loads(path.read_text(encoding="utf-8"))), flat(now)
        for key in sorted({*before, *ours}):
            if before.get(key) != ours.get(key):
                raise InputError(
                    f"{out} holds measurements made with {key} = {before.get(key)!r}, and this call has "
                    f"{ours.get(key)!r}. Use the same value, or another folder."
                )
    with writing(f"{path} cannot be written"):
        write_atomically(path, json.dumps(now, indent=1) + "\n")


def _written(value: Any) -> Any:
    """Data as JSON has it: seven digits, and null for NaN."""
    if isinstance(value, dict):
        return {key: _written(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_written(each) for each in value]
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value


def _known(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _known(each) for key, each in value.items()}
    if isinstance(value, list):
        return [math.nan if each is None else _known(each) for each in value]
    return value
