"""Interrupt-replay: denoise one chunk with a pipeline whose own ``__call__`` makes the whole video.

For pipelines that draw every chunk's noise with ``self.prepare_latents`` and skip denoising steps while
``self.interrupt`` is true. Their ``__call__`` runs unmodified: committed chunks are fed back through
`prepare_latents` with the interrupt on (no transformer forward), the wanted chunk gets the candidates' noise with the
interrupt off, later chunks are skipped. How a chunk sees its past, guidance, schedulers and casts stay upstream's.
Only attributes of the one pipeline object are shadowed, and only while it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from inspect import Parameter, signature
from itertools import count
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from diffusers.utils.torch_utils import randn_tensor

from streamt1_plugins.errors import InputError, UnsupportedPipelineError, guess

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Generator, Tensor

Method: TypeAlias = Callable[..., Any]
OUTPUT_TYPES = ("np", "pil", "pt", "latent")


@dataclass(frozen=True, slots=True)
class Window:
    """What the pipeline asked `prepare_latents` for, once per chunk.

    noise: an empty stand-in (no memory behind it) for the noise ``[1, C, F, h, w]``, for its shape, dtype and device.
    arguments: those of `prepare_latents` by name, without tensors and generators.
    """

    noise: Tensor
    arguments: Mapping[str, Any]


class Replay:
    """Runs a pipeline one chunk at a time. Opening it makes one call without a single transformer forward.

    pipe: a diffusers pipeline with `prepare_latents`, `interrupt` and ``output_type="latent"``.
    call: the arguments of one video, see `check_call`. `generator` is never drawn from, except by `draw` for the plain
        pipeline's own stream.
    once: methods of the pipeline whose result is the same for every chunk (text and image encoders); they run once and
        their results are repeated for the candidates of a batch. In that one run they draw from a copy of `generator`.
    around: makes a context manager that is entered around every call of the pipeline.

    `windows` has an entry per chunk, `blank` is what the opening call returned, `forwards` counts transformer forwards
    (every candidate of a batch for itself, both branches of guidance). What a callback of the host changes in the
    pipeline, besides `latents` and `_interrupt`, lasts for its chunk.
    Raises `InputError` for arguments the pipeline itself refuses.
    """

    def __init__(
        self,
        pipe: Any,
        call: Mapping[str, Any],
        once: Sequence[str] = (),
        around: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.forwards = 0
        self.windows: tuple[Window, ...] = ()
        self._pipe, self._call, self._once, self._around = pipe, dict(call), once, around
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
            generator.set_state(self._state)  # past what the encoders have drawn
        like = self.windows[index].noise
        noise: Tensor = randn_tensor(tuple(like.shape), generator=generator, device=like.device, dtype=like.dtype)
        return noise

    def run(self, index: int, chunks: Sequence[Tensor], noise: Tensor) -> Any:
        """Denoise chunk `index`, which `chunks` come before, from N candidates' noise ``[N, C, F, h, w]``.

        Every one of `chunks` is ``[1, C, F, h, w]`` in the shape of its window. Returns what the pipeline returns for
        ``output_type="latent"``; later chunks in it are not denoised.
        """
        if not self._is_open:
            raise RuntimeError("This session is closed; open a new one.")
        given = [*(chunk.expand(len(noise), *chunk.shape[1:]) for chunk in chunks[:index]), noise]
        places = count()

        def prepare(original: Method, *args: Any, **kwargs: Any) -> Any:
            place = next(places)
            self._note_stop(place == index + 1)
            self._pipe._interrupt = place != index or self._stopped
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
        self.windows = tuple(windows)
        self._pipe._interrupt = False
        return blank

    def _called(self, prepare: Method, generator: Generator, batch: int) -> Any:
        pipe = self._pipe
        original, bar = pipe.prepare_latents, pipe.progress_bar
        shadows: dict[str, Any] = {
            "prepare_latents": lambda *args, **kwargs: prepare(original, *args, **kwargs),
            # Weights stay where they are between chunks; `close` frees them.
            "maybe_free_model_hooks": lambda: None,
            # Nobody updates the bar of a chunk that is not denoised.
            "progress_bar": lambda *args, **kwargs: nullcontext() if pipe._interrupt else bar(*args, **kwargs),
            **{name: self._remembering(name, getattr(pipe, name), batch) for name in self._once},
        }
        call = {**_batched(self._call, batch), "generator": generator, "output_type": "latent", "return_dict": False}
        with shadowed(pipe, shadows), self._around():
            counter = pipe.transformer.register_forward_pre_hook(self._count, with_kwargs=True)
            try:
                return pipe(**call)[0]
            finally:
                counter.remove()

    def _remembering(self, name: str, original: Method, batch: int) -> Method:
        """`original`, computed once per place in the call and repeated for a batch."""
        known, places = self._known.setdefault(name, []), count()

        def method(*args: Any, **kwargs: Any) -> Any:
            place = next(places)
            if place == len(known):
                known.append(original(*args, **kwargs))
            return _repeated(known[place], batch)

        return method

    def _note_stop(self, now: bool) -> None:
        """A callback of the host that interrupts the pipeline interrupts the rest of the video, as in a plain run."""
        self._stopped = self._stopped or (now and self._pipe._interrupt)

    def _count(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.forwards += len(kwargs["hidden_states"] if "hidden_states" in kwargs else args[0])


@contextmanager
def shadowed(target: Any, attributes: Mapping[str, Any]) -> Iterator[None]:
    """Set instance attributes for the time of a with block; the class and its other objects are not touched."""
    own = vars(target)
    saved = {name: own[name] for name in attributes if name in own}
    own.update(attributes)
    try:
        yield
    finally:
        for name in attributes:
            del own[name]
        own.update(saved)


def check_call(pipe: Any, call: Mapping[str, Any], refused: Mapping[str, str]) -> dict[str, Any]:
    """The call's arguments over the defaults of ``pipe.__call__``: one prompt, one video. Raises `InputError`.

    refused: arguments of the pipeline that mean nothing in a search, and what to do instead.
    """
    known = {name: each for name, each in signature(type(pipe).__call__).parameters.items() if name != "self"}
    for name, value in call.items():
        if name not in known:
            raise InputError(f"Unknown argument {name!r}.{guess(name, known)} Known: {', '.join(sorted(known))}.")
        if name in refused and value is not None:
            raise InputError(f"The argument {name!r} cannot be used here: {refused[name]}.")
    defaults = {name: None if each.default is Parameter.empty else each.default for name, each in known.items()}
    full = {**defaults, **call}
    _check_text(full)
    for name, each in known.items():
        if each.default is Parameter.empty and name != "prompt" and full[name] is None:
            raise InputError(f"`{name}` is missing: {type(pipe).__name__} starts from it.")
    _check_choices(full)
    return full


def check_state(pipe: Any) -> None:
    """Raise `UnsupportedPipelineError` where a replayed chunk would differ from a plain one."""
    transformer = getattr(pipe.transformer, "_orig_mod", pipe.transformer)
    if getattr(transformer, "_parallel_config", None) is not None:
        raise UnsupportedPipelineError(
            "Context parallelism is enabled, which replayed chunks are not tested with. Leave `enable_parallelism` out."
        )
    if getattr(transformer, "is_cache_enabled", False):
        raise UnsupportedPipelineError(
            "A step cache is enabled on the transformer: it would carry features from one candidate to the next. Call "
            "`pipe.transformer.disable_cache()` first."
        )


def check_single(name: str, value: Any) -> None:
    """Raise `InputError` for a batch of images: a list of several, or an array with a batch dimension above 1."""
    size = len(value) if isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) > 3 else 1
    if size != 1:
        raise InputError(f"`{name}` has {size} entries, but one call makes one video: call once each.")


def _check_text(call: Mapping[str, Any]) -> None:
    if call["prompt"] is None and call["prompt_embeds"] is None:
        raise InputError("No prompt: pass `prompt` (a text) or `prompt_embeds`.")
    for name, value in _texts(call).items():
        entries = value if isinstance(value, (list, tuple, torch.Tensor)) else [value]
        if len(entries) != 1:
            raise InputError(
                f"`{name}` has {len(entries)} entries, but one call makes one video. Call once per prompt."
            )
        if not isinstance(entries[0], (str, torch.Tensor)):
            raise InputError(f"`{name}` has to be a text (str), got {type(entries[0]).__name__}: {entries[0]!r}.")
        if name == "prompt" and not str(entries[0]).strip():
            raise InputError("`prompt` is empty: say what the video should show.")


def _check_choices(call: Mapping[str, Any]) -> None:
    if call["num_videos_per_prompt"] != 1:
        found = call["num_videos_per_prompt"]
        raise InputError(f"`num_videos_per_prompt` has to be 1, got {found}: call once per video, with its own seed.")
    if call["output_type"] not in OUTPUT_TYPES:
        raise InputError(f"`output_type` has to be one of {', '.join(OUTPUT_TYPES)}, got {call['output_type']!r}.")
    if not isinstance(call["generator"], (torch.Generator, type(None))):
        raise InputError(f"`generator` has to be of type Generator, got {type(call['generator']).__name__}.")


def _texts(call: Mapping[str, Any]) -> dict[str, Any]:
    """Prompts, their embeddings and masks, as far as they are given."""
    other = ("num_videos_per_prompt", "prompt_template")
    return {name: value for name, value in call.items() if "prompt" in name and name not in other and value is not None}


def _batched(call: Mapping[str, Any], batch: int) -> dict[str, Any]:
    """The call for `batch` candidates; texts become lists, since pipelines count prompts to find their batch size."""
    if batch == 1:
        return dict(call)
    return {**call, **{name: _rows(value, batch) for name, value in _texts(call).items()}}


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
