"""Base of the tests of features: recorded searches of a tiny pipeline, interrupted and shared ones, comparisons."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar
from unittest.mock import patch

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.api.hookspecs import hookimpl
from streamt1_plugins.api.types import Revision, RevisionLimits
from streamt1_plugins.resuming import open_interrupted
from streamt1_plugins.runs.observers.journal import Journal
from streamt1_plugins.search import memory_estimate
from streamt1_plugins.testing.adapter_case import AdapterCase, check_same
from streamt1_plugins.testing.state import footprint
from streamt1_plugins.testing.threads import together

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from streamt1_plugins.api.adapter import Feature
    from streamt1_plugins.api.candidate import Candidate
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.types import Chunk
    from streamt1_plugins.api.workers import Workers
    from streamt1_plugins.pipeline import StreamPipeline

PLAIN = ("search.candidates=1", "search.top_k=1")
NARROW = ("search.top_k=1",)
PREDICTED = ("rewards.long.self.options.levels=[0.4]",)
PREVIEWED = ("rewards.decode=preview",)
PRUNED_EARLY = ("search.top_k=1", "search.candidates=4", "early.steps=1")
PLENTY = 10**15  # bytes


class Interrupted(KeyboardInterrupt):
    """What a search is stopped with, like Ctrl-C."""


@dataclass
class StopAfter:
    """An observer that stops a search when this chunk was committed."""

    chunk: int

    @hookimpl(tryfirst=True)
    def streamt1_chunk_selected(self, chunk: Chunk) -> None:
        if chunk.index == self.chunk:
            raise Interrupted


@dataclass
class Kept:
    """An observer that keeps every finished candidate's latents and frames, by node."""

    latents: dict[str, Tensor] = field(default_factory=dict)
    frames: dict[str, Tensor] = field(default_factory=dict)

    @hookimpl
    def streamt1_candidate_scored(self, candidate: Candidate) -> None:
        if candidate.is_finished and candidate.location != "elsewhere":
            self.latents[candidate.id] = candidate.latents.clone()
            self.frames[candidate.id] = candidate.decoded.frames.clone()


@dataclass
class GoesBack:
    """A revision policy that makes the chunks from `to` on anew, once, when the one after it is judged.

    The new chunks have two rounds of candidates, the second of which varies the first candidate.
    """

    to: int
    limits: ClassVar[RevisionLimits] = RevisionLimits(reach=1, returns=1, rounds=2, shared=False)

    @hookimpl
    def streamt1_revise(self, run: Run, chunk: Chunk, candidates: Sequence[Candidate]) -> Revision | None:
        if not run.tree.returns:
            return Revision(back_to=self.to) if chunk.index == self.to + 1 else None
        if len({each.round for each in candidates}) > 1:
            return None
        return Revision(count=1, varied=(candidates[0].id,), strength=0.5)


class Silent:
    """An observer that does nothing, in the place of one that draws the page or encodes the video."""

    @hookimpl
    def streamt1_run_started(self) -> None:
        """Nothing."""


UNSEEN = dict.fromkeys(("folder", "report", "video"), Silent())
"""The journal alone is enough to resume, replay and branch."""


@dataclass(frozen=True)
class Searched:
    """A finished search: its record, its video, what its run ended with, and its candidates."""

    folder: Path
    video: Any
    run: Run
    kept: Kept


class SearchCase(AdapterCase):
    """Searches of the tiny pipeline. `make_pipeline` makes the same pipeline, weights included, every time."""

    _folder: ClassVar[TemporaryDirectory[str]]
    _searched: ClassVar[dict[tuple[tuple[str, ...], bool], Searched]]
    _twin: ClassVar[Any]

    @classmethod
    def setup_class(cls) -> None:
        super().setup_class()
        cls._folder, cls._searched, cls._twin = TemporaryDirectory(prefix="streamt1-"), {}, None

    @classmethod
    def teardown_class(cls) -> None:
        super().teardown_class()
        cls._folder.cleanup()
        del cls._searched, cls._twin

    def wrapped(self, *overrides: str, pipe: Any = None, observers: Any = None) -> StreamPipeline:
        """The tiny pipeline with a search of 2 x 2 candidates, changed by `overrides`."""
        recipe = {
            "extends": "stream-t1",
            "adapter": self.part(),
            "search": {"candidates": 2, "top_k": 2},
            "rewards": {"replace": True, "short": {"basic": {}}, "long": {"basic": {}}, "decode": "carried"},
        }
        return streamt1.wrap(self.pipe if pipe is None else pipe, recipe, overrides=overrides, observers=observers)

    def call_of(self, *, scenes: bool = False) -> dict[str, Any]:
        """The call, with frames as output. scenes: with a prompt that changes."""
        changes = {"schedule": self.schedule()} if scenes else {}
        return self.arguments({"output_type": "np", "return_dict": False, **changes})

    def schedule(self) -> list[dict[str, Any]]:
        """Scenes from the second chunk and from the third."""
        first = self.second_chunk()
        return [
            {"chunk": first, "prompt": "a blue square", "memory": "recache"},
            {"chunk": first + 1, "prompt": "a green star", "memory": "flush"},
        ]

    def new(self) -> Path:
        """The path of a new run folder."""
        folder = Path(self._folder.name)
        return folder / f"{len(list(folder.iterdir()))}"

    def searched(self, *overrides: str, scenes: bool = False) -> Searched:
        """A finished and recorded search, made once for all tests of the class. scenes: as for `call_of`."""
        if (overrides, scenes) not in self._searched:
            kept, folder = Kept(), self.new()
            record = {"journal": Journal(str(folder))} if overrides or scenes else streamt1.record_to(folder)
            pipe = self.wrapped(*overrides, observers={**record, "kept": kept})
            video = pipe(**self.call_of(scenes=scenes))[0]
            self._searched[overrides, scenes] = Searched(folder, video, pipe.last_run, kept)
        return self._searched[overrides, scenes]

    def branch(self, recorded: Searched, node: str, folder: Path) -> StreamPipeline:
        """A run in `folder` that continues a node, ready to be completed."""
        return streamt1.branch(recorded.folder, node, folder, self.pipe, observers=UNSEEN, **self.call())

    def second_chunk(self) -> int:
        """The index of the second chunk that is generated."""
        with self.session() as session:
            return session.root().index + 1

    def check_resumed(self, *overrides: str, scenes: bool = False) -> None:
        """A search that is stopped in the middle and resumed ends like one that was not."""
        expected, folder, before = self.searched(*overrides, scenes=scenes), self.new(), footprint(self.pipe)
        observers = {"journal": Journal(str(folder)), "stop": StopAfter(self.second_chunk())}
        with pytest.raises(Interrupted):
            self.wrapped(*overrides, observers=observers)(**self.call_of(scenes=scenes))
        assert footprint(self.pipe) == before, "an interrupted search leaves something on the pipeline"
        self.check_rest(folder, expected)

    def check_rest(self, folder: Path, expected: Searched) -> None:
        """The interrupted search in `folder`, resumed, ends as expected.

        With the memory check at work, which measures on the session and leaves no trace.
        """
        pipe = open_interrupted(folder, self.pipe, observers=UNSEEN, **self.call())
        with patch.object(memory_estimate, "free_bytes", lambda device: PLENTY):
            video = pipe.complete(pipe.last_run)[0]
        with explained("the resumed search"):
            check_same(video, expected.video)
        check_run(pipe.last_run, expected.run, "the resumed search")

    def shared(self, work: Callable[[Any, Workers], Any]) -> list[Any]:
        """What `work` returns for each of two pipelines whose searches share their candidates."""
        pipes = (self.pipe, self.twin())
        return together([partial(work, pipe) for pipe in pipes])

    def twin(self) -> Any:
        """A second pipeline, equal to the first."""
        cls = type(self)
        if cls._twin is None:
            cls._twin = self.make_pipeline()
            for name, part in getattr(self.pipe, "components", {}).items():
                if isinstance(part, torch.nn.Module):
                    pairs = zip(
                        part.state_dict().values(), cls._twin.components[name].state_dict().values(), strict=True
                    )
                    assert all(torch.equal(*pair) for pair in pairs), "`make_pipeline` makes other weights: seed them"
        return cls._twin

    def outline(self) -> Any:
        """The outline of the call's session."""
        with self.session() as session:
            return session.outline()  # type: ignore[attr-defined]

    def supports(self, feature: Feature, protocol: type) -> bool:
        """Whether sessions, or the adapter, have an optional feature. Fails where they neither have nor refuse it."""
        with self.session() as session:
            found = isinstance(session, protocol) or isinstance(self.make_adapter(), protocol)
            reason = session.capabilities.refusals.get(feature)
        assert found or reason, (
            f"{feature} needs `{protocol.__name__}`, which is not there. Implement it, or declare why not: "
            f"Capabilities(refusals={{{feature!r}: 'the reason'}})"
        )
        assert not (found and reason), f"{feature} is refused ({reason}), and `{protocol.__name__}` is there"
        return found


def check_run(found: Run, expected: Run, what: str) -> None:
    """The same tree, winner, latents and counts."""
    check_nodes(found.tree, expected.tree, what)
    ours, theirs = (each.beams[0].history.latents for each in (found, expected))
    for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        with explained(f"{what}: the latents of chunk {index}"):
            check_same(one, other)
    ignored = ("reward_calls",)  # how candidates are bundled for a reward depends on who has them
    counts = [{name: n for name, n in each.cost.counts().items() if name not in ignored} for each in (found, expected)]
    assert counts[0] == counts[1], f"{what} cost {counts[0]}, expected {counts[1]}"


def check_nodes(found: Any, expected: Any, what: str) -> None:
    """The same nodes and winner, times aside."""
    ours, theirs = (
        {node["id"]: {**node, "seconds": 0} for node in each.to_dict()["nodes"]} for each in (found, expected)
    )
    assert ours.keys() == theirs.keys(), f"{what}: nodes {sorted(ours)}, expected {sorted(theirs)}"
    for name, node in theirs.items():
        differing = {key: (ours[name].get(key), value) for key, value in node.items() if ours[name].get(key) != value}
        assert not differing, f"{what}: node {name} differs, (found, expected): {differing}"
    assert found.winner == expected.winner, f"{what}: winner {found.winner}, expected {expected.winner}"


@contextmanager
def explained(what: str) -> Iterator[None]:
    """A context whose failures begin with `what` was compared."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{what}: {error}") from error
