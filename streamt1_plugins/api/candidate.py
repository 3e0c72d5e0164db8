"""A candidate and a beam: the values that carry tensors through the search."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from streamt1_plugins.api.adapter import Decoded
from streamt1_plugins.api.types import Node

if TYPE_CHECKING:
    from torch import Tensor

    from streamt1_plugins.api.adapter import History


@dataclass(frozen=True, kw_only=True)
class Candidate(Node):
    """A beam's proposed next chunk, while it is being judged: a node and its tensors."""

    beam: Beam = field(repr=False, compare=False)
    noise: Tensor = field(repr=False, compare=False)
    latents: Tensor = field(repr=False, compare=False)
    decoded: Decoded = field(repr=False, compare=False)

    def node(self) -> Node:
        """The record of this candidate, without its tensors."""
        return Node(**{item.name: getattr(self, item.name) for item in fields(Node)})


@dataclass(frozen=True, slots=True)
class Beam:
    """A surviving branch: everything its next candidates need, shared and never changed.

    `path` holds the chosen node of every chunk so far, oldest first. `noise` is the initial noise of the last chunk
    after mixing. `rank` is the place in the last selection, 0 = best.
    """

    history: History
    path: tuple[Node, ...] = ()
    noise: Tensor | None = None
    rank: int = 0

    @property
    def last(self) -> Node | None:
        return self.path[-1] if self.path else None


@dataclass(frozen=True, slots=True)
class Preview(Decoded):
    """Stands for frames and decoder state that are in another process; `frames` are few and small."""


def is_here(candidate: Candidate) -> bool:
    """Whether this process has the candidate's frames and decoder state."""
    return not isinstance(candidate.decoded, Preview)
