"""The figures of the page: tiles, costs, and what a run was made with."""

from __future__ import annotations

import json
import math
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from streamt1_plugins.runs.report.scores import is_standardised

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from streamt1_plugins.api.run import Cost
    from streamt1_plugins.api.tree import Tree
    from streamt1_plugins.runs.recorded import RecordedRun

MINUTE, HOUR = 60, 3600
LONGEST = 300
"""Characters of an argument that the page shows."""
_STAGES = {"generate": "Denoising", "decode": "Decoding", "reward": "Rewards", "commit": "Committing"}
_COUNTS = {
    "candidates": "Candidates generated",
    "forwards": "Forward passes",
    "latent_frames_decoded": "Latent frames decoded",
    "latent_frames_previewed": "Latent frames previewed",
    "reward_calls": "Reward calls",
    "readings": "Readings of rewards",
    "readings_saved": "Readings saved by pruning",
}


def number(value: float | None, digits: int = 3) -> str:
    """A number for a table: a dash where there is none."""
    return "\N{EN DASH}" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def count(value: int) -> str:
    """`12 480`, with a thin space."""
    return f"{value:,}".replace(",", "\N{THIN SPACE}")


def ordinal(place: int) -> str:
    """`1st` for place 0, `2nd`, `3rd`, `4th`."""
    number = place + 1
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def duration(seconds: float) -> str:
    """`40 ms`, `1.2 s`, `3 min 05 s`, `2 h 04 min`."""
    whole = round(seconds)
    if whole >= HOUR:
        return f"{whole // HOUR} h {whole % HOUR // MINUTE:02d} min"
    if whole >= MINUTE:
        return f"{whole // MINUTE} min {whole % MINUTE:02d} s"
    return f"{seconds:.1f} s" if seconds >= 0.9995 else f"{1000 * seconds:.0f} ms"


def moment(time: str) -> str:
    """`2026-03-01 14:07:01 UTC` for a time in ISO 8601; another text as it is."""
    try:
        return f"{datetime.fromisoformat(time).astimezone(timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError):
        return time


def tiles(recorded: RecordedRun, tree: Tree) -> list[tuple[str, str, str]]:
    """(label, value, remark) of the numbers at the top of the page."""
    done, of = len(recorded.frames), recorded.start["chunks"]
    seconds, frames = sum(lengths(recorded).values()), count(sum(recorded.frames.values()))
    video = f"{duration(seconds) if seconds >= 1 else f'{seconds:.1f} s'} of video, {frames} frames"
    found = [("Chunks", str(done) if done == of else f"{done} of {of}", video)]
    found.append(("Candidates", count(len(tree)), ", ".join(_candidates(tree))))
    if recorded.score is not None:
        whole = recorded.whole_video
        remark = "mean over its chunks" if whole is None else f"whole video {number(whole)}"
        remark += ", standardised" if is_standardised(recorded.recipe) else ""
        found.append(("Winner's score", number(recorded.score), remark))
    found.append(("Time", duration(recorded.seconds), f"on {recorded.device}"))
    forwards = recorded.cost().forwards
    if forwards:
        found.append(("Forward passes", count(forwards), "context passes included"))
    return found


def _candidates(tree: Tree) -> Iterator[str]:
    """Remarks on the number of candidates."""
    widths = sorted({len(tree.chunk(index)) for index in tree.chunks()})
    if widths:
        yield f"{widths[0]} per chunk" if len(widths) == 1 else f"{widths[0]} to {widths[-1]} per chunk"
    if tree.picked:
        yield f"{count(tree.inherited)} of the run it continues"
    abandoned = len(tree.abandoned())
    if abandoned:
        yield f"{count(abandoned)} abandoned"
    unfinished = sum(not node.is_finished for node in tree)
    if unfinished:
        yield f"{count(unfinished)} pruned early"


def lengths(recorded: RecordedRun) -> dict[int, float]:
    """Seconds of video by chunk."""
    return {chunk: frames / recorded.start["fps"] for chunk, frames in recorded.frames.items()}


def costs(recorded: RecordedRun, tree: Tree) -> dict[str, Any]:
    """Counts, seconds by stage with their share of the sum, and milliseconds per candidate of each reward.

    `remark`: what the counts do not include.
    """
    cost = recorded.cost()
    spent = {_STAGES.get(name, name.capitalize()): value for name, value in cost.seconds.items()}
    total = sum(spent.values()) or 1.0
    return {
        "counts": list(_counts(cost, tree)),
        "stages": [(label, value, value / total) for label, value in spent.items()],
        "rewards": [(name.replace(".", " ", 1), each["ms_per_candidate"]) for name, each in cost.judged().items()],
        "remark": _branched(tree, cost.candidates) if tree.picked else _unfinished(recorded, tree),
    }


def _counts(cost: Cost, tree: Tree) -> Iterator[tuple[str, str]]:
    """(label, count); nothing about rewards where none was called."""
    judged = sum(bool(node.readings) for node in tree)
    for name, label in _COUNTS.items():
        is_of_previews, is_of_rewards = (
            name == "latent_frames_previewed",
            name.startswith("read") or name == "reward_calls",
        )
        if (getattr(cost, name) or not is_of_previews) and (cost.reward_calls or judged or not is_of_rewards):
            yield label, count(getattr(cost, name))
    if judged:
        yield "Candidates with a reading", f"{count(judged)} of {count(len(tree))}"


def _branched(tree: Tree, made: int) -> str:
    """How the candidates of a branched run add up."""
    new = len(tree) - tree.inherited
    return (
        f"Of this run alone: {count(new)} new candidates, and the path to {tree.picked} made again "
        f"({count(max(0, made - new))}). The other {count(tree.inherited)} candidates of the tree come from the run "
        "that it continues."
    )


def _unfinished(recorded: RecordedRun, tree: Tree) -> str:
    """Which candidates of a run that was killed are not counted."""
    done = len(recorded.frames)
    later = sum(node.chunk >= done and node.fate != "abandoned" for node in tree)
    if not later or recorded.events[-1]["event"] == "finished":
        return ""
    return f"Counted when a chunk is done: {count(later)} candidates of chunk {done} are not included."


def record(recorded: RecordedRun) -> list[tuple[str, str, str]]:
    """(label, text, time) of what is needed to make the run again, besides the recipe; one of the two may be empty."""
    start, end = recorded.start, recorded.events[-1]
    rows = [("Seed", str(start["seed"]), ""), ("Device", recorded.device, ""), ("Started", "", moment(start["time"]))]
    for event in recorded.events:
        if event["event"] == "returned":
            where = f"from chunk {event['judged']} to chunk {event['chunk']}, "
            rows.append(("Went back", where, moment(event["time"])))
        if event["event"] == "resumed":
            rows.append(("Resumed", f"chunk {event['chunk']}, ", moment(event["time"])))
    if end["event"] == "finished":
        rows.append(("Ended", "", moment(end["time"])))
    return [*rows, *((name, str(version), "") for name, version in recorded.newest("versions").items())]


def arguments(start: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, value) of the call's arguments besides the prompt; the names alone of those that JSON cannot hold."""
    call = {name: json.dumps(value, ensure_ascii=False) for name, value in start["call"].items() if name != "prompt"}
    cut = {
        name: text if len(text) <= LONGEST else f"{text[:LONGEST]}\N{HORIZONTAL ELLIPSIS}"
        for name, text in call.items()
    }
    return [*cut.items(), *((name, "not recorded") for name in start["omitted"])]


def recipe_as_run(recorded: RecordedRun) -> tuple[str, list[str]]:
    """The recipe as YAML with the arguments of the call in it, and what those replaced.

    An option of the adapter with the name of an argument is what a call takes that leaves the argument out.
    """
    recipe, call = recorded.recipe, recorded.start["call"]
    options = recipe.adapter.model_dump(mode="json")
    given = {
        name: value
        for name, value in call.items()
        if name in options and name != "name" and value is not None and value != options[name]
    }
    remarks = [f"{name} ({json.dumps(options[name], ensure_ascii=False)} in the recipe)" for name in given]
    adapter = type(recipe.adapter).model_validate({**options, **given})
    return recipe.model_copy(update={"adapter": adapter}).to_yaml(), remarks
