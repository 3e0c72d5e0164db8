"""One function places every pipeline: the same devices, checks and offloading, whichever entry it came through."""

from __future__ import annotations

from collections.abc import Callable
from inspect import isfunction
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch
from accelerate.hooks import ModelHook

import streamt1_plugins as streamt1
from streamt1_plugins.cli.main import app
from streamt1_plugins.compare.run import Pipelines
from streamt1_plugins.config import load as recipes
from streamt1_plugins.config.schema import PlacementSettings
from streamt1_plugins.errors import InputError, RecipeError, StreamT1Error, UnknownNameError, UnsupportedPipelineError
from streamt1_plugins.process import placement
from streamt1_plugins.resuming import open_interrupted
from tests import toy
from tests.cli.calling import call, one_line
from tests.toy import ToyPipeline

OFFLOAD = "placement.offload=[text_encoder, vae]"
EXPECTED = [("text_encoder", "whole"), ("transformer", "moved"), ("vae", "layers")]


class Recording(torch.nn.Module):
    """A component that notes where it goes instead of going there."""

    def __init__(self, name: str, log: list[tuple[str, ...]]) -> None:
        super().__init__()
        self.name, self.log = name, log

    def to(self, device: Any) -> Any:
        self.log.append((self.name, "moved", str(device)))
        return self


class RecordingPipeline(ToyPipeline):
    """A toy whose components and own `to` keep a log."""

    def __init__(self, log: list[tuple[str, ...]]) -> None:
        self.log = log
        self.components = {name: Recording(name, log) for name in ("text_encoder", "transformer", "vae")}

    def to(self, *args: Any, **kwargs: Any) -> Any:
        self.log.append(("pipeline", "moved", *map(str, args), *map(str, kwargs.values())))
        return self


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Where the components of every toy pipeline go, on a machine that seems to have two GPUs."""
    found: list[tuple[str, ...]] = []

    def offload(how: str) -> Callable[..., None]:
        def hook(module: Any, device: Any) -> None:
            found.append((module.name, how, str(device)))
            module._hf_hook = ModelHook()

        return hook

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(accelerate, "cpu_offload_with_hook", offload("whole"))
    monkeypatch.setattr(accelerate, "cpu_offload", offload("layers"))
    monkeypatch.setattr(toy.ToyAdapter, "load", lambda self, model: RecordingPipeline(found))
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    return found


@pytest.fixture
def run(tmp_path: Path, log: list[tuple[str, ...]]) -> Path:
    """A run recorded with offloading, whose model can be loaded again."""
    folder = tmp_path / "run"
    streamt1.load("toy", device="cpu", overrides=[OFFLOAD], observers=streamt1.record_to(folder))("a prompt")
    log.clear()
    return folder


def prompts(folder: Path) -> str:
    (folder / "prompts.txt").write_text("a prompt\n")
    return str(folder / "prompts.txt")


def command(*args: str) -> None:
    """A command; its own errors as they are."""
    result = call(*args)
    if result.exit_code == 2 and isinstance(result.exception, SystemExit):
        raise InputError(one_line(result))
    assert result.exit_code == 0, result.output


def generated(run: Path, *rest: str) -> None:
    command("generate", "a prompt", "--model", "toy", "-o", OFFLOAD, "--out", str(run) + "-new", "-q", *rest)


def batch(run: Path, *rest: str) -> None:
    out = ("--prompts", prompts(run.parent), "--out", str(run) + "-many")
    command("generate", *out, "--model", "toy", "-o", OFFLOAD, *rest)


def compared(run: Path, *rest: str) -> None:
    rest = ("--prompts", prompts(run.parent), "--judge", "short-only", "--out", str(run) + "-compared", *rest)
    command("compare", "plain", "--model", "toy", "-o", OFFLOAD, *rest)


def probed(run: Path, *rest: str) -> None:
    rest = ("--prompts", prompts(run.parent), "--out", str(run) + "-probed", *rest)
    command("probe", "toy", "--candidates", "4", "--chunks", "2", "-o", OFFLOAD, *rest)


def exported(run: Path, *rest: str) -> None:
    command("export", str(run), "--as", "groups", "-o", f"{run}-data", *rest)


def option(device: str | None) -> tuple[str, ...]:
    return () if device is None else ("--device", device)


ENTRIES: dict[str, Callable[[Path, str | None], object]] = {
    "streamt1 generate": lambda run, device: generated(run, *option(device)),
    "streamt1 generate --prompts": lambda run, device: batch(run, *option(device)),
    "streamt1 generate --resume": lambda run, device: command("generate", "--resume", str(run), *option(device)),
    "streamt1 replay": lambda run, device: command("replay", str(run), *option(device)),
    "streamt1 replay --continue-from": lambda run, device: command(
        "replay", str(run), "--continue-from", "001.00", *option(device)
    ),
    "streamt1 export": lambda run, device: exported(run, *option(device)),
    "streamt1 compare": lambda run, device: compared(run, *option(device)),
    "streamt1 probe": lambda run, device: probed(run, *option(device)),
    "load": lambda run, device: streamt1.load("toy", device=device, overrides=[OFFLOAD]),
    "resume": lambda run, device: streamt1.resume(run, device=device),
    "regenerate": lambda run, device: streamt1.regenerate(run, device=device),
    "resume_take": lambda run, device: streamt1.resume_take(run, device=device).close(),
    "branch": lambda run, device: streamt1.branch(run, "001.00", f"{run}-branch", device=device),
    "export_runs": lambda run, device: streamt1.export_runs(run, f"{run}-data", device=device),
    "open_interrupted": lambda run, device: open_interrupted(run, device=device),
}
"""Everything that loads a model, called with a device."""
NO_MODEL = {
    "streamt1 report": "reads a record",
    "streamt1 plugins": "reads name tables",
    "streamt1 new-reward": "writes a package",
    "streamt1 new-adapter": "writes a package",
    "streamt1 new-policy": "writes a package",
    "streamt1 serve-reward": "loads a reward, whose device is tested below",
    "wrap": "takes the caller's pipeline where it is",
    "probe_model": "takes a wrapped pipeline where it is",
    "fit_weights": "takes a wrapped pipeline where it is",
    "record_to": "makes observers",
    "chunk_noise": "draws noise",
    "fresh_seed": "makes a number",
    "read_prompts": "reads a text file",
    "scenes_of": "reads a schedule",
    "check_scenes": "compares numbers",
    "deferred": "imports a module",
    "shipped_recipes": "lists recipes",
}


def test_every_entry_is_here() -> None:
    """A new command, or a new function of the package, loads no model or is tested below."""
    commands = {f"streamt1 {each.callback.__name__.replace('_', '-')}" for each in app.registered_commands}
    functions = {name for name in streamt1.__all__ if isfunction(getattr(streamt1, name))}
    assert commands | functions <= {*ENTRIES, *NO_MODEL}


def test_models_are_loaded_in_one_place() -> None:
    package = Path(streamt1.__file__).parent
    loading = [path.name for path in package.rglob("*.py") if "build.adapter(resolved).load(" in path.read_text()]
    assert loading == ["pipeline.py"]
    users = [path.name for path in package.rglob("*.py") if "cpu_offload" in path.read_text()]
    assert users == ["placement.py"]


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_entry_offloads_on_the_given_device(entry: str, run: Path, log: list[tuple[str, ...]]) -> None:
    ENTRIES[entry](run, "cuda:1")
    assert log == [(*each, "cuda:1") for each in EXPECTED]


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_entry_has_a_default(entry: str, run: Path, log: list[tuple[str, ...]]) -> None:
    """A recorded run stays where it was made; everything else takes the GPU."""
    ENTRIES[entry](run, None)
    recorded = (
        "resume",
        "resume_take",
        "regenerate",
        "branch",
        "interrupted",
        "replay",
        "continue-from",
        "export",
        "export_runs",
    )
    is_recorded = entry.endswith(recorded)
    assert log == ([("pipeline", "moved", "cpu")] if is_recorded else [(*each, "cuda") for each in EXPECTED])


WRONG = {
    "cuda:7": "this machine does not have 'cuda:7'. It has cpu, cuda:0 to cuda:1.",
    "mps": "this machine does not have 'mps'. It has cpu, cuda:0 to cuda:1.",
    "cudda": "'cudda' is not the name of a device. Did you mean 'cuda'? This machine has cpu, cuda:0 to cuda:1.",
    "": "'' is not the name of a device.",
    "cuda:999": "does not have 'cuda:999'",  # torch reads it as number -25
}


@pytest.mark.parametrize("device", WRONG)
@pytest.mark.parametrize("entry", ENTRIES)
def test_every_entry_refuses_a_device_that_is_not_there(
    entry: str, device: str, run: Path, log: list[tuple[str, ...]]
) -> None:
    with pytest.raises(InputError) as refused:
        ENTRIES[entry](run, device)
    assert WRONG[device] in str(refused.value)
    assert log == []


@pytest.mark.parametrize(
    "device",
    ["nonsense", "cuda:", "cuda:x", "cuda:-1", "cuda:²", "CUDA", "0", "cuda:99999999999999999999", "hpu", "fpga"],
)
def test_no_name_of_a_device_is_a_raw_error(device: str, log: list[tuple[str, ...]]) -> None:
    with pytest.raises(InputError, match=r"not the name of a device|does not have"):
        placement.chosen(device)


def test_nothing_is_generated_without_data(log: list[tuple[str, ...]]) -> None:
    with pytest.raises(InputError, match="'meta' hold no data"):
        placement.chosen("meta")


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1", torch.device("cuda", 1)])
def test_a_device_that_is_there_is_taken(device: object, log: list[tuple[str, ...]]) -> None:
    assert placement.chosen(device) == str(device)


def test_auto_is_the_best_one(log: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    assert placement.chosen("auto", recorded="cpu") == placement.chosen() == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert placement.chosen("auto") == "cpu"


@pytest.mark.parametrize("rank", [0, 1, 2, 5])
def test_a_launched_process_takes_the_gpu_of_its_number(
    rank: int, log: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the user names `cuda`, or the first process recorded its own GPU; more processes share the GPUs."""
    monkeypatch.setenv("LOCAL_RANK", str(rank))
    own = f"cuda:{rank % 2}"
    assert [placement.chosen(), placement.chosen("cuda"), placement.chosen(None, "cuda:0")] == [own] * 3
    assert (placement.chosen("cuda:0"), placement.chosen("cpu")) == ("cuda:0", "cpu")


def test_a_record_of_a_device_that_is_not_there_needs_another_one() -> None:
    with pytest.raises(InputError, match=r"recorded run: .* does not have 'cuda:0'\. It has cpu\. Name another device"):
        placement.chosen(None, "cuda:0")


def test_a_pipeline_that_is_passed_is_moved_only_on_demand(run: Path, log: list[tuple[str, ...]]) -> None:
    given = RecordingPipeline(log)
    streamt1.regenerate(run, pipe=given)
    assert log == []
    streamt1.regenerate(run, pipe=given, device="cuda:1")
    assert log == [(*each, "cuda:1") for each in EXPECTED]


def test_moving_the_wrapper_offloads(log: list[tuple[str, ...]]) -> None:
    pipe = streamt1.wrap(RecordingPipeline(log), "plain", adapter="toy", overrides=[OFFLOAD])
    assert pipe.to("cuda", torch.float16) is pipe
    assert log == [("pipeline", "moved", "torch.float16"), *((*each, "cuda") for each in EXPECTED)]
    log.clear()
    pipe.to(torch.float16)
    streamt1.wrap(pipe, "plain").to("cuda")
    assert log == [("pipeline", "moved", "torch.float16"), ("pipeline", "moved", "cuda")], "as the pipeline does it"
    with pytest.raises(InputError, match="'cuda:7'"):
        pipe.to("cuda:7")


def test_one_model_is_placed_anew_for_a_recipe_with_other_placement(log: list[tuple[str, ...]]) -> None:
    pipelines = Pipelines("toy", "cuda:0")
    first = pipelines(recipes.load("plain", [OFFLOAD]))
    log.clear()
    second = pipelines(recipes.load("plain", ["placement.offload=[transformer]"]))
    assert first.pipe is second.pipe
    moved = [("text_encoder", "moved", "cuda:0"), ("transformer", "layers", "cuda:0"), ("vae", "moved", "cuda:0")]
    assert log == moved
    assert placement.offloaded(second.pipe) == ["transformer"]
    log.clear()
    pipelines(recipes.load("stream-t1", ["placement.offload=[transformer]"]))
    assert log == []


def test_a_run_notes_what_does_not_act(log: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    def notes(pipe: streamt1.StreamPipeline) -> list[str]:
        pipe("a prompt")
        return [note for note in pipe.tree.notes if "offload" in note]

    overrides = [OFFLOAD, "search.offload=cpu"]
    on_cpu = ["placement.offload does nothing here: the pipeline runs on the CPU."]
    on_cpu += ["search.offload=cpu does nothing here: the pipeline runs on the CPU."]
    assert notes(streamt1.load("toy", device="cpu", overrides=overrides)) == on_cpu
    pipe = streamt1.wrap(RecordingPipeline(log), adapter="toy", overrides=[OFFLOAD])
    found = list(placement.notes(pipe.pipe, pipe.recipe, "cuda:0"))
    assert found == [
        "placement.offload was not applied to text_encoder, vae: the caller placed the pipeline. "
        "Calling `.to('cuda:0')` on the wrapped pipeline applies it."
    ]
    pipe.to("cuda:0")
    assert list(placement.notes(pipe.pipe, pipe.recipe, "cuda:0")) == []


def test_a_pipeline_without_to_runs_on_the_cpu_alone(log: list[tuple[str, ...]]) -> None:
    placement.place(ToyPipeline(), PlacementSettings(), "cpu")
    with pytest.raises(UnsupportedPipelineError, match="ToyPipeline has no method `to`"):
        placement.place(ToyPipeline(), PlacementSettings(), "cuda")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_an_unknown_component_is_named_with_those_there_are(device: str, log: list[tuple[str, ...]]) -> None:
    with pytest.raises(UnknownNameError, match=r"'unet'.*Known: text_encoder, transformer, vae"):
        streamt1.load("toy", device=device, overrides=["placement.offload=[unet]"])


@pytest.mark.parametrize(
    ("key", "device"),
    [
        ("rewards.short.bright.device", "cuda:7"),
        ("rewards.short.bright.device", "nonsense"),
        ("rewards.long.bright.device", "mps"),
        ("noise.device", "cudda"),
    ],
)
@pytest.mark.parametrize("offload", [True, False])
def test_a_device_in_a_recipe_is_checked_before_anything_is_generated(
    key: str, device: str, offload: bool, log: list[tuple[str, ...]]
) -> None:
    """Also that of a reward which is loaded when the first candidates are there."""
    rewards = {"bright": {"offload": offload}}
    pipe = streamt1.wrap(ToyPipeline(), {"extends": "stream-t1", "rewards": {"short": rewards, "long": rewards}})
    with pytest.raises(RecipeError, match=f"{key.partition('.')[0]}.*device.*'{device}'"):
        streamt1.wrap(pipe, pipe.recipe, overrides=[f"{key}={device}"])("a prompt")
    assert pipe.run is None or pipe.run.cost.candidates == 0


def test_a_served_reward_has_a_device_that_is_there(log: list[tuple[str, ...]]) -> None:
    found = one_line(call("serve-reward", "bright", "--device", "cuda:7", "--port", "0"))
    assert "device: this machine does not have 'cuda:7'" in found


def test_a_reward_behind_a_url_has_the_devices_of_its_server() -> None:
    where = {"device": "cuda:7", "where": "http://127.0.0.1:1"}
    pipe = streamt1.wrap(ToyPipeline(), {"extends": "stream-t1", "rewards": {"short": {"bright": where}}})
    with pytest.raises(StreamT1Error, match="reach"):
        pipe("a prompt")


@pytest.mark.parametrize("component", ["transformer", "vae", "text_encoder"])
def test_offloaded_components_give_the_same_video(component: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """accelerate's hooks at work, between the CPU and the CPU."""

    def frames(*overrides: str) -> torch.Tensor:
        pipe = streamt1.load("tinyworld", "plain", device="cpu", overrides=overrides)
        assert placement.offloaded(pipe.pipe) == ([component] if overrides else [])
        call = {"generator": torch.Generator().manual_seed(0), "num_frames": 21, "output_type": "pt"}
        found = pipe("a red circle moving right on a blue background", **call)
        placement.place(pipe.pipe, PlacementSettings(), "cpu")
        assert placement.offloaded(pipe.pipe) == []
        assert not any(weight.is_meta for weight in pipe.pipe.components[component].parameters())
        frames: torch.Tensor = found.frames
        return frames

    plain = frames()
    monkeypatch.setattr(placement, "is_cpu", lambda device: False)
    assert torch.equal(frames(f"placement.offload=[{component}]"), plain)
