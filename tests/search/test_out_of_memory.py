"""Memory that runs out is recognised in all its words; batches are halved, and one candidate too many is one error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.errors import PluginError, StreamT1Error
from streamt1_plugins.replay import regenerate
from streamt1_plugins.runs.observers.record import record_to
from streamt1_plugins.search.out_of_memory import OutOfMemoryError, is_out_of_memory
from tests.cli.calling import generate, one_line
from tests.launching import without_times
from tests.toy import ToyPipeline, ToySession

CPU = "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: {}: you tried to allocate 9 bytes."
ERRORS = {
    "cuda": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    "cpu": lambda: RuntimeError(CPU.format("can't allocate memory")),
    "cpu, windows": lambda: RuntimeError(CPU.format("not enough memory")),
    "numpy": lambda: MemoryError("Unable to allocate 8.00 GiB for an array"),
    "c++": lambda: RuntimeError("std::bad_alloc"),
    "mps": lambda: RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)."),
    "mmap": lambda: RuntimeError("unable to mmap 8 bytes from file <a>: Cannot allocate memory (12)"),
    "system": lambda: OSError(12, "Cannot allocate memory"),
}


def caused() -> PluginError:
    error = PluginError("Decoding failed")
    error.__cause__ = MemoryError()
    return error


@pytest.mark.parametrize("error", [*ERRORS.values(), caused], ids=[*ERRORS, "caused"])
def test_its_words_are_recognised(error: Any) -> None:
    assert is_out_of_memory(error())


@pytest.mark.parametrize(
    "error", [RuntimeError("no"), RuntimeError(7), OSError(28, "full"), ValueError("std::bad_alloc")]
)
def test_other_errors_are_not(error: Exception) -> None:
    assert not is_out_of_memory(error)


def test_torch_itself_is_recognised() -> None:
    with pytest.raises(RuntimeError) as found:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(found.value)


def limit(monkeypatch: pytest.MonkeyPatch, most: int, error: Any) -> None:
    """A device that holds `most` candidates at once."""
    generate = ToySession.generate

    def limited(self: ToySession, history: Any, noise: torch.Tensor, generators: Any) -> torch.Tensor:
        latents = generate(self, history, noise, generators)
        if len(noise) > most:
            raise error()
        return latents

    monkeypatch.setattr(ToySession, "generate", limited)


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_a_batch_that_does_not_fit_is_halved_whatever_the_words(error: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> streamt1.StreamPipeline:
        pipe = streamt1.wrap(ToyPipeline(), overrides=["search.candidates=4", "search.batch=4"])
        pipe("a prompt")
        return pipe

    whole = run().tree
    limit(monkeypatch, 2, error)
    halved = run().tree
    assert any(note.startswith("Memory ran out with 4 candidates at once") for note in halved.notes)
    assert without_times(halved.to_dict()["nodes"]) == without_times(whole.to_dict()["nodes"])


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_one_candidate_too_many_is_an_error_that_names_what_to_change(
    error: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    limit(monkeypatch, 0, error)
    pipe = streamt1.wrap(ToyPipeline(), observers=record_to(tmp_path))
    with pytest.raises(
        OutOfMemoryError, match=r"Memory ran out on cpu in chunk 0 of 0 to 3 \(.*search\.top_k"
    ) as found:
        pipe("a prompt")
    for kind in (StreamT1Error, RuntimeError, MemoryError, torch.OutOfMemoryError):
        assert isinstance(found.value, kind), "programs that catch torch's or Python's error still do"


def test_a_replay_explains_it_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    streamt1.wrap(ToyPipeline(), observers=record_to(tmp_path))("a prompt")
    limit(monkeypatch, 0, ERRORS["cpu"])
    with pytest.raises(OutOfMemoryError, match="Memory ran out on cpu"):
        regenerate(tmp_path, pipe=ToyPipeline())


def test_a_command_prints_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    limit(monkeypatch, 0, ERRORS["cpu"])
    result = generate("--out", "run", "-q")
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert "Memory ran out on cpu" in line
    assert "Traceback" not in result.output


def test_a_model_that_does_not_fit_is_one_line_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def load(*_: object, **__: object) -> None:
        raise ERRORS["cpu"]()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tests.toy.ToyAdapter.load", load)
    assert "Loading the model" in one_line(generate("--out", "run", "-q"))
