"""A take: one video made chunk by chunk, where a person may overrule what the policies would do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

import torch

from streamt1_plugins.api.candidate import Candidate
from streamt1_plugins.api.run import Run
from streamt1_plugins.api.scenes import HasScenes, Scene, changed, scene_at, scenes_of
from streamt1_plugins.api.tree import Action, Tree, standing
from streamt1_plugins.api.types import Chunk, Node, Revision
from streamt1_plugins.config.rewards import MOST
from streamt1_plugins.errors import InputError, StreamT1Error, guess, shown
from streamt1_plugins.plugins.given import PerRun
from streamt1_plugins.plugins.observing import Observing
from streamt1_plugins.process.threads import limited
from streamt1_plugins.search.out_of_memory import explained
from streamt1_plugins.search.previews import problem_of
from streamt1_plugins.search.revise import Round
from streamt1_plugins.take import strip
from streamt1_plugins.take.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path
    from types import TracebackType

    from torch import Tensor

    from streamt1_plugins.api.adapter import Session
    from streamt1_plugins.api.candidate import Beam
    from streamt1_plugins.api.run import Cost
    from streamt1_plugins.api.scenes import SceneMemory
    from streamt1_plugins.api.workers import Workers
    from streamt1_plugins.config.schema import Recipe
    from streamt1_plugins.search.loop import Search

Which = str | Node
"""A candidate, or its id."""


BY_HAND = "By hand."
IN_USE = "a take of this pipeline (call its `save()` or `close()`)"


class Unsaved(StreamT1Error):
    """What the record of a take has as its end where it was closed before it was saved."""


@dataclass(frozen=True)
class Host:
    """What a take needs of the wrapped pipeline.

    `search`: the search of an open run with these observers. `running`: what surrounds a search, and `quiet` what
    surrounds a step of it. `session`: opens a session with these arguments and CPU threads. `observing`: the pipeline's
    own observers.
    """

    wrapped: Any
    search: Callable[[Run, Observing], Search]
    running: Callable[[Search], AbstractContextManager[None]]
    quiet: Callable[[Run], AbstractContextManager[None]]
    session: Callable[[Mapping[str, Any], int | None], Session]
    observing: Observing


class Take:
    """A video in the making: ``pipe.take(prompt, ...)`` opens one, then roll, look and keep, until `save` returns it.

    ``with pipe.take("a red circle") as take: ...`` closes it at the end of the block. Until it is saved or closed the
    pipeline is in use, as during a stream. What a person does is in `tree.actions`, and in the record where there is
    one, so that the video can be made again bit by bit. Histories are immutable: nothing that was made is lost by going
    back, and a `branch` shares what there is.
    """

    def __init__(
        self,
        host: Host,
        run: Run,
        *,
        observing: Observing | None = None,
        reach: int | None = None,
        sessions: Sessions | None = None,
    ) -> None:
        """`run`: open, and not searched yet. observing: in place of the pipeline's. reach: as for `pipe.take`."""
        self._run, self._host = run, host
        self._observing = observing or host.observing
        self._pool: list[Candidate] = []
        self._choice: tuple[str, ...] | None = None
        self._ending: ExitStack | None = None
        self._sessions = sessions or Sessions(run.released)
        self._sessions.join(run.session)
        self._reach = reach
        with ExitStack() as stack:
            stack.callback(lambda: self._sessions.leave(self._run.session))
            self._search = host.search(run, self._observing)
            self._search.reach, self._search.is_watched = reach, True
            stack.enter_context(host.running(self._search))
            with self._working():
                self._search.start()
            self._ending = stack.pop_all()

    # What a person does.

    def roll(self, n: int | None = None) -> tuple[Candidate, ...]:
        """Make and score the candidates of the next chunk; returns them, also as `candidates`.

        n: how many for every surviving branch, None for as many as the recipe has. Raises `InputError` where the chunk
        has candidates already, and where the video is complete.
        """
        chunk = self._next()
        if self._pool:
            raise InputError(
                f"Chunk {chunk.index} has {len(self._pool)} candidates: `keep` one of them, or `reroll` for more."
            )
        count = _number("n", n)
        with self._working():
            self._set_pool(self._search.judged(chunk, Round(count)))
        if count is not None:
            self._act(Action(kind="roll", chunk=chunk.index, count=count))
        return self.candidates

    def reroll(
        self, n: int | None = None, refine: Which | None = None, *, strength: float = 0.5
    ) -> tuple[Candidate, ...]:
        """Make more candidates of the same chunk, which join those that are there; returns the new ones.

        n: as for `roll`. refine: a candidate whose noise the new ones vary, ``z' = sqrt(1 - b^2) z + b eps`` with b the
        `strength`: near 0 they are like it, 1 is fresh noise. Raises `InputError` before the first `roll`.
        """
        chunk, count = self._judged_chunk(), _number("n", n)
        if isinstance(strength, bool) or not isinstance(strength, int | float) or not 0 < strength <= 1:
            raise InputError(f"`strength` has to be above 0 and at most 1, got {shown(strength)}.")
        varied = () if refine is None else self._chosen(refine)
        revision = Revision(count=count, varied=varied, strength=float(strength), reason=BY_HAND)
        before = {each.id for each in self._pool}
        with self._working():
            self._record_pool()
            found = self._search.another(chunk, revision, self._pool)
        self._act(Action(kind="reroll", chunk=chunk.index, count=count, candidates=varied))
        self._set_pool(found or self._pool)
        return tuple(each for each in self._pool if each.id not in before)

    def keep(self, which: Which | Iterable[Which] | None = None) -> tuple[Node, ...]:
        """Commit a candidate of this chunk; the next `roll` continues it. Returns what survives, best first.

        which: a candidate or its id, several of them to go on with several branches, or None for what the policy
        chooses. A candidate that rewards vetoed may be kept. Raises `InputError` for one that is not there or has no
        whole frames.
        """
        chunk = self._judged_chunk()
        chosen = None if which is None else self._chosen(which)
        with self._working():
            kept, pruned = self._search.survivors(
                chunk, self._pool, None if chosen is None else partial(_picked, chosen)
            )
            if chosen is not None:
                self._act(Action(kind="keep", chunk=chunk.index, candidates=chosen))
            self._set_pool(kept)  # where committing fails, they can be kept again
            self._search.advance(chunk, kept, pruned)
            self._set_pool([])
        return tuple(self.tree.kept(chunk.index))

    def back(self, chunks: int = 1) -> None:
        """Take back the last `chunks` that were kept, and candidates that are waiting; 0 takes back those alone.

        What was made stays in the tree, abandoned; the next `roll` makes other candidates. Raises `InputError` for more
        chunks than can be taken back.
        """
        self._check_open()
        here = Chunk(self._done, self.chunks)
        least, most = int(not self._pool), here.index - self._run.earliest
        if isinstance(chunks, bool) or not isinstance(chunks, int) or not least <= chunks <= most:
            can = f"{least} to {most} chunks here" if most >= least else "no chunks: none can be taken back"
            raise InputError(f"`back` takes {can}, got {shown(chunks)}.")
        self._go_back(here, here.index - chunks)

    def prompt(self, text: str, memory: SceneMemory = "keep") -> Scene:
        """Change the prompt from the next `roll` on; returns the scene that begins there.

        memory: what becomes of the old scene's memory, `keep`, `recache` or `flush`. Raises `InputError` for a
        pipeline whose prompt cannot change, and where no chunk is left.
        """
        at = self._done + bool(self._pool)
        self._check_open()
        scene = self._scene(at, text, memory)
        self._act(Action(kind="prompt", chunk=at, prompt=scene.prompt, memory=scene.memory))
        self._change_scenes(changed(self.scenes, [scene]))
        if not self._pool:  # the last chunk was committed without knowing that a scene ends with it
            with self._working():
                self._run.beams = tuple(map(self._committed_again, self._run.beams))
        return scene

    def play(self, chunks: int | None = None) -> Take:
        """Let the policies make the next `chunks`, None for all that are left; returns the take itself."""
        count = _number("chunks", chunks)
        self._check_open()
        last = self.chunks if count is None else min(self.chunks, self._done + count)
        while self._done < last:
            if not self._pool:
                self.roll()
            if self._is_revised():
                self.keep()
            if self._run.stop or self._host.wrapped._interrupt:
                break
        self._run.stop = False
        if self._host.wrapped._interrupt:
            self._host.wrapped._interrupt = False
        return self

    def stop(self) -> None:
        """End `play` after the current chunk, from another thread or a callback; the take goes on."""
        self._run.stop = True

    def branch(self, observers: Mapping[str, object] | None = None) -> Take:
        """Another take that begins with what this one has kept; the two no longer affect each other.

        observers: what watches and records it. By default those of the pipeline where they have a new folder for every
        run (``record_to(folder, per_run=True)``), and none otherwise. Both takes have to be saved or closed.
        """
        self._check_open()
        run, tree = self._run, self.tree
        done, last = self._done, self._run.beams[0].last
        own = Tree(
            {name: node for name, node in tree.nodes.items() if node.chunk < done},
            picked=last.id if last else None,
            actions=[action for action in standing(tree.actions) if action.chunk < done],
        )
        copy = replace(run, tree=own, cost=type(run.cost)(), background=type(run.background)(), stop=False, chunk=None)
        return Take(self._host, copy, observing=self._branched(observers), reach=self._reach, sessions=self._sessions)

    def save(self) -> Any:
        """End the take; returns what a call of the pipeline returns, for the chunks that were kept.

        Raises `InputError` where none was.
        """
        self._check_open()
        if not self._run.beams[0].history.index:
            raise InputError("Nothing was kept yet: `roll`, then `keep`, then save.")
        if self._pool:
            self.back(0)
        with self._working():
            self._search.choose()
        output = self._run.session.finish(self._run.beams[0].history)
        self._end(None)
        return output

    def close(self) -> None:
        """End the take without a video; a record of it can be resumed. A second call does nothing."""
        if not self.is_closed:
            self._end(Unsaved("The take was closed before it was saved."))

    # What there is to see.

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """The candidates of this chunk that wait to be kept; frames ``[T, 3, H, W]`` are in ``candidate.decoded``."""
        return tuple(self._pool)

    @property
    def choice(self) -> tuple[str, ...]:
        """The ids of those that the selection policy would keep, best first; empty where none wait."""
        if self._choice is None:
            self._choice = tuple(each.id for each in self._search.selected(self._judged_chunk(), self._pool))
        return self._choice

    @property
    def frames(self) -> Tensor | None:
        """The video so far, ``[T, 3, H, W]`` in ``[0, 1]``: what was kept, of the best branch. None before that."""
        frames = self._run.beams[0].history.frames
        return torch.cat(frames) if frames else None

    @property
    def chunk(self) -> Chunk | None:
        """The chunk that waits to be kept or is made next, None where the video is complete."""
        return None if self.is_finished else Chunk(self._done, self.chunks)

    @property
    def chunks(self) -> int:
        """The chunks of the whole video."""
        return self._run.session.num_chunks

    @property
    def scenes(self) -> tuple[Scene, ...]:
        """The prompts of the video, each from a chunk on."""
        scenes = self._run.session.scenes if isinstance(self._run.session, HasScenes) else ()
        return scenes or (Scene(0, self._run.session.prompt),)

    @property
    def scene(self) -> Scene:
        """The prompt of the chunk that waits to be kept or is made next, or of the last one."""
        return scene_at(self._run.session, min(self._done, self.chunks - 1))

    @property
    def run(self) -> Run:
        """The run, as hooks see it."""
        return self._run

    @property
    def tree(self) -> Tree:
        """Every candidate so far, and in `actions` what a person did."""
        return self._run.tree

    @property
    def cost(self) -> Cost:
        """What the take has spent so far."""
        return self._run.cost

    @property
    def folder(self) -> Path | None:
        """The folder that records the take, None where there is none."""
        return self._observing.folder_of(self._run, self._run.prompt)

    @property
    def is_finished(self) -> bool:
        """Whether every chunk is kept."""
        return self._done >= self.chunks

    @property
    def is_closed(self) -> bool:
        """Whether the take was saved or closed."""
        return self._ending is None

    def __enter__(self) -> Take:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or self.is_closed:
            self.close()
        else:
            self._end(error)

    def __del__(self) -> None:
        if vars(self).get("_ending") is not None:
            self.close()

    def __repr__(self) -> str:
        waiting = f"{len(self._pool) or 'no'} candidates wait"
        state = "closed" if self.is_closed else "complete" if self.is_finished else waiting
        return f"<Take: {self.scene.prompt!r}, seed {self._run.seed}, {self._done} of {self.chunks} chunks, {state}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the candidates, or the last chunk that was kept."""
        waiting, last = self._pool, self._run.beams[0]
        cards = [strip.candidate(each, each.id in self.choice) for each in waiting]
        if not waiting and last.last is not None:
            who = self.tree.chosen_by(last.last.chunk)
            cards = [strip.card(last.history.frames[-1], last.last.id, f"kept by the {who}")]
        return "".join([f"<p>{escape(repr(self))}</p>", *cards])

    # How.

    def _branched(self, observers: Mapping[str, object] | None) -> Observing:
        """What observes a branch."""
        own = self._observing
        if observers is None:
            observers = own.given if all(isinstance(each, PerRun) for each in own.given.values()) else {}
        return Observing(own.recipe, observers)

    @property
    def _done(self) -> int:
        """How many chunks are kept."""
        return self._run.beams[0].history.index

    def _check_open(self) -> None:
        if self.is_closed:
            raise InputError("This take was saved or closed. Open another one with `pipe.take(...)`.")

    def _next(self) -> Chunk:
        self._check_open()
        if self.chunk is None:
            raise InputError(f"All {self.chunks} chunks are kept: `save` the video, or go `back`.")
        return self.chunk

    def _judged_chunk(self) -> Chunk:
        """The chunk whose candidates wait."""
        chunk = self._next()
        if not self._pool:
            raise InputError(f"Chunk {chunk.index} has no candidates yet: `roll` first.")
        return chunk

    def _set_pool(self, candidates: list[Candidate]) -> None:
        self._pool, self._choice = candidates, None

    @contextmanager
    def _working(self) -> Iterator[None]:
        """Holds while the take works, and not between its calls."""
        run = self._run
        with explained(run), limited(run.threads), self._host.quiet(run):
            yield

    def _act(self, action: Action) -> None:
        self.tree.actions.append(action)
        self._search.hooks.acted(action)

    def _chosen(self, which: Which | Iterable[Which]) -> tuple[str, ...]:
        """The ids of candidates to keep."""
        given = [which] if isinstance(which, str | Node) else list(which) if isinstance(which, Iterable) else None
        if not given or not all(isinstance(each, str | Node) for each in given):
            raise InputError(f"`keep` takes a candidate, its id, or several of them, got {shown(which)}.")
        names = tuple(each.id if isinstance(each, Node) else each for each in given)
        if len(set(names)) < len(names):
            raise InputError(f"A candidate is given twice: {', '.join(names)}.")
        for name in names:
            self._candidate(name)
        return names

    def _candidate(self, name: str) -> Candidate:
        """The waiting candidate of this id, which has to be whole."""
        known = {each.id: each for each in self._pool}
        if name not in known:
            raise InputError(f"No candidate {shown(name)} waits.{guess(name, known)} These do: {', '.join(known)}.")
        if not known[name].is_finished:
            raise InputError(f"Candidate {name} was pruned early and never finished: keep another one.")
        return known[name]

    def _record_pool(self) -> None:
        """Bring the waiting candidates into the tree, before others get their numbers or they are given up."""
        for each in self._pool:
            self.tree.add(each.node())

    def _is_revised(self) -> bool:
        """Let the revision policy add to the waiting candidates; False where it has gone back instead."""
        chunk = self._judged_chunk()
        with self._working():
            found = self._search.revised(chunk, self._pool)
        self._set_pool(found or [])
        if found is None:
            self._undo_scenes()
        return found is not None

    def _go_back(self, here: Chunk, to: int) -> None:
        """Return to the beginning of chunk `to`."""
        self._act(Action(kind="back", chunk=here.index, to=to))
        with self._working():
            self._record_pool()
            self._search.go_back(here, Revision(back_to=to, reason=BY_HAND), self._pool)
        self._set_pool([])
        self._undo_scenes()

    def _undo_scenes(self) -> None:
        """Give up the prompts that a person set for chunks after the next one."""
        by_hand = {each.chunk for each in self.tree.actions if each.kind == "prompt"}
        kept = [Scene(each.chunk, each.prompt or "", each.memory or "keep") for each in self._prompts()]
        scenes = changed([each for each in self.scenes if each.chunk not in by_hand], kept)
        if scenes != self.scenes:
            self._change_scenes(scenes)

    def _prompts(self) -> list[Action]:
        return [each for each in standing(self.tree.actions) if each.kind == "prompt"]

    def _scene(self, at: int, text: str, memory: SceneMemory) -> Scene:
        """The scene of a new prompt, checked."""
        if not isinstance(self._run.session, HasScenes):
            raise InputError("The prompt of this pipeline cannot change between chunks: its adapter has no `schedule`.")
        if at == 0:
            raise InputError("Nothing was kept yet: open a take with that prompt, `pipe.take(...)`.")
        scene = scenes_of([{"chunk": at, "prompt": text, "memory": memory}], "")[-1]
        if at >= self.chunks:
            raise InputError(f"No chunk is left for another prompt: the video has {self.chunks}. Go `back` first.")
        return scene

    def _change_scenes(self, scenes: tuple[Scene, ...]) -> None:
        """Continue with a session of these scenes."""
        run = self._run
        has_prompt = run.call.get("prompt") is not None
        call = {**run.call, "schedule": [each.entry() for each in scenes if each.chunk or not has_prompt]}
        with self._working():
            session = self._host.session(call, run.threads)
        old, run.session, run.call = run.session, session, call
        run.cost.forwards += session.forwards
        self._sessions.join(session)
        self._sessions.leave(old)

    def _committed_again(self, beam: Beam) -> Beam:
        """The beam with its last chunk committed anew, by the session that there is now."""
        search, session = self._search, self._run.session
        before = self._run.past[-1] if self._run.past else ()
        parent = next((each for each in before if _ids(each) == _ids(beam)[:-1]), None)
        with self._run.spending("commit"):
            history = session.root() if parent is None else search.offload.onload_beam(parent).history
            for node, latents in zip(beam.path, beam.history.latents[-len(beam.path) :], strict=True):
                if node.chunk >= history.index:
                    decoded = session.decode(history, latents)[0]
                    history = session.commit(history, latents, decoded, node.route or "discard")
        return search.offload.offload_beam(replace(beam, history=history))

    def _end(self, error: BaseException | None) -> None:
        ending, self._ending = self._ending, None
        self._set_pool([])
        if ending is not None:
            ending.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)


def check(recipe: Recipe, videos: int, workers: Workers) -> None:
    """Raise `InputError` for what is no take: without candidates, of several videos, or in several processes."""
    if not recipe.search.is_wide:
        raise InputError(
            "A take chooses among candidates, and this pipeline's recipe makes one per chunk. Wrap it with a recipe "
            'that searches, such as "stream-t1", or with overrides=["search.candidates=4"].'
        )
    if videos > 1:
        raise InputError(f"A take makes one video, and this call is for {videos}.")
    if workers.size > 1:
        raise InputError(f"A take works in one process, and {workers.size} share this search.")


def _number(name: str, value: int | None) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST):
        raise InputError(f"`{name}` has to be a whole number from 1 to {MOST}, got {shown(value)}.")
    return value


def _ids(beam: Beam) -> list[str]:
    return [node.id for node in beam.path]


def _picked(names: tuple[str, ...], candidates: list[Candidate]) -> list[Candidate]:
    """The candidates of these ids. Raises `InputError` for one whose frames are not finite."""
    by_id = {each.id: each for each in candidates}
    for name in names:
        problem = problem_of(by_id[name].latents, by_id[name].decoded)
        if problem is not None:
            raise InputError(f"Candidate {name} cannot be kept. {problem}")
    return [by_id[name] for name in names]
