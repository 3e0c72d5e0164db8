"""The adapter author's toolkit: an interrupt seam, argument checks, and chunk-wise decoding with Wan's VAE."""

from __future__ import annotations

from lazy_loader import attach_stub

# On first use: an adapter's module is imported to read its options, which takes neither torch nor diffusers.
__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

from streamt1_seams.arguments import arguments as arguments  # noqa: E402  its module has the same name, and would win
