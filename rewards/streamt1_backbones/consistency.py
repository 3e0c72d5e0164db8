"""Consistency as VBench measures it: how like the first and the previous frame every frame of a video is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cosine_similarity

if TYPE_CHECKING:
    from torch import Tensor


def consistency(features: Tensor, reference: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean cosine similarity to the first and to the previous frame, ``[N]`` each in ``[0, 1]``; negative counts as 0.

    features: ``[N, T, D]``. reference: ``[N, D]``, the first frame of the whole video; None where T begins with it.
    A whole video gets VBench's numbers (https://github.com/Vchitect/VBench). One frame that has nothing to be compared
    with scores 1.
    """
    features = features.float()
    nothing = torch.ones_like(features[:, 0, 0]) + features[:, 0].mean(1) * 0  # NaN features stay NaN
    first = features[:, 0] if reference is None else reference.float()
    later = features[:, 1:] if features.shape[1] > 1 else features
    if reference is None and features.shape[1] < 2:
        return nothing, nothing
    to_first = cosine_similarity(later, first[:, None], dim=2).clamp(min=0).mean(1)
    if features.shape[1] < 2:
        return to_first, nothing
    return to_first, cosine_similarity(later, features[:, :-1], dim=2).clamp(min=0).mean(1)
