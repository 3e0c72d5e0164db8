"""Every public call leaves the process as it was, however it ends, and beside what the program has open there."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import logging
import os
import random
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.figure
import pytest
import torch
import torch.distributed as dist
import typer
from typer.testing import CliRunner

import streamt1_plugins as streamt1
from streamt1_plugins import hookimpl
from streamt1_plugins.cli import main as cli
from streamt1_plugins.compare import run as comparing
from streamt1_plugins.plugins import discovery as hooks
from streamt1_plugins.runs.observers.record import record_to
from tests import neutral
from tests.compare.examples import comparison
from tests.neutral import unchanged_process
from tests.toy import Bright, ToyPipeline

WANDB_KEEPS = ("left: temporary files", "python: exit functions")
"""Until the process ends, with every run: it does so to the runs of the program too."""

LIBRARIES = (
    "streamt1_plugins.compare.page",
    "streamt1_plugins.probe.page",
    "streamt1_plugins.evaluation.remote.server",
    "streamt1_wan.convert",
    "streamt1_studio.serving",
    "wandb",
    "cv2",
)
"""What imports for the first time changes, such as filters of warnings, is the libraries' business."""


@pytest.fixture(autouse=True, scope="session")
def _libraries(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Imported, and used once: what a library sets up at its first use, and never again, is its own."""
    for name in LIBRARIES:
        importlib.import_module(name)
    folder = tmp_path_factory.mktemp("first")
    before = {name: os.environ.get(name) for name in ("WANDB_DIR", "WANDB_SILENT")}
    os.environ.update(WANDB_DIR=str(folder), WANDB_SILENT="true")
    wrapped("well", folder / "run", dashboards=True)("a prompt")
    streamt1.load("tinyworld", "plain")("a red circle", num_frames=9)
    axes = matplotlib.figure.Figure().add_subplot()
    axes.set_title("fonts stay open")
    axes.figure.savefig(folder / "plot.svg")
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_SILENT", "true")


class Trouble(Exception):
    """What the tests raise."""


class Ending:
    """An observer that raises in the second chunk."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    @hookimpl
    def streamt1_chunk_selected(self, chunk: streamt1.Chunk) -> None:
        if chunk.index == 1:
            raise self.error


class Failing(Bright):
    """A reward that raises in the second chunk."""

    def score(self, inp: Any) -> Any:
        if inp.chunk == 1:
            raise Trouble("no luck")
        return super().score(inp)


ENDINGS: dict[str, dict[str, Any]] = {
    "well": {},
    "reward": {"rewards": {"failing": Failing()}},
    "observer": {"observers": {"ending": Ending(Trouble("full"))}},
    "interrupt": {"observers": {"ending": Ending(KeyboardInterrupt())}},
    "exit": {"observers": {"ending": Ending(SystemExit(3))}},
    "refused": {"call": {"prompt": ""}},
    "pipeline": {"call": {"fail_at": 1}},
}
"""How a search ends: what `wrap` and the call get."""


def wrapped(how: str, folder: Path | None = None, *, dashboards: bool = False) -> streamt1.StreamPipeline:
    given = ENDINGS[how]
    observers = {**({} if folder is None else record_to(folder)), **given.get("observers", {})}
    if folder and dashboards:
        observers |= {"wandb": _wandb(folder), "trackers": _trackers(folder)}
    overrides = ["rewards.short.failing.on_error=raise"] if how == "reward" else []
    return streamt1.wrap(ToyPipeline(), overrides=overrides, rewards=given.get("rewards"), observers=observers)


def arguments(how: str) -> dict[str, Any]:
    return {"prompt": "a prompt", **ENDINGS[how].get("call", {})}


def _wandb(folder: Path) -> Any:
    from streamt1_plugins.runs.observers.wandb import Wandb

    return Wandb(mode="offline", folder=str(folder))


def _trackers(folder: Path) -> Any:
    from streamt1_plugins.runs.observers.trackers import Trackers

    return Trackers(folder=str(folder.with_name("logs")))


def recorded(folder: Path) -> Path:
    """A run that was interrupted after two of its four chunks."""
    if not folder.exists():
        observers = {**record_to(folder), "ending": Ending(KeyboardInterrupt())}
        with pytest.raises(KeyboardInterrupt):
            streamt1.wrap(ToyPipeline(), observers=observers)("a prompt")
    return folder


# The rows, by entry: a function of how the search ends and a new folder.


def call_it(how: str, folder: Path) -> None:
    wrapped(how, folder / "run", dashboards=True)(**arguments(how))


def stream_it(how: str, folder: Path) -> None:
    list(wrapped(how, folder / "run").stream(**arguments(how)))


def abandon_it(how: str, folder: Path) -> None:
    chunks = wrapped(how, folder / "run").stream(**arguments(how))
    next(chunks)
    del chunks


def step_it(how: str, folder: Path) -> None:
    pipe = wrapped(how, folder / "run")
    run = pipe.begin(**arguments(how))
    try:
        for _ in pipe.steps(run):
            pass
    finally:
        run.session.close()


def take_it(how: str, folder: Path) -> None:
    with wrapped(how, folder / "run").take(**arguments(how)) as take:
        take.roll()
        take.reroll(1)
        take.play(1)
        take.back()
        take.branch().play()
        take.play()
        take.save()


def take_over_it(how: str, folder: Path) -> None:
    pipe = wrapped(how, folder / "run")
    with pipe.take_over(pipe.begin(**arguments(how))) as take:
        take.play(2)


def drop_it(how: str, folder: Path) -> None:
    take = wrapped(how, folder / "run").take(**arguments(how))
    take.roll()
    del take


def complete_it(how: str, folder: Path) -> None:
    pipe = wrapped(how, folder / "run")
    pipe.complete(pipe.begin(**arguments(how)))


def resume_it(how: str, folder: Path) -> None:
    given = {**ENDINGS[how].get("observers", {})}
    streamt1.resume(folder / "recorded", ToyPipeline(), observers=given, **ENDINGS[how].get("call", {}))


def resume_take_it(how: str, folder: Path) -> None:
    given = {**ENDINGS[how].get("observers", {})}
    take = streamt1.resume_take(folder / "recorded", ToyPipeline(), observers=given, **ENDINGS[how].get("call", {}))
    with take:
        take.play()
        take.save()


def regenerate_it(how: str, folder: Path) -> None:
    streamt1.regenerate(folder / "recorded", None, ToyPipeline(), **ENDINGS[how].get("call", {}))


def export_it(how: str, folder: Path) -> None:
    call = ENDINGS[how].get("call", {})
    streamt1.export_runs(folder / "recorded", folder / "data", pipe=ToyPipeline(), **call)


def branch_it(how: str, folder: Path) -> None:
    given, call = ENDINGS[how].get("observers", {}), ENDINGS[how].get("call", {})
    pipe = streamt1.branch(folder / "recorded", "000.01", folder / "new", ToyPipeline(), observers=given, **call)
    pipe.complete(pipe.last_run)


def compare_it(how: str, folder: Path) -> None:
    call = {name: value for name, value in ENDINGS[how].get("call", {}).items() if name != "prompt"}
    for _ in comparing.run(comparison(call=call), folder / "out"):
        if how == "interrupt":
            raise KeyboardInterrupt


SEARCHES = {
    "__call__": call_it,
    "stream": stream_it,
    "stream, abandoned": abandon_it,
    "steps": step_it,
    "take": take_it,
    "take, abandoned": drop_it,
    "take_over": take_over_it,
    "complete": complete_it,
    "resume": resume_it,
    "resume_take": resume_take_it,
    "regenerate": regenerate_it,
    "export_runs": export_it,
    "branch": branch_it,
    "compare": compare_it,
}

SINGLE: dict[str, Callable[[Path], Any]] = {
    "wrap": lambda folder: streamt1.wrap(ToyPipeline()),
    "wrap, refused": lambda folder: streamt1.wrap(object()),
    "load": lambda folder: streamt1.load("toy"),
    "load, refused": lambda folder: streamt1.load("nothing-of-this-name"),
    "load, tinyworld": lambda folder: streamt1.load("tinyworld", "plain"),
    "begin": lambda folder: wrapped("well").begin("a prompt").session.close(),
    "to": lambda folder: streamt1.load("tinyworld", "plain").to("cpu"),
    "search": lambda folder: _searched(),
    "cost": lambda folder: wrapped("well").cost("a prompt"),
    "cost, refused": lambda folder: wrapped("well").cost(""),
    "unwrap": lambda folder: wrapped("well").unwrap(),
    "set_progress_bar_config": lambda folder: wrapped("well").set_progress_bar_config(disable=True),
    "probe_model": lambda folder: streamt1.probe_model(wrapped("well"), ["a prompt"], folder / "probed"),
    "probe_model, refused": lambda folder: streamt1.probe_model(wrapped("well"), []),
    "fit_weights": lambda folder: streamt1.fit_weights(wrapped("well"), ["a prompt"], "short-only", folder / "fitted"),
    "fit_weights, refused": lambda folder: streamt1.fit_weights(wrapped("well"), [], "short-only", folder / "fitted"),
    "set_observers": lambda folder: wrapped("well").set_observers({}),
    "record_to": lambda folder: record_to(folder / "run"),
    "fresh_seed": lambda folder: streamt1.fresh_seed(torch.Generator()),
    "chunk_noise": lambda folder: _drawn(),
    "read_prompts": lambda folder: _read(folder),
    "shipped_recipes": lambda folder: streamt1.shipped_recipes(),
    "scenes_of": lambda folder: streamt1.scenes_of([{"chunk": 1, "prompt": "b"}], "a"),
    "check_scenes": lambda folder: streamt1.check_scenes(streamt1.scenes_of([{"chunk": 1, "prompt": "b"}], "a"), 2),
    "deferred": lambda folder: streamt1.deferred("json").dumps({}),
}

PLUGIN = """
import streamt1_plugins


@streamt1_plugins.hookimpl
def streamt1_register_rewards(register):
    register("mine", target="tests.toy:Bright")
"""
FAILING = ("generate, broken", "convert", "recipes validate")
COMPARE = ("compare", "plain", "beam")
COMMANDS: dict[str, list[str]] = {
    "generate": ["generate", "a prompt", "--model", "toy", "--out", "run", "--wandb", "mine"],
    "generate, tinyworld": ["generate", "a red circle", "-r", "plain", "--out", "run", "--num-frames", "9"],
    "generate, prompts": ["generate", "--prompts", "prompts.txt", "--model", "toy", "--out", "runs", "--wandb", "mine"],
    "generate, broken": ["generate", "a prompt", "--model", "toy", "-o", "rewards.short.misshapen.on_error=raise"],
    "generate, refused": ["generate", "a prompt", "--recipe", "nothing"],
    "generate, resume": ["generate", "--resume", "tiny"],
    "compare": [*COMPARE, "--prompts", "prompts.txt", "--judge", "short-only", "--model", "toy", "--out", "compared"],
    "probe": ["probe", "toy", "--prompts", "prompts.txt", "--out", "probed", "--candidates", "4", "--chunks", "2"],
    "export": ["export", "tiny", "--as", "groups", "-o", "exported"],
    "export, refused": ["export", "nothing", "--as", "groups", "-o", "exported"],
    "replay": ["replay", "tiny"],
    "replay, refused": ["replay", "nothing"],
    "report": ["report", "recorded"],
    "report, refused": ["report", "nothing"],
    "plugins": ["plugins", "--details"],
    "plugins, of a file": ["--plugin", "neutral_file.py", "plugins"],
    "new-reward": ["new-reward", "warm-light"],
    "new-adapter": ["new-adapter", "warm-light"],
    "new-policy": ["new-policy", "warm-light", "--kind", "noise"],
    "serve-reward, refused": ["serve-reward", "drift", "-o", "half"],
    "convert": ["convert", "nothing.pt", "--base", "nothing", "--out", "converted"],
    "studio, refused": ["studio", "--host", "nothing.invalid", "--port", "0"],
    "recipes list": ["recipes", "list"],
    "recipes show": ["recipes", "show", "stream-t1", "--resolved"],
    "recipes copy": ["recipes", "copy", "beam", "mine.yaml"],
    "recipes validate": ["recipes", "validate", "stream-t1", "nothing"],
    "recipes schema": ["recipes", "schema"],
    "recipes diff": ["recipes", "diff", "beam", "stream-t1"],
}
"""Command lines by command; what follows a comma is another way through it."""


def _read(folder: Path) -> None:
    (folder / "prompts.txt").write_text("one\ntwo\n")
    streamt1.read_prompts(folder / "prompts.txt")


def _drawn() -> None:
    run = wrapped("well").begin("a prompt")
    streamt1.chunk_noise(run.session, run.session.root(), torch.Generator().manual_seed(0))
    run.session.close()


def _searched() -> None:
    pipe = wrapped("well")
    run = pipe.begin("a prompt")
    pipe.search(run)
    run.session.close()


# What the program has there.


@contextlib.contextmanager
def program_with_a_group(folder: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{folder / 'group'}", rank=0, world_size=1)
    try:
        yield
        dist.barrier()  # it still works
    finally:
        dist.destroy_process_group()


@contextlib.contextmanager
def program_with_wandb(folder: Path) -> Iterator[None]:
    import wandb

    hooks = sys.excepthook, sys.exit
    run = wandb.init(project="theirs", mode="offline", dir=folder, settings=wandb.Settings(console="off"))
    try:
        yield
        assert wandb.run is run
        wandb.log({"still": 1})
    finally:
        run.finish()
        wandb.teardown()
        sys.excepthook, sys.exit = hooks


@contextlib.contextmanager
def program_with_settings(folder: Path) -> Iterator[None]:
    """Everything set to something else than its default."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    before = {number: signal.signal(number, lambda *_: None) for number in numbers}
    hooks = (sys.excepthook, threading.excepthook)
    sys.excepthook, threading.excepthook = (lambda *_: None), (lambda *_: None)
    level = logging.getLogger("streamt1").level
    logging.getLogger("streamt1").setLevel(logging.ERROR)
    torch.manual_seed(5)
    random.seed(5)
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("default")
            yield
    finally:
        torch.use_deterministic_algorithms(False)
        del os.environ["TOKENIZERS_PARALLELISM"]
        logging.getLogger("streamt1").setLevel(level)
        sys.excepthook, threading.excepthook = hooks
        for number, handler in before.items():
            signal.signal(number, handler)


PROGRAMS = {"group": program_with_a_group, "wandb": program_with_wandb, "settings": program_with_settings}
ENDS = (Exception, KeyboardInterrupt, SystemExit)


@pytest.mark.parametrize("how", ENDINGS)
@pytest.mark.parametrize("entry", SEARCHES)
def test_a_search_leaves_the_process_as_it_was(entry: str, how: str, tmp_path: Path) -> None:
    recorded(tmp_path / "recorded")
    with unchanged_process(*WANDB_KEEPS if entry == "__call__" else ()), contextlib.suppress(*ENDS):
        SEARCHES[entry](how, tmp_path)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("entry", SEARCHES)
def test_a_search_leaves_what_the_program_has(entry: str, program: str, tmp_path: Path) -> None:
    recorded(tmp_path / "recorded")
    how = "interrupt" if entry in ("resume", "stream", "branch") else "well"
    with PROGRAMS[program](tmp_path), unchanged_process(*WANDB_KEEPS), contextlib.suppress(*ENDS):
        SEARCHES[entry](how, tmp_path)


@pytest.mark.parametrize("entry", SINGLE)
def test_a_call_leaves_the_process_as_it_was(entry: str, tmp_path: Path) -> None:
    with unchanged_process(), contextlib.suppress(*ENDS):
        SINGLE[entry](tmp_path)


IN_PROGRAMS = [("generate, broken", "group"), ("generate", "wandb"), ("generate, prompts", "settings")]
"""Of the commands: the rest of each is what a search does."""


@pytest.mark.parametrize(("entry", "program"), [*((entry, None) for entry in COMMANDS), *IN_PROGRAMS])
def test_a_command_leaves_the_process_as_it_was(
    entry: str, program: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded(tmp_path / "recorded")
    if "tiny" in COMMANDS[entry]:
        observers = record_to(tmp_path / "tiny")
        streamt1.load("tinyworld", "plain", observers=observers)("a red circle", num_frames=9)
    apart = WANDB_KEEPS if "--wandb" in COMMANDS[entry] or program == "wandb" else ()
    (tmp_path / "prompts.txt").write_text("one\ntwo\n")
    (tmp_path / "neutral_file.py").write_text(PLUGIN)
    if "--plugin" in COMMANDS[entry]:  # whose names are thrown away afterwards
        found = hooks.Discovery()
        monkeypatch.setattr(hooks, "discovery", lambda: found)
        monkeypatch.setitem(sys.modules, "neutral_file", None)
        monkeypatch.delitem(sys.modules, "neutral_file")
    with PROGRAMS[program](tmp_path) if program else contextlib.nullcontext(), unchanged_process(*apart):
        result = CliRunner().invoke(cli.app, COMMANDS[entry])
    assert (result.exit_code == 0) == ("refused" not in entry and entry not in FAILING), result.output


@pytest.mark.parametrize("how", ["well", "interrupt"])
def test_a_server_that_ends_leaves_the_process_as_it_was(how: str) -> None:
    from streamt1_plugins.cli.reward_worker import reward_server
    from streamt1_plugins.config.rewards import Place
    from streamt1_plugins.evaluation.remote.client import RemoteReward

    with unchanged_process(), contextlib.suppress(KeyboardInterrupt), reward_server("drift", {}) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        made = RemoteReward("drift", Place(url=server.url), {})
        made.load("cpu")
        made.unload()
        server.stop()
        thread.join()
        if how == "interrupt":
            raise KeyboardInterrupt


# No entry without a row.


def commands() -> set[str]:
    """The command lines' first words, those of plugins too."""
    group = typer.main.get_group(cli.app)
    context = typer.Context(group)
    found = set(group.list_commands(context)) - {"recipes"}
    return found | {f"recipes {name}" for name in group.get_command(context, "recipes").commands}


def test_every_command_has_a_row() -> None:
    assert {entry.partition(",")[0] for entry in COMMANDS} == commands()


def test_every_public_function_has_a_row() -> None:
    exported = {name for name in streamt1.__all__ if inspect.isroutine(getattr(streamt1, name))}
    methods = {name for name, value in vars(streamt1.StreamPipeline).items() if inspect.isroutine(value)}
    methods = {name for name in methods if not name.startswith("_") or name == "__call__"}
    rows = {entry.partition(",")[0] for entry in (*SEARCHES, *SINGLE)}
    assert rows - {"compare"} == exported | methods


# The comparison itself sees what it should.


def test_what_is_changed_is_found() -> None:
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(AssertionError, match="signals: SIGTERM"), unchanged_process():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, handler)
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="forgotten")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neutral, "PATIENCE", 0.0)
        with pytest.raises(AssertionError, match="forgotten"), unchanged_process():
            thread.start()
    stop.set()
    thread.join()
    with pytest.raises(AssertionError, match="torch: random"), unchanged_process():
        torch.rand(1)
    with pytest.raises(Trouble), unchanged_process():
        raise Trouble
