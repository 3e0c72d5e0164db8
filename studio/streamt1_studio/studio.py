"""The studio: one model, one thread that works with it, and the takes that wait for it in a queue."""

from __future__ import annotations

import threading
from datetime import datetime
from itertools import count
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import streamt1_plugins as streamt1
from streamt1_plugins.errors import InputError, StreamT1Error, foreign_code
from streamt1_studio.bell import Bell
from streamt1_studio.hand import Hand
from streamt1_studio.shelf import Shelf
from streamt1_studio.sitting import Job, Sitting
from streamt1_studio.view import recorded_view

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_TAKES, MOST_JOBS = 32, 16
"""Takes that are open at once, and jobs of one that wait."""


BUSY = "The cost is known when the model has nothing to do."

ROLL = Job("Rolling candidates", lambda hand: hand.roll())


class Studio:
    """Takes with a pipeline, recorded in folders inside `folder`.

    pipe: a pipeline that is wrapped, or that `streamt1_plugins.wrap` takes. One take at a time has the model. It gives
    the model up when nothing is left to do for it and another take waits: it is saved, and opened again when a person
    returns to it. recipes: names or files besides the shipped recipes.
    """

    def __init__(self, pipe: Any, folder: str | Path, recipes: tuple[str, ...] = ()) -> None:
        self.pipe = pipe if isinstance(pipe, streamt1.StreamPipeline) else streamt1.wrap(pipe)
        self.folder = Path(folder)
        self.recipes = {**{name: name for name in recipes}, **streamt1.shipped_recipes()}
        self.bell, self.shelf = Bell(), Shelf(self.folder)
        self.sittings: dict[str, Sitting] = {}
        self._holder: Sitting | None = None
        self._order: list[Sitting] = []
        self._changed = threading.Condition()
        self._pricing = threading.Lock()
        self._closing = False
        self._names, self._costs = count(1), dict[tuple[str, int | None], str]()
        self._thread = threading.Thread(target=self._work, name="streamt1-studio", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Finish the step that is being worked on, save what is open, and end."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        self.bell.ring()

    @property
    def is_closing(self) -> bool:
        """Whether `close` was called."""
        return self._closing

    # What a person wants.

    def start(self, prompt: str, recipe: str, seed: int, frames: int | None, playing: bool = False) -> Sitting:
        """A new take, which waits for the model. Raises `InputError` and what `wrap` raises."""
        self._check_room()
        wrapped = self.wrapped(recipe, seed)
        folder = self._new_folder()
        call = {} if frames is None else {"num_frames": frames}
        sitting = Sitting(lambda: Hand.begun(wrapped, folder, prompt, call), folder, recipe, playing=playing)
        sitting.view = {"prompt": prompt, "seed": str(seed)}
        return self._add(sitting, ROLL)

    def reopened(self, run: Path, playing: bool = False) -> Sitting:
        """A recorded run that is continued where it stopped, or whose last chunks are taken back."""
        for sitting in tuple(self.sittings.values()):
            if sitting.folder == run and not sitting.is_finished:
                return sitting if sitting.hand or sitting.wants_model else self._add(sitting, ROLL)
            if sitting.folder == run:
                del self.sittings[sitting.id]
        self._check_room()
        head = self.shelf.head(run)
        sitting = Sitting(lambda: Hand.reopened(self.pipe, run), run, head["recipe"], playing=playing)
        sitting.view = recorded_view(run, head)
        return self._add(sitting, ROLL)

    def branched(self, run: Path, node: str) -> Sitting:
        """A new take that continues a candidate of a run."""
        self._check_room()
        folder = self._new_folder()
        head = self.shelf.head(run)
        sitting = Sitting(lambda: Hand.branched(self.pipe, run, node, folder), folder, head["recipe"])
        sitting.view = {name: head[name] for name in ("prompt", "seed")}
        return self._add(sitting, ROLL)

    def want(self, sitting: Sitting, name: str, work: Callable[[Hand], None]) -> None:
        """Have `work` done with the take when it has the model. Raises `InputError` where too much waits already."""
        with self._changed:
            if len(sitting.jobs) >= MOST_JOBS:
                raise InputError(f"{MOST_JOBS} steps of this take wait already. Let the model finish some.")
            sitting.playing = False
            sitting.jobs.append(Job(name, work))
            self._queue(sitting)

    def play(self, sitting: Sitting, playing: bool) -> None:
        """Let the policy decide from now on, or, with False, a person after the step that is being worked on."""
        with self._changed:
            sitting.playing = playing and not sitting.is_finished
            sitting.problem = ""
            self._queue(sitting)

    def wrapped(self, recipe: str, seed: int | None = None) -> streamt1.StreamPipeline:
        """The pipeline with a recipe that the studio offers. Raises `InputError` for another one."""
        if recipe not in self.recipes:
            raise InputError(
                f"The studio offers no recipe {recipe[:80]!r}. Offered: {', '.join(sorted(self.recipes))}."
            )
        overrides = [] if seed is None else [f"seed={seed}"]
        return streamt1.wrap(self.pipe, recipe, overrides=overrides, trust=recipe not in streamt1.shipped_recipes())

    def cost(self, recipe: str, frames: int | None) -> str:
        """What a video would spend, in words. Raises as `wrapped` does, and `InputError` while another cost is made."""
        if (recipe, frames) not in self._costs:
            call = {} if frames is None else {"num_frames": frames}
            if not self._pricing.acquire(blocking=False):  # where it opens a session, it waits for the model
                raise InputError(BUSY)
            try:
                self._costs[recipe, frames] = str(self.wrapped(recipe).cost(**call))
            finally:
                self._pricing.release()
        return self._costs[recipe, frames]

    def queue(self) -> list[dict[str, Any]]:
        """All open takes: the one that has the model, those that wait for it in their order, the others."""
        with self._changed:
            waiting = [each for each in self._order if each is not self._holder]
            others = [each for each in self.sittings.values() if each not in waiting and each is not self._holder]
            first = [self._holder] if self._holder is not None else []
            return [each.summary() for each in (*first, *waiting, *others)]

    def _check_room(self) -> None:
        if sum(not each.is_finished for each in self.sittings.values()) >= MOST_TAKES:
            raise InputError(f"{MOST_TAKES} takes are open. Finish one of them first.")

    def _new_folder(self) -> Path:
        begun = datetime.now()
        names = (self.folder / f"{begun:%Y%m%d-%H%M%S}-{number:03d}" for number in self._names)
        return next(each for each in names if not each.exists())  # another studio may have begun in the same second

    def _add(self, sitting: Sitting, job: Job) -> Sitting:
        self.shelf.id_of(sitting.folder)
        with self._changed:
            self.sittings[sitting.id] = sitting
            sitting.jobs.append(job)
            self._queue(sitting)
        return sitting

    def _queue(self, sitting: Sitting) -> None:
        if sitting.wants_model and sitting not in self._order:
            self._order.append(sitting)
            if not sitting.doing:
                self._set(sitting)
        self._changed.notify_all()
        self.bell.ring()

    # The thread of the model.

    def _work(self) -> None:
        while (found := self._next()) is not None:
            self._do(*found)
        self._park(self._holder)

    def _next(self) -> tuple[Sitting, Job] | None:
        """The next step: of the take that has the model as long as there is one, else of the first that waits."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._order)
            if self._closing:
                return None
            sitting = self._holder if self._holder in self._order else self._order[0]
            assert sitting is not None
            return sitting, sitting.jobs.popleft() if sitting.jobs else Job("Playing", lambda hand: hand.step())

    def _do(self, sitting: Sitting, job: Job) -> None:
        if self._holder is not sitting:
            self._park(self._holder)
        self._holder, sitting.problem = sitting, ""
        with self._changed:
            sitting.began = monotonic()
            self._set(sitting, job.name)
        try:
            with foreign_code(job.name):
                if sitting.hand is None:
                    sitting.hand = sitting.opener()
                    sitting.opener = lambda: Hand.reopened(self.pipe, sitting.folder)
                before = sitting.hand.done
                job.work(sitting.hand)
                sitting.took(monotonic() - sitting.began, sitting.hand.done - before)
                sitting.view, sitting.pictures = sitting.hand.view(), sitting.hand.pictures()
                if sitting.hand.is_closed and sitting.hand.is_complete:
                    sitting.is_finished = True
        except StreamT1Error as error:
            sitting.problem, sitting.playing = str(error), False
        self._settle(sitting, job is ROLL)

    def _settle(self, sitting: Sitting, is_roll: bool) -> None:
        """What follows a step: the end of the take, its next step, or a person."""
        if sitting.hand is None or sitting.hand.is_closed:
            self._holder, sitting.hand = None, None
        with self._changed:
            if sitting.is_finished:
                sitting.playing = False
                sitting.jobs.clear()
            elif sitting.hand and sitting.hand.needs_roll and not (sitting.wants_model or is_roll):
                sitting.jobs.append(ROLL)  # a step of its own, so that what was kept is seen before
            if not sitting.wants_model and sitting in self._order:
                self._order.remove(sitting)
            self._set(sitting)

    def _park(self, sitting: Sitting | None) -> None:
        """Save a take and close it, so that another one can have the model."""
        self._holder = None
        if sitting is None or sitting.hand is None:
            return
        try:
            with foreign_code("Saving the take"):
                sitting.hand.park()
        except StreamT1Error as error:
            sitting.problem = str(error)
        sitting.hand = None
        with self._changed:
            self._set(sitting)

    def _set(self, sitting: Sitting, doing: str = "") -> None:
        """Note what a sitting does now, and tell the browsers."""
        sitting.doing = doing
        if doing:
            sitting.state = "working"
        elif sitting.is_finished:
            sitting.state = "finished"
        elif sitting.wants_model:
            sitting.state = "queued"
        else:
            sitting.state = "waiting" if sitting.hand else "parked"
        self.bell.ring()
