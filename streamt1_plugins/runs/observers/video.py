"""The video of the best branch, as a file that every player shows."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import av
import numpy
from av.codec.codec import UnknownCodecError
from av.video.reformatter import Colorspace, VideoReformatter
from pydantic import Field

from streamt1_plugins.api.hookspecs import hookimpl
from streamt1_plugins.runs.files import TREE, check_writable, finishing, remove_unfinished, write_atomically
from streamt1_plugins.runs.report.strips import on_host, to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import Tensor

    from streamt1_plugins.api.run import Run

SMALLEST_SIDE = 256
BT709 = Colorspace.ITU709
Scale = Literal["auto"] | Annotated[int, Field(ge=1)]
"""How many pixels a side of a pixel becomes; `auto` for at least `SMALLEST_SIDE` on the short side."""


@dataclass(eq=False)
class Video:
    """Writes the best branch's frames to `path` when the run ends, also when it ends early.

    path: the file, .mp4. crf: quality of H.264, 0 (lossless) to 51, lower is better and larger.
    scale: integer factor of a nearest-neighbour enlargement; `auto` makes the short side at least 256 pixels, because
    many players do not show smaller videos.
    """

    path: str = field(metadata={"acts": "write"})
    crf: Annotated[int, Field(ge=0, le=51)] = 18
    scale: Scale = "auto"

    def __post_init__(self) -> None:
        self._began = False
        self._early: _Early | None = None

    @hookimpl(trylast=True)  # after the observers that refuse a folder in use
    def streamt1_run_started(self, run: Run) -> None:
        check_writable(Path(self.path).parent)
        self._began = True
        if run.session.capabilities.decode != "blended":  # which revises frames of earlier chunks
            self._early = _Early(Encoder(run.session.fps, crf=self.crf, scale=self.scale))

    @hookimpl
    def streamt1_chunk_selected(self, run: Run) -> None:
        """Encode in the background what all branches share and no revision may change: it stays in the video."""
        early, chunks = self._early, run.beams[0].history.frames
        if early is None:
            return
        for index in range(len(early.chunks), min(len(chunks), run.earliest)):
            if any(beam.history.frames[index] is not chunks[index] for beam in run.beams):
                break
            early.chunks.append(chunks[index])
            run.background.submit("Encoding the video", partial(early.encode, on_host(chunks[index])))

    @hookimpl
    def streamt1_run_finished(self, run: Run) -> None:
        run.background.wait()
        (began, self._began), (early, self._early) = (self._began, False), (self._early, None)
        chunks = run.beams[0].history.frames if run.beams else ()
        if not chunks or not began:
            return
        path = Path(self.path)
        tree = path.parent / TREE
        kept = f"in {tree}" if tree.exists() else "in memory, as `.tree` of the wrapped pipeline"
        with finishing(f"The tree is kept {kept}, but the video {path} could not be written", path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_unfinished(path.parent)
            if early is not None and early.begins(chunks):
                write_atomically(path, early.encoder.finished(chain.from_iterable(chunks[len(early.chunks) :])))
            else:
                write_video(chain.from_iterable(chunks), path, run.session.fps, crf=self.crf, scale=self.scale)


@dataclass
class _Early:
    """The beginning of a video, encoded during the run: the frames of `chunks`."""

    encoder: Encoder
    chunks: list[Tensor] = field(default_factory=list)
    is_whole: bool = True

    def encode(self, frames: Tensor) -> None:
        try:
            self.encoder.add(frames)
        except OSError:  # encoding all of it at the end reports why, or works
            self.is_whole = False

    def begins(self, chunks: Sequence[Tensor]) -> bool:
        """Whether a video of these chunks begins with what was encoded."""
        shared = zip(self.chunks, chunks, strict=False)
        return self.is_whole and len(self.chunks) <= len(chunks) and all(one is other for one, other in shared)


def write_video(frames: Iterable[Tensor], path: Path, fps: float, *, crf: int = 18, scale: Scale = "auto") -> None:
    """Write frames ``[3, H, W]`` in ``[0, 1]`` (so a ``[T, 3, H, W]`` tensor will do) as H.264, whole or not at all.

    Raises `OSError` when the file cannot be written or the codec fails.
    """
    write_atomically(path, encode_video(frames, fps, crf=crf, scale=scale))


def encode_video(frames: Iterable[Tensor], fps: float, *, crf: int = 18, scale: Scale = "auto") -> bytes:
    """The bytes of an MP4 file. Raises `OSError` when the codec is missing or fails."""
    return Encoder(fps, crf=crf, scale=scale).finished(frames)


class Encoder:
    """Makes an MP4 file of frames that come bit by bit. Methods raise `OSError` when the codec is missing or fails."""

    def __init__(self, fps: float, *, crf: int = 18, scale: Scale = "auto") -> None:
        self._fps, self._crf, self._scale = fps, crf, scale
        self._file = BytesIO()
        self._container: Any = None
        self._stream: Any = None
        self._converter = VideoReformatter()  # one for all frames: each is costly to set up

    def add(self, frames: Iterable[Tensor]) -> None:
        """Encode frames ``[3, H, W]`` in ``[0, 1]``, the next ones of the video."""
        with _codec():
            for frame in frames:
                pixels = to_pixels(frame, self._scale)
                if self._stream is None:
                    self._container = av.open(self._file, "w", format="mp4")
                    self._stream = _add_stream(self._container, pixels.shape[:2], self._fps, self._crf)
                picture = av.VideoFrame.from_ndarray(numpy.ascontiguousarray(pixels), format="rgb24")
                picture = self._converter.reformat(picture, format="yuv420p", dst_colorspace=BT709)
                self._container.mux(self._stream.encode(picture))

    def finished(self, frames: Iterable[Tensor] = ()) -> bytes:
        """The bytes of the file, after these last frames. Raises `ValueError` where it has none."""
        self.add(frames)
        if self._stream is None:
            raise ValueError("There are no frames to encode.")
        with _codec():
            self._container.mux(self._stream.encode(None))
            self._container.close()
        return self._file.getvalue()


@contextmanager
def _codec() -> Iterator[None]:
    try:
        yield
    except (av.FFmpegError, UnknownCodecError) as error:
        raise OSError(f"the H.264 encoder failed ({error})") from error


def to_pixels(frame: Tensor, scale: Scale = "auto") -> numpy.ndarray[Any, Any]:
    """A frame ``[3, H, W]`` in ``[0, 1]`` as bytes ``[h, w, 3]``: enlarged, and its sides made even for H.264."""
    pixels = to_bytes(frame)
    height, width, _ = pixels.shape
    factor = -(-SMALLEST_SIDE // min(height, width)) if scale == "auto" else scale
    large = pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    odd = [(0, side % 2) for side in large.shape[:2]]
    return numpy.pad(large, [*odd, (0, 0)], mode="edge")


def _add_stream(container: Any, size: tuple[int, int], fps: float, crf: int) -> Any:
    stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options={"crf": str(crf)})
    stream.height, stream.width = size
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    # 1 is BT.709 in each of the three and limited range in the last: without tags, players guess by the size.
    context.colorspace = context.color_primaries = context.color_trc = context.color_range = 1
    return stream
