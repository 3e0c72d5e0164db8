"""Offloading: where decoder states wait for the selection, and the memories of beams while another one is used.

Both can be gigabytes per candidate or beam. `search.offload` trades memory for time:

* ``none``: everything stays on the device. Nothing is computed or copied twice.
* ``recompute``: a candidate keeps only its frames and latents; a survivor is decoded once more for its decoder state.
  Costs one decode per survivor and chunk.
* ``cpu``: decoder states and the memories of waiting beams go to CPU memory and come back when they are used.
  Costs the copies, and the host waits for them. A block of memory is copied out once, however long it is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import optree

from streamt1_plugins.process.imports import deferred

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    import torch.utils.weak as torch_weak
    from torch import Tensor, device

    from streamt1_plugins.api.adapter import Decoded
    from streamt1_plugins.api.candidate import Beam, Candidate
    from streamt1_plugins.api.run import Run
else:
    torch, torch_weak = deferred("torch"), deferred("torch.utils.weak")


@dataclass(frozen=True, slots=True, eq=False)
class Offloaded:
    """A tensor in CPU memory, and the device it belongs to."""

    host: Tensor
    home: device


@dataclass
class Offload:
    """Moves what waits in a run off the device and back; with ``search.offload: none`` it does nothing."""

    run: Run
    _sent: Any = field(default_factory=lambda: torch_weak.WeakIdKeyDictionary())
    _last: tuple[Beam, Beam] | None = None

    def offload(self, candidate: Candidate, beam: Beam) -> Candidate:
        """A new candidate while it waits for the selection; `beam` is its parent in its waiting form."""
        candidate = replace(candidate, beam=beam)
        if candidate.decoded.state is None or self._mode == "none":
            return candidate
        if self._mode == "recompute":
            return _with_state(candidate, None, "dropped")
        return _with_state(candidate, map_leaves(candidate.decoded.state, self._out), "offloaded")

    def onload(self, candidate: Candidate) -> Candidate:
        """A survivor with its parent, frames and decoder state on this device, ready to be committed.

        What was dropped, or is in another process, is decoded again: the same latents after the same frames give the
        same bits.
        """
        candidate = replace(candidate, beam=self.onload_beam(candidate.beam))
        if candidate.location == "here":
            return candidate
        if candidate.location == "offloaded":
            return _with_state(candidate, map_leaves(candidate.decoded.state, self._back), "here")
        decoded = self._decode_again(candidate)
        if candidate.location == "dropped":
            return _with_state(candidate, decoded.state, "here")
        return replace(candidate, decoded=decoded, location="here")

    def offload_beam(self, beam: Beam) -> Beam:
        """A beam while others are used."""
        return self._moved(beam, self._out) if self._mode == "cpu" else beam

    def onload_beam(self, beam: Beam) -> Beam:
        """A beam whose candidates are generated or committed next; it stays on the device until another is needed."""
        if self._mode != "cpu":
            return beam
        if self._last is None or self._last[0] is not beam:
            self._last = None  # frees its memory before the next one comes
            self._last = beam, self._moved(beam, self._back)
        return self._last[1]

    @property
    def _mode(self) -> str:
        return self.run.recipe.search.offload

    def _decode_again(self, candidate: Candidate) -> Decoded:
        """Counted where a search in one process would decode again too, so that costs do not depend on the number."""
        if self._mode == "recompute":
            self.run.cost.latent_frames_decoded += int(candidate.latents.shape[2])
        with self.run.cost.timing("decode"):
            return self.run.session.decode(candidate.beam.history, candidate.latents)[0]

    def _moved(self, beam: Beam, move: Callable[[Any], Any]) -> Beam:
        history = beam.history
        memory, decoder = map_leaves((history.memory, history.decoder), move)
        return replace(beam, history=replace(history, memory=memory, decoder=decoder))

    def _out(self, leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor) or is_host(leaf):
            return leaf
        if leaf not in self._sent:
            self._sent[leaf] = Offloaded(leaf.to("cpu"), leaf.device)
        return self._sent[leaf]

    def _back(self, leaf: Any) -> Any:
        if not isinstance(leaf, Offloaded):
            return leaf
        tensor = leaf.host.to(leaf.home)
        self._sent[tensor] = leaf  # it need not be copied out again
        return tensor


def released(candidate: Candidate) -> Candidate:
    """The candidate without its decoder state and its preview."""
    is_decoded_here = candidate.location not in ("elsewhere", "previewed", "undecoded")
    return _with_state(replace(candidate, preview=None), None, "dropped" if is_decoded_here else candidate.location)


def _with_state(candidate: Candidate, state: Any, location: Any) -> Candidate:
    return replace(candidate, decoded=replace(candidate.decoded, state=state), location=location)


def is_host(tensor: Tensor) -> bool:
    """Whether a tensor is in CPU memory already."""
    return tensor.device.type == "cpu"


def map_leaves(tree: Any, function: Callable[[Any], Any]) -> Any:
    """`tree` with `function` applied to every leaf of its tuples, lists, dicts and dataclasses.

    A leaf that occurs several times is mapped once and stays one object.
    """
    seen: dict[int, Any] = {}

    def visit(leaf: Any) -> Any:
        if id(leaf) not in seen:
            seen[id(leaf)] = _rebuilt(leaf) if _is_record(leaf) else function(leaf)
        return seen[id(leaf)]

    def _rebuilt(record: Any) -> Any:
        names = [each.name for each in fields(record) if each.init]
        return replace(record, **{name: walk(getattr(record, name)) for name in names})

    def walk(item: Any) -> Any:
        return optree.tree_map(visit, item, none_is_leaf=True)

    return walk(tree)


def _is_record(item: Any) -> bool:
    return is_dataclass(item) and not isinstance(item, (type, Offloaded))
