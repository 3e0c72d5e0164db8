"""The hooks. Their docstrings are the reference; docs/hooks.md is checked against them.

An implementation may take any subset of the arguments. Discovery hooks run once per process and only fill name
tables. Decision hooks have exactly one answer per run, from the part the recipe names; any part may wrap it
(``@hookimpl(wrapper=True)``). Event hooks inform; what they return is ignored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from collections.abc import Sequence

    import typer

    from streamt1_plugins.api.candidate import Beam, Candidate
    from streamt1_plugins.api.register import RegisterAdapter, RegisterPolicy, RegisterReward
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.types import Chunk, MemoryRoute, Proposal, Revision

PROJECT = "streamt1"
hookimpl = pluggy.HookimplMarker(PROJECT)
_spec = pluggy.HookspecMarker(PROJECT)


@_spec
def streamt1_register_adapters(register: RegisterAdapter) -> None:
    """Declare pipeline adapters by name, as ``register(name, pipelines=(...), target="module:attr")``."""


@_spec
def streamt1_register_rewards(register: RegisterReward) -> None:
    """Declare rewards by name, as ``register(name, target="module:attr", extra="pip-extra")``."""


@_spec
def streamt1_register_policies(register: RegisterPolicy) -> None:
    """Declare width, noise, scoring, revision, selection and memory policies and observers by name and kind."""


@_spec
def streamt1_add_commands(cli: typer.Typer) -> None:
    """Add subcommands to the `streamt1` command line."""


@_spec(firstresult=True)
def streamt1_width(run: Run, chunk: Chunk, beam: Beam) -> int | None:
    """How many candidates one beam branches into."""


@_spec(firstresult=True)
def streamt1_propose_noise(run: Run, chunk: Chunk, beam: Beam, count: int) -> Sequence[Proposal] | None:
    """The noise proposals that branch one beam into the next chunk's candidates (paper: Noise Propagation)."""


@_spec(firstresult=True)
def streamt1_score(run: Run, chunk: Chunk, candidate: Candidate) -> float | None:
    """One number from a candidate's measured `short` and `long`; higher is better (paper: Reward Pruning)."""


@_spec(firstresult=True)
def streamt1_revise(run: Run, chunk: Chunk, candidates: Sequence[Candidate]) -> Revision | None:
    """Another round of candidates in this chunk, or a return to an earlier one; None goes on to the selection.

    `candidates` are all of this chunk so far, judged; it is called again after every round.
    """


@_spec(firstresult=True)
def streamt1_select(run: Run, chunk: Chunk, candidates: Sequence[Candidate]) -> Sequence[Candidate] | None:
    """The candidates that survive this chunk, best first. Only valid candidates are offered."""


@_spec(firstresult=True)
def streamt1_route_memory(run: Run, chunk: Chunk, candidate: Candidate) -> MemoryRoute | None:
    """What this candidate's context becomes when it leaves the memory window (paper: Memory Sinking)."""


@_spec
def streamt1_run_started(run: Run) -> None:
    """The run's parts are built and nothing has been generated yet."""


@_spec
def streamt1_candidate_scored(run: Run, chunk: Chunk, candidate: Candidate) -> None:
    """A candidate has its readings, score and route; its frames are in ``candidate.decoded``."""


@_spec
def streamt1_revised(run: Run, chunk: Chunk, revision: Revision, candidates: Sequence[Candidate]) -> None:
    """The judged `candidates` of `chunk` are not selected from: another round follows, or the run has gone back.

    After a return ``run.beams`` are those before chunk ``revision.back_to``, which comes next.
    """


@_spec
def streamt1_chunk_selected(run: Run, chunk: Chunk, kept: Sequence[Candidate], pruned: Sequence[Candidate]) -> None:
    """The survivors of this chunk are committed to ``run.beams``."""


@_spec
def streamt1_run_finished(run: Run, error: BaseException | None) -> None:
    """The run ended, well when `error` is None. ``run.beams[0]`` is the best branch, as far as it got."""
