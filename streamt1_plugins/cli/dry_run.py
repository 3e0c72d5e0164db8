"""`streamt1 generate --dry-run`: the complete recipe, what it costs, and where the videos would go."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from streamt1_plugins.cli import estimates
from streamt1_plugins.cli.base import echo
from streamt1_plugins.config.schedule import described, plain
from streamt1_plugins.text.printable import one_line, printable_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from streamt1_plugins.cli.batch_folders import State
    from streamt1_plugins.cli.running import Output
    from streamt1_plugins.config.schedule import Scene
    from streamt1_plugins.config.schema import Recipe

TO_DO = {"new": "to make", "begun": "to finish", "done": "exists"}


class Planned(NamedTuple):
    """A video that a command would make: its prompt, seed and folder, what is there already, and its scenes."""

    prompt: str
    seed: int
    folder: Path
    state: State
    scenes: Sequence[Scene] = ()


def show_plan(output: Output, recipe: Recipe, videos: Sequence[Planned]) -> None:
    """Print the plan: as a recipe and lines below it, as JSON, or with `quiet` the folders alone."""
    if output.json:
        echo(_as_json(recipe, videos), nl=False)
    elif output.quiet:
        for video in videos:
            echo(video.folder)
    else:
        echo(recipe.to_yaml())
        _echo_costs(recipe, videos)
        echo(f"memory  {estimates.memory(recipe).removeprefix('memory ')}")
        if len(videos) == 1:
            _echo_scenes(videos[0].scenes)
            echo(f"folder  {videos[0].folder}")
        else:
            _echo_videos(videos)


def _echo_costs(recipe: Recipe, videos: Sequence[Planned]) -> None:
    """A cost for each video, or for each of those whose scenes cost the same."""
    costs = _costs(recipe, videos)
    counts = Counter(costs)
    for place, (cost, count) in enumerate(counts.items()):
        which = f" for each of {count} videos" if len(counts) > 1 else " for each video"
        echo(f"{'' if place else 'cost':8}{cost}{which if len(videos) > 1 else ''}")


def _costs(recipe: Recipe, videos: Sequence[Planned]) -> list[str]:
    """The cost of each video: scenes with `recache` add to it."""
    kinds = [tuple((scene.chunk, scene.memory) for scene in video.scenes) for video in videos]
    scenes = dict(zip(kinds, (video.scenes for video in videos), strict=True))
    known = {kind: estimates.cost(recipe, each) for kind, each in scenes.items()}
    return [known[kind] for kind in kinds]


def _echo_videos(videos: Sequence[Planned]) -> None:
    counts = Counter(TO_DO[video.state] for video in videos)
    listed = ", ".join(f"{counts[name]} {name}" for name in TO_DO.values() if counts[name])
    echo(f"videos  {len(videos)}: {listed}")
    for video in videos:
        prompt = described(video.scenes) if video.scenes else video.prompt
        echo(f"        {TO_DO[video.state]:9}  {video.folder}  seed {video.seed}  {one_line(prompt)}")


def _echo_scenes(scenes: Sequence[Scene]) -> None:
    for place, scene in enumerate(scenes):
        memory = f", memory: {scene.memory}" if place else ""
        echo(f"{'' if place else 'scenes':8}from chunk {scene.chunk}{memory}: {one_line(scene.prompt)}")


def _as_json(recipe: Recipe, videos: Sequence[Planned]) -> str:
    from streamt1_plugins.runs.files import to_json

    costs = _costs(recipe, videos)
    listed = [
        {**video._asdict(), "folder": str(video.folder), "scenes": plain(list(video.scenes)), "cost": cost}
        for video, cost in zip(videos, costs, strict=True)
    ]
    cost = costs[0] if len(videos) == 1 else estimates.cost(recipe)
    found = {"recipe": recipe.model_dump(mode="json"), "cost": cost}
    return printable_json(to_json({**found, "memory": estimates.memory(recipe), "videos": listed}))
