"""Interrupt seam: denoise one chunk with a pipeline whose own ``__call__`` makes the whole video.

For pipelines that draw every chunk's noise with ``self.prepare_latents`` and skip denoising steps while
``self.interrupt`` is true. Their ``__call__`` runs unmodified: committed chunks are fed back through
`prepare_latents` with the interrupt on (no transformer forward), the wanted chunk gets the candidates' noise with the
interrupt off, later chunks are skipped. Attention to the past, guidance, schedulers and casts are upstream's.
Only attributes of the one pipeline object are shadowed, and only while it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from inspect import signature
from itertools import count
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from diffusers.utils.torch_utils import randn_tensor

from streamt1_plugins.errors import InputError
from streamt1_seams.arguments import texts
from streamt1_seams.callbacks import EMBEDDINGS, HostCallback
from streamt1_seams.modules import shadowed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Generator, Tensor

Method: TypeAlias = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Window:
    """One chunk's call of `prepare_latents`.

    noise: an empty stand-in (no memory behind it) for the noise ``[1, C, F, h, w]``, for its shape, dtype and device.
    arguments: those of `prepare_latents` by name, without tensors and generators.
    """

    noise: Tensor
    arguments: Mapping[str, Any]


class InterruptSeam:
    """Runs a pipeline one chunk at a time. Opening it makes one call without a single transformer forward.

    pipe: a diffusers pipeline with `prepare_latents`, `interrupt` and ``output_type="latent"``.
    call: the arguments of one video, see `check_call`. only `draw` draws from `generator`, when it is passed
        that object.
    once: methods of the pipeline whose result is the same for every chunk (text and image encoders); they run once and
        their results are repeated for the candidates of a batch. In that one run they draw from a copy of `generator`.
    around: makes a context manager that is entered around every call of the pipeline.
    embeddings: what the pipeline's first call of `encode_prompt` returns first, under the names of its callback.

    `windows` has an entry per chunk, `blank` is what the opening call returned, `forwards` counts transformer forwards
    (every candidate of a batch for itself, both branches of guidance). See `HostCallback` for what a host's callback
    changes. Raises `InputError` for arguments the pipeline itself refuses.
    """

    def __init__(
        self,
        pipe: Any,
        call: Mapping[str, Any],
        once: Sequence[str] = (),
        around: Callable[[], AbstractContextManager[Any]] = nullcontext,
        embeddings: Sequence[str] = EMBEDDINGS,
    ) -> None:
        self.forwards = 0
        self.windows: tuple[Window, ...] = ()
        self._pipe, self._call, self._once, self._around = pipe, dict(call), once, around
        self._host, self._embeddings = HostCallback(call), embeddings
        self.generator: Generator = call.get("generator") or torch.Generator().manual_seed(0)
        self._known: dict[str, list[Any]] = {}
        self._state = self.generator.get_state()
        self._firsts: Any = None
        self._stopped = False
        self._is_open = True
        self.blank = self._open()

    def draw(self, index: int, generator: Generator) -> Tensor:
        """Noise ``[1, C, F, h, w]`` of chunk `index`; `self.generator` draws what the pipeline draws for it."""
        if generator is self.generator and index == 0:
            generator.set_state(self._state)  # after the draws of the encoders
        like = self.windows[index].noise
        noise: Tensor = randn_tensor(tuple(like.shape), generator=generator, device=like.device, dtype=like.dtype)
        return noise

    @property
    def prompt(self) -> str:
        """The text the call was given, empty where it has embeddings."""
        given = self._call["prompt"]
        return given if isinstance(given, str) else "".join(given or ())

    def run(self, index: int, chunks: Sequence[Tensor], noise: Tensor) -> Any:
        """Denoise chunk `index`, which follows `chunks`, from N candidates' noise ``[N, C, F, h, w]``.

        Every one of `chunks` is ``[1, C, F, h, w]`` in the shape of its window. Returns what the pipeline returns for
        ``output_type="latent"``; later chunks in it are not denoised.
        """
        if not self._is_open:
            raise RuntimeError("This session is closed; open a new one.")
        self._note_stop(True)  # set between two chunks
        self._host.begin(index)
        given = [*(chunk.expand(len(noise), *chunk.shape[1:]) for chunk in chunks[:index]), noise]
        places = count()

        def prepare(original: Method, *args: Any, **kwargs: Any) -> Any:
            place = next(places)
            self._note_stop(place == index + 1)
            self._pipe._interrupt = place != index or self._stopped
            if place == index:
                self._host.apply(self._pipe)
            if place == 0:  # what goes with the first chunk (an encoded image) was kept when opening
                latents, rest = self.windows[0].noise, _repeated(self._firsts, len(noise), single=False)
            else:
                latents, rest = _unpacked(original(*args, **kwargs))
            if place <= index:
                latents = given[place].to(latents).clone()  # pipelines denoise in place
            return latents if rest is None else (latents, *rest)

        result = self._called(prepare, torch.Generator(self.windows[0].noise.device), len(noise))
        self._note_stop(index == len(self.windows) - 1)
        self._pipe._interrupt = self._stopped
        self._host.end(index, self._pipe)
        return result

    def close(self) -> None:
        """Offload what was offloaded; a second call does nothing."""
        if self._is_open:
            self._is_open = False
            self._pipe.maybe_free_model_hooks()

    def _open(self) -> Any:
        """One call with every chunk interrupted: it finds the windows and computes what `once` names."""
        generator = torch.Generator(self.generator.device)
        generator.set_state(self.generator.get_state())
        windows: list[Window] = []

        def prepare(original: Method, *args: Any, **kwargs: Any) -> Any:
            state = generator.get_state()
            latents, rest = _unpacked(original(*args, **kwargs))
            if not windows:
                self._state, self._firsts = state, rest
            given = signature(original).bind(*args, **kwargs).arguments
            plain = {k: v for k, v in given.items() if not isinstance(v, (torch.Tensor, torch.Generator))}
            windows.append(Window(latents.new_empty(1).expand(latents.shape), plain))
            self._pipe._interrupt = True
            return latents if rest is None else (latents, *rest)

        try:
            blank = self._called(prepare, generator, 1)
        except ValueError as error:
            raise InputError(f"{type(self._pipe).__name__} refuses this call: {error}") from error
        finally:
            self._pipe._interrupt = False
        self.windows = tuple(windows)
        return blank

    def _called(self, prepare: Method, generator: Generator, batch: int) -> Any:
        pipe = self._pipe
        original, bar = pipe.prepare_latents, pipe.progress_bar
        shadows: dict[str, Any] = {
            "prepare_latents": lambda *args, **kwargs: prepare(original, *args, **kwargs),
            # Weights stay where they are between chunks; `close` frees them.
            "maybe_free_model_hooks": lambda: None,
            # The bar of a chunk that is not denoised would stay at zero.
            "progress_bar": lambda *args, **kwargs: nullcontext() if pipe._interrupt else bar(*args, **kwargs),
            **{name: self._remembering(name, getattr(pipe, name), batch) for name in self._once},
        }
        output = {"output_type": "latent", "return_dict": False}
        call = {**_batched(self._call, batch), **self._host.arguments(), "generator": generator, **output}
        with shadowed(pipe, shadows), self._around():
            counter = pipe.transformer.register_forward_pre_hook(self._count, with_kwargs=True)
            try:
                return pipe(**call)[0]
            finally:
                counter.remove()

    def _remembering(self, name: str, original: Method, batch: int) -> Method:
        """`original`, computed once per position in the call and repeated for a batch."""
        known, places = self._known.setdefault(name, []), count()

        def method(*args: Any, **kwargs: Any) -> Any:
            place = next(places)
            if place == len(known):
                known.append(original(*args, **kwargs))
            is_replaced = name == "encode_prompt" and place == 0
            return _repeated(self._replaced(known[place]) if is_replaced else known[place], batch)

        return method

    def _replaced(self, encoded: tuple[Any, ...]) -> tuple[Any, ...]:
        """The encoded prompt with the embeddings that the host's callback returned for an earlier chunk."""
        count = len(self._embeddings)
        first = zip(self._embeddings, encoded[:count], strict=True)
        return (*(self._host.embeddings(name, each) for name, each in first), *encoded[count:])

    def _note_stop(self, now: bool) -> None:
        """A callback of the host that interrupts the pipeline interrupts the rest of the video, as in a plain run."""
        self._stopped = self._stopped or (now and self._pipe._interrupt)

    def _count(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.forwards += len(kwargs["hidden_states"] if "hidden_states" in kwargs else args[0])


def _batched(call: Mapping[str, Any], batch: int) -> dict[str, Any]:
    """The call for `batch` candidates; texts become lists, since pipelines count prompts to find their batch size."""
    if batch == 1:
        return dict(call)
    return {**call, **{name: _rows(value, batch) for name, value in texts(call).items()}}


def _rows(value: Any, batch: int) -> Any:
    if isinstance(value, torch.Tensor):
        return _repeated(value, batch)
    return value * batch if isinstance(value, list) else [value] * batch


def _repeated(value: Any, batch: int, single: bool = True) -> Any:
    """Every row of a tensor (or of a tuple of them) `batch` times; anything else as it is.

    single: whether to repeat a lone row. Assigned to a batch it broadcasts, and upstream takes half of several rows
    for last images.
    """
    if isinstance(value, tuple):
        return tuple(_repeated(each, batch, single) for each in value)
    if batch == 1 or not isinstance(value, torch.Tensor) or (len(value) == 1 and not single):
        return value
    return value.repeat_interleave(batch, dim=0)


def _unpacked(prepared: Any) -> tuple[Tensor, tuple[Any, ...] | None]:
    """What `prepare_latents` returned: latents, alone or first in a tuple."""
    return (prepared[0], prepared[1:]) if isinstance(prepared, tuple) else (prepared, None)
