"""The limits of a causal Wan model, read from its configurations."""

from __future__ import annotations

from dataclasses import dataclass

from streamt1_wan.footprint import config_of, folder_of


@dataclass(frozen=True, slots=True)
class Limits:
    """What the calls of a model have to fit.

    token_size: height and width of a token in pixels. latent_frame: frames of a latent frame. latent_frames: the
    longest video.
    """

    token_size: tuple[int, int]
    latent_frame: int
    latent_frames: int


def limits_of(model: str) -> Limits | None:
    """The limits of a model, None where its configurations are not on this machine."""
    folder = folder_of(model)
    transformer, vae = (config_of(folder, name) if folder else None for name in ("transformer", "vae"))
    if transformer is None or vae is None:
        return None
    _, rows, columns = transformer["patch_size"]
    scale = vae.get("scale_factor_spatial", 8)
    frames = transformer.get("rope_max_seq_len", 1024)
    return Limits((scale * rows, scale * columns), vae.get("scale_factor_temporal", 4), frames)
