"""Rewards in processes of their own: the same scores, clear failures, and runs that survive them."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_basic.rewards import Drift, Flicker
from streamt1_plugins.api.reward import Reward, RewardInput, RewardOutput
from streamt1_plugins.cli.reward_worker import Serving, server
from streamt1_plugins.config.rewards import Place
from streamt1_plugins.errors import InputError, PluginError, RecipeError, UnreachableError
from streamt1_plugins.evaluation.remote import wire
from streamt1_plugins.evaluation.remote.client import RemoteReward
from streamt1_plugins.evaluation.remote.server import RewardServer
from streamt1_plugins.testing import RewardContract
from tests.toy import ToyPipeline

CONTRACT = RewardContract()


def example() -> RewardInput:
    return CONTRACT.make_input(lead=4)


# The wire.


def test_an_input_arrives_as_it_was_sent() -> None:
    for inp in (example(), replace(example(), anchor=None, frame_ids=(), prompts=("ä", "日本", '"', ""))):
        got = wire.unpack_input(wire.pack_input(inp))
        assert torch.equal(got.video, inp.video)
        assert (got.anchor is None) == (inp.anchor is None)
        rest = {"video": None, "anchor": None}
        assert replace(got, **rest) == replace(inp, **rest)


def test_an_output_arrives_as_it_was_sent() -> None:
    scores = torch.tensor([0.1, float("nan"), -3.0])
    output = RewardOutput(scores, {"a.b": scores * 2}, scores > 0)
    got = wire.unpack_output(wire.pack_output(output))
    assert torch.equal(got.scores, scores) or torch.equal(got.scores.isnan(), scores.isnan())
    assert list(got.parts) == ["a.b"]
    assert got.valid is not None
    assert got.valid.tolist() == [True, False, False]


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00" * 8, b"\xff" * 40, b"\x02" + b"\x00" * 7 + b"{}", wire.pack_output(RewardOutput(torch.ones(1)))],
)
def test_what_is_no_input_is_refused(data: bytes) -> None:
    with pytest.raises(PluginError):
        wire.unpack_input(data)


def test_prompts_and_videos_must_be_as_many() -> None:
    with pytest.raises(PluginError, match="3 prompts and a video of shape"):
        wire.unpack_input(wire.pack_input(replace(example(), prompts=("a",) * 3)))


# The server, in this process.


@contextmanager
def serving(name: str = "flicker", reward: Reward | None = None, **changes: Any) -> Iterator[RewardServer]:
    """A server on a thread; with `reward` it answers with that one."""
    with server(Serving(name, {}, **changes)) as bound:
        bound.reward = reward or bound.reward
        thread = Thread(target=bound.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield bound
        finally:
            bound.shutdown()
            thread.join()


def remote(bound: RewardServer, name: str = "flicker", **place: Any) -> RemoteReward:
    made = RemoteReward(name, Place(url=bound.url, **place), {})
    made.load("cpu")
    return made


class TestOverHttp(RewardContract):
    tolerance = 0.0

    @classmethod
    def setup_class(cls) -> None:
        cls.serving = serving("drift")
        cls.bound = cls.serving.__enter__()
        super().setup_class()

    @classmethod
    def teardown_class(cls) -> None:
        super().teardown_class()
        cls.serving.__exit__(None, None, None)

    def make_reward(self) -> Reward:
        return RemoteReward("drift", Place(url=self.bound.url), {})

    def test_scores_are_those_of_the_reward_itself(self) -> None:
        for inp in self.inputs():
            assert torch.equal(self.scores(inp), Drift().score(inp).scores)


def test_what_a_reward_declares_comes_from_its_server() -> None:
    with serving("seam") as bound:
        assert remote(bound, "seam").lead_frames == 1


def test_a_server_of_another_reward_is_noticed() -> None:
    with serving() as bound, pytest.raises(PluginError, match="offers 'flicker' instead"):
        remote(bound, "seam")


def test_candidates_that_do_not_fit_into_one_request_are_sent_in_several() -> None:
    with serving(max_mb=2) as bound:
        made, inp = remote(bound), example()
        assert torch.equal(made.score(inp).scores, Flicker().score(inp).scores)
        big = replace(inp, video=inp.video.repeat(1, 4, 1, 1, 1))
        with pytest.raises(PluginError, match=r"a candidate has .* bytes, its server takes 2097152"):
            made.score(big)


@dataclass
class Failing(Reward):
    how: str = "raise"

    def score(self, inp: RewardInput) -> RewardOutput:
        if self.how == "sleep":
            time.sleep(2)
        raise ZeroDivisionError("no luck")


def test_a_reward_that_fails_over_there_is_named_with_its_reason() -> None:
    with serving(reward=Failing()) as bound, pytest.raises(PluginError, match="ZeroDivisionError: no luck") as caught:
        remote(bound).score(example())
    assert not isinstance(caught.value, UnreachableError)


def test_a_server_that_is_too_slow_is_given_up() -> None:
    with serving(reward=Failing("sleep")) as bound:
        made = remote(bound, timeout=0.2)
        start = time.monotonic()
        with pytest.raises(UnreachableError, match="did not answer in 0 s"):
            made.score(example())
        assert time.monotonic() - start < 1.5


def test_health_is_answered_while_a_score_takes_its_time() -> None:
    with serving(reward=Failing("sleep")) as bound:
        made = remote(bound)
        failed: list[Exception] = []

        def score() -> None:
            try:
                made.score(example())
            except PluginError as error:
                failed.append(error)

        asking = Thread(target=score)
        asking.start()
        assert ask(bound, "GET", "/health") == (200, b'{"ok": true}')
        asking.join()
        assert len(failed) == 1


def ask(bound: RewardServer, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", bound.server_port, timeout=5)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


def test_requests_that_make_no_sense_are_refused() -> None:
    with serving(max_mb=1) as bound:
        assert ask(bound, "GET", "/etc/passwd")[0] == 404
        assert ask(bound, "POST", "/nothing", b"")[0] == 404
        assert ask(bound, "POST", "/score", b"no tensors")[0] == 422
        assert ask(bound, "POST", "/score", None, **{"Transfer-Encoding": "chunked"})[0] == 411  # no length
        big = {"Content-Length": str(2**21)}
        assert ask(bound, "POST", "/score", None, **big)[0] == 413
        assert ask(bound, "POST", "/score", None, **{"Content-Length": "-1"})[0] == 413
        assert ask(bound, "GET", "/health")[0] == 200


def test_a_secret_is_asked_for_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(wire.TOKEN, "sesame")
    with serving() as bound:
        assert remote(bound).horizons == ("short", "long")
        monkeypatch.setenv(wire.TOKEN, "guess")
        with pytest.raises(PluginError, match="The secret is wrong or missing"):
            remote(bound)


def test_an_address_open_to_others_needs_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(wire.TOKEN, raising=False)
    with pytest.raises(InputError, match=r"0\.0\.0\.0 can be reached by others"), serving(host="0.0.0.0"):
        pass


def test_a_port_in_use_is_named() -> None:
    with serving() as bound:
        taken = serving(port=bound.server_port)
        with pytest.raises(InputError, match=rf"Cannot serve on 127\.0\.0\.1:{bound.server_port}"), taken:
            pass


def test_a_server_that_is_not_there_is_named_before_anything_is_generated() -> None:
    with serving() as bound:
        url = bound.url
    pipe = streamt1.wrap(ToyPipeline(), overrides=[f"rewards.short={{flicker: {{where: '{url}'}}}}"])
    with pytest.raises(UnreachableError, match=rf"Reward 'flicker': {url} cannot be reached"):
        pipe("a prompt")
    assert pipe.last_run.cost.candidates == 0


def test_a_server_that_speaks_something_else_is_named() -> None:
    with serving() as bound:
        bound.offer = bound.offer.model_copy(update={"protocol": 9})
        with pytest.raises(PluginError, match="is no reward server"):
            remote(bound)


def test_a_place_is_a_url_or_an_interpreter() -> None:
    assert Place.model_validate("http://127.0.0.1:1").url == "http://127.0.0.1:1"
    assert Place.model_validate("bin/python").python == "bin/python"
    with pytest.raises(RecipeError, match="name either `url` or `python`"):
        streamt1.wrap(ToyPipeline(), overrides=["rewards.short={flicker: {where: {timeout: 3}}}"])


# Another interpreter.


def test_an_interpreter_that_cannot_start_is_named() -> None:
    made = RemoteReward("flicker", Place(python="no-such-python"), {})
    with pytest.raises(UnreachableError, match="no-such-python cannot be started"):
        made.load("cpu")


def test_the_last_words_of_an_interpreter_are_told() -> None:
    made = RemoteReward("flicker", Place(python=sys.executable), {"halves": 1})
    with pytest.raises(UnreachableError, match=r"ended with code 2\. It said: .*has no option 'halves'"):
        made.load("cpu")


def test_an_interpreter_that_takes_too_long_is_ended() -> None:
    made = RemoteReward("flicker", Place(python=sys.executable, start_timeout=0.05), {})
    with pytest.raises(UnreachableError, match="was not ready in 0 s"):
        made.load("cpu")


def test_a_process_ends_with_its_reward_and_starts_again() -> None:
    made = RemoteReward("flicker", Place(python=sys.executable), {"half": 0.3})
    made.load("cpu")
    assert made.process is not None
    first = made.process.popen
    inp = example()
    assert torch.equal(made.score(inp).scores, Flicker(0.3).score(inp).scores)
    made.unload()
    assert first.poll() == 0
    made.unload()


def test_a_process_does_not_outlive_the_one_that_started_it() -> None:
    code = (
        "import sys; from streamt1_plugins.evaluation.remote.client import RemoteReward\n"
        "from streamt1_plugins.config.rewards import Place\n"
        "made = RemoteReward('flicker', Place(python=sys.executable), {}); made.load('cpu')\n"
        "import os; print(made.process.popen.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stdout
    assert gone(int(said)), "the server is still there"


def gone(process: int) -> bool:
    for _ in range(100):
        status = Path(f"/proc/{process}/stat")
        if not status.exists() or status.read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.1)
    return False


# A run with both.


@pytest.fixture
def command() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`streamt1 serve-reward drift` as a user starts it, and its address."""
    start = [sys.executable, "-m", "streamt1_plugins", "serve-reward", "drift", "--port", "0", "--device", "cpu"]
    process = subprocess.Popen([*start, "-o", "half=0.1"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("Serving 'drift' at http://127.0.0.1:"), line
    yield process, line.split()[3]
    process.kill()
    process.wait()


def test_a_run_survives_the_death_of_both_and_says_so(command: tuple[subprocess.Popen[str], str]) -> None:
    process, url = command
    rewards = {
        "short": {
            "bright": {},
            "flicker": {"where": {"python": sys.executable}, "on_error": "skip", "unload": True},
            "drift": {"where": {"url": url, "retries": 0}, "on_error": "skip"},
        },
        "long": {"bright": {}},
    }
    pipe = streamt1.wrap(ToyPipeline(), {"extends": "stream-t1", "rewards": rewards})
    started = {}

    def kill(_: Any, index: int, __: Any) -> dict[str, Any]:
        client = pipe._measurer.rewards["short", "flicker"]
        started[index] = client.process.popen.pid if client.process else None
        if index == 0:
            os.kill(started[0], signal.SIGKILL)
        if index == 1:
            process.kill()
            process.wait()
        return {}

    pipe("a prompt", on_chunk_end=kill)
    measured = [set(pipe.tree.chunk(index)[0].readings["short"]) for index in range(4)]
    assert measured == [
        {"bright", "flicker", "drift"},
        {"bright", "drift"},
        {"bright", "flicker"},
        {"bright", "flicker"},
    ]
    assert all(node.is_valid for node in pipe.tree)
    first, second = pipe.tree.notes
    assert first == (
        "Reward 'flicker' failed and was left out where it did, first in chunk 1: Reward 'flicker': its process died."
    )
    assert second.startswith("Reward 'drift' failed and was left out where it did, first in chunk 2: ")
    assert f"{url} cannot be reached (ConnectionRefusedError" in second
    assert started[0] != started[3]
    assert gone(started[3]), "unload: true ends the process with the run"


def test_scores_of_another_process_are_the_same_to_the_last_bit(command: tuple[subprocess.Popen[str], str]) -> None:
    here = {"drift": {"options": {"half": 0.1}}}
    there = {"drift": {"where": command[1]}}
    trees = []
    for rewards in (here, there):
        pipe = streamt1.wrap(ToyPipeline(), {"extends": "stream-t1", "rewards": {"long": rewards}})
        pipe("a prompt")
        trees.append([(node.id, node.score, node.fate) for node in pipe.tree])
    assert trees[0] == trees[1]


def test_serving_imports_no_pipelines() -> None:
    heavy = {"diffusers", "transformers", "typer", "yaml"}
    code = f"import sys, streamt1_plugins.cli.reward_worker; print(*({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == []


@pytest.mark.parametrize(
    ("option", "message"),
    [("half", "not of the form name=value"), ("half=[", "is not YAML"), ("halves=1", "has no option 'halves'")],
)
def test_wrong_options_of_the_command_are_named(option: str, message: str) -> None:
    start = [sys.executable, "-m", "streamt1_plugins", "serve-reward", "drift", "--port", "0", "-o", option]
    result = subprocess.run(start, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert message in result.stderr
