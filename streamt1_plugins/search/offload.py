"""Where things wait: decoder states of candidates until the selection, memories of beams while another one is used.

Both can be gigabytes per candidate or beam. `search.offload` decides between memory and time:

* ``none``: everything stays where it is. Nothing is computed or copied twice.
* ``recompute``: a candidate keeps its frames and latents alone; a survivor is decoded once more for its decoder state.
  Costs one decode per survivor and chunk.
* ``cpu``: decoder states and the memories of waiting beams go to CPU memory and come back when their turn comes.
  Costs the copies, and the host waits for them. A block of memory is sent out once, however long it is remembered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import device

    from streamt1_plugins.api.candidate import Beam, Candidate
    from streamt1_plugins.api.run import Run


class _Dropped:
    """Stands for a decoder state that can be decoded again."""


_DROPPED = _Dropped()


@dataclass(frozen=True, slots=True, eq=False)
class Parked:
    """A tensor that waits on the CPU, and where it belongs."""

    host: Tensor
    home: device


@dataclass
class Parking:
    """Puts aside what waits in a run and brings it back; with `search.offload: none` it does nothing."""

    run: Run
    _sent: Any = field(default_factory=WeakIdKeyDictionary)
    _last: tuple[Beam, Beam] | None = None

    def waiting(self, candidate: Candidate, beam: Beam) -> Candidate:
        """A candidate until it is selected; `beam` is its parent as it waits itself."""
        return replace(candidate, beam=beam, decoded=replace(candidate.decoded, state=self._aside(candidate)))

    def selected(self, candidate: Candidate) -> Candidate:
        """A survivor with its parent and its decoder state, ready to be committed."""
        candidate = replace(candidate, beam=self.awake(candidate.beam))
        state = candidate.decoded.state
        state = self._decoded_again(candidate) if state is _DROPPED else self._back(state)
        return replace(candidate, decoded=replace(candidate.decoded, state=state))

    def resting(self, beam: Beam) -> Beam:
        """A beam while others are worked on."""
        return self._moved(beam, self._out) if self._spills else beam

    def awake(self, beam: Beam) -> Beam:
        """A beam whose candidates are generated, or committed, now; it stays until another one is asked for."""
        if not self._spills:
            return beam
        if self._last is None or self._last[0] is not beam:
            self._last = None  # it makes room before the next one comes
            self._last = beam, self._moved(beam, self._fetched)
        return self._last[1]

    @property
    def _spills(self) -> bool:
        return self.run.recipe.search.offload == "cpu"

    def _aside(self, candidate: Candidate) -> Any:
        state = candidate.decoded.state
        if state is None or self.run.recipe.search.offload == "none":
            return state
        return mapped(state, self._out) if self._spills else _DROPPED

    def _back(self, state: Any) -> Any:
        return mapped(state, self._fetched) if self._spills else state

    def _decoded_again(self, candidate: Candidate) -> Any:
        """The same latents after the same frames give the same state; the frames that were judged are kept."""
        with self.run.cost.timing("decode"):
            decoded = self.run.session.decode(candidate.beam.history, candidate.latents)[0]
        self.run.cost.latent_frames_decoded += int(candidate.latents.shape[2])
        return decoded.state

    def _moved(self, beam: Beam, move: Callable[[Any], Any]) -> Beam:
        history = beam.history
        memory, decoder = mapped((history.memory, history.decoder), move)
        return replace(beam, history=replace(history, memory=memory, decoder=decoder))

    def _out(self, leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or is_host(leaf):
            return leaf
        if leaf not in self._sent:
            self._sent[leaf] = Parked(leaf.to("cpu"), leaf.device)
        return self._sent[leaf]

    def _fetched(self, leaf: Any) -> Any:
        if not isinstance(leaf, Parked):
            return leaf
        tensor = leaf.host.to(leaf.home)
        self._sent[tensor] = leaf  # it need not be copied out again
        return tensor


def is_host(tensor: Tensor) -> bool:
    """Whether a tensor is in CPU memory already."""
    return tensor.device.type == "cpu"


def mapped(item: Any, function: Callable[[Any], Any]) -> Any:
    """`function` on every leaf of tuples, lists, mappings and dataclasses; what is met twice stays one object."""
    seen: dict[int, Any] = {}

    def visit(item: Any) -> Any:
        if id(item) not in seen:
            seen[id(item)] = _rebuilt(item, visit) if _is_branch(item) else function(item)
        return seen[id(item)]

    return visit(item)


def _is_branch(item: Any) -> bool:
    return isinstance(item, (tuple, list, Mapping)) or (is_dataclass(item) and not isinstance(item, (type, Parked)))


def _rebuilt(item: Any, visit: Callable[[Any], Any]) -> Any:
    if isinstance(item, Mapping):
        return {key: visit(value) for key, value in item.items()}
    if isinstance(item, (tuple, list)):
        found = [visit(value) for value in item]
        return type(item)(*found) if hasattr(item, "_fields") else type(item)(found)
    names = [each.name for each in fields(item) if each.init]
    return replace(item, **{name: visit(getattr(item, name)) for name in names})
