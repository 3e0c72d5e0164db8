"""A candidate and a beam: the values that carry tensors through the search."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from streamt1_plugins.api.types import Node
from streamt1_plugins.process.imports import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from streamt1_plugins.api.adapter import Decoded, History
else:
    torch = deferred("torch")

PLACES = 4
"""Places a side that latents are averaged to, so that candidates can be compared in every process."""

Location = Literal["here", "elsewhere", "offloaded", "dropped", "previewed", "undecoded"]
"""Where a candidate's tensors are.

`here`: all of them are on this process's device. `elsewhere`: another process has them; `latents` has no frames and
`decoded` holds thumbnails. `offloaded`: the decoder state is in CPU memory. `dropped`: the decoder state was given up;
decoding the latents again gives the same one. `previewed`: `decoded` holds the frames of the preview decoder; the
latents were not decoded in full. `undecoded`: they were not decoded at all, since nothing reads the frames before the
selection; `decoded` has none.
"""


@dataclass(frozen=True, kw_only=True)
class Candidate(Node):
    """A beam's proposed next chunk, while it is being judged: a node, its tensors and where they are.

    `preview`: the preview decoder's frames, where rewards score those, or observers see them. `pooled`: the averaged
    latents of a candidate that is elsewhere; read `features` instead, which every candidate has.
    """

    beam: Beam = field(repr=False, compare=False)
    noise: Tensor = field(repr=False, compare=False)
    latents: Tensor = field(repr=False, compare=False)
    decoded: Decoded = field(repr=False, compare=False)
    location: Location = field(default="here", repr=False, compare=False)
    preview: Tensor | None = field(default=None, repr=False, compare=False)
    pooled: Tensor | None = field(default=None, repr=False, compare=False)

    @property
    def features(self) -> Tensor:
        """The latents, averaged to at most 4 x 4 places a frame: ``[C * F, h, w]`` floats on the CPU.

        They are the same in every process, so a policy may compare candidates by them.
        """
        if self.pooled is not None:
            return self.pooled
        images = self.latents.detach().float().cpu().flatten(0, 2)
        height, width = (min(PLACES, side) for side in images.shape[1:])
        return torch.nn.functional.adaptive_avg_pool2d(images, (height, width))

    def node(self) -> Node:
        """The record of this candidate, without its tensors."""
        return Node(**{item.name: getattr(self, item.name) for item in fields(Node)})


@dataclass(frozen=True, slots=True)
class Previews:
    """What the preview decoder made of a branch: `frames` of its newest chunks, as many as rewards score, and of the
    `first` chunk of the scene, and the decoder's `state` behind the last one.
    """

    frames: tuple[Tensor, ...] = ()
    first: Tensor | None = None
    state: Any = None


@dataclass(frozen=True, slots=True)
class Beam:
    """A surviving branch: everything its next candidates need, shared and never changed.

    `path` holds the chosen node of every chunk so far, oldest first. `noise` is the noise of the last chunk after
    mixing. `rank` is the place in the last selection, 0 = best. `previews` are there where rewards score previews.
    """

    history: History
    path: tuple[Node, ...] = ()
    noise: Tensor | None = None
    rank: int = 0
    previews: Previews | None = None

    @property
    def last(self) -> Node | None:
        """The node of the newest chunk, None before the first."""
        return self.path[-1] if self.path else None
