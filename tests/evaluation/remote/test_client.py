"""The client: the scores of the reward itself, and an error for every way in which a server fails."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Thread

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_basic.rewards import Drift, Flicker
from streamt1_plugins.api.reward import Reward, RewardInput, RewardOutput
from streamt1_plugins.config.rewards import Place, RewardPart
from streamt1_plugins.errors import PluginError, RecipeError, TrustError, UnreachableError
from streamt1_plugins.evaluation.remote import client, wire
from streamt1_plugins.evaluation.remote.client import RemoteReward
from streamt1_plugins.plugins import build
from streamt1_plugins.testing import RewardContract
from tests.evaluation.remote.serving import example, remote, serving
from tests.toy import ToyPipeline


class TestOverHttp(RewardContract):
    tolerance = 0.0

    @classmethod
    def setup_class(cls) -> None:
        cls.serving = serving("drift")
        cls.server = cls.serving.__enter__()
        super().setup_class()

    @classmethod
    def teardown_class(cls) -> None:
        super().teardown_class()
        cls.serving.__exit__(None, None, None)

    def make_reward(self) -> Reward:
        return RemoteReward("drift", Place(url=self.server.url), {})

    def test_scores_are_those_of_the_reward_itself(self) -> None:
        for inp in self.inputs():
            assert torch.equal(self.scores(inp), Drift().score(inp).scores)


def test_what_a_reward_declares_comes_from_its_server() -> None:
    with serving("seam") as server:
        assert remote(server, "seam").lead_frames == 1


def test_the_server_of_another_reward_is_an_error() -> None:
    with serving() as server, pytest.raises(PluginError, match="offers 'flicker' instead"):
        remote(server, "seam")


def test_candidates_that_do_not_fit_into_one_request_are_sent_in_several() -> None:
    with serving(max_mb=2) as server:
        made, inp = remote(server), example()
        assert torch.equal(made.score(inp).scores, Flicker().score(inp).scores)
        big = replace(inp, video=inp.video.repeat(1, 4, 1, 1, 1))
        with pytest.raises(PluginError, match=r"a candidate has .* bytes, its server accepts 2097152.*larger --max-mb"):
            made.score(big)


@dataclass
class Failing(Reward):
    seconds: float = 0

    def score(self, inp: RewardInput) -> RewardOutput:
        time.sleep(self.seconds)
        raise ZeroDivisionError("no luck")


def test_the_error_of_a_reward_arrives_with_its_reason() -> None:
    with serving(reward=Failing()) as server, pytest.raises(PluginError, match="Error: no luck") as caught:
        remote(server).score(example())
    assert not isinstance(caught.value, UnreachableError)


def test_a_server_that_is_too_slow_is_unreachable() -> None:
    with serving(reward=Failing(30)) as server:
        made = remote(server, timeout=1)
        start = time.monotonic()
        with pytest.raises(UnreachableError, match=r"no answer from http://127\.0\.0\.1:\d+ in 1 s"):
            made.score(example())
        assert time.monotonic() - start < 25


def test_a_missing_server_is_an_error_before_anything_is_generated() -> None:
    with serving() as server:
        url = server.url
    pipe = streamt1.wrap(ToyPipeline(), overrides=[f"rewards.short={{flicker: {{where: '{url}'}}}}"])
    with pytest.raises(UnreachableError, match=rf"Reward 'flicker': {url} cannot be reached \(ConnectError"):
        pipe("a prompt")
    assert pipe.last_run.cost.candidates == 0


def test_a_server_of_another_protocol_is_an_error() -> None:
    with serving() as server:
        server.offer = server.offer.model_copy(update={"protocol": 9})
        with pytest.raises(PluginError, match="is not a reward server"):
            remote(server)


def test_a_place_is_a_url_or_an_interpreter() -> None:
    assert Place.model_validate("http://127.0.0.1:1").url == "http://127.0.0.1:1"
    assert Place.model_validate("bin/python").python == "bin/python"
    with pytest.raises(RecipeError, match="name either `url` or `python`"):
        streamt1.wrap(ToyPipeline(), overrides=["rewards.short={flicker: {where: {timeout: 3}}}"])
    with pytest.raises(PluginError, match=r"'http://127\.0\.0\.1:port' is not a URL"):
        RemoteReward("flicker", Place.model_construct(url="http://127.0.0.1:port"), {}).load("cpu")


def test_no_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        assert remote(server).name == "flicker"


@contextmanager
def unsteady(drops: int, answer: bytes) -> Iterator[str]:
    """URL of a server that drops `drops` connections, and then answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            for index in range(drops + 1):
                accepted, _ = listening.accept()
                with accepted:
                    accepted.recv(10000)
                    if index == drops:
                        accepted.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))

        Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def load_flicker(url: str, retries: int = 0) -> None:
    RemoteReward("flicker", Place(url=url, retries=retries), {}).load("cpu")


def test_a_dropped_connection_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.01)
    offered = wire.offer("flicker", Flicker(), 2**20).model_dump_json().encode()
    with unsteady(2, offered) as url:
        load_flicker(url, retries=2)
    with unsteady(2, offered) as url, pytest.raises(UnreachableError, match="cannot be reached"):
        load_flicker(url, retries=1)


def test_an_answer_without_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ANSWER_LIMIT", 10)
    with unsteady(0, b"x" * 11) as url, pytest.raises(PluginError, match="more than 10 bytes"):
        load_flicker(url)


@dataclass
class Keys(Reward):
    seen: list[str] = field(default_factory=list)

    def score(self, inp: RewardInput) -> RewardOutput:
        self.seen.append(inp.frame_ids[0][0][0])
        return RewardOutput(torch.zeros(len(inp.prompts)))


def test_frame_keys_of_two_runs_differ() -> None:
    """A server that caches by frame may score for two runs at once, whose candidates have the same ids."""
    reward, inp = Keys(), example()
    with serving(reward=reward) as server:
        one, other = remote(server), remote(server)
        for made in (one, one, other):
            made.score(inp)
        one.reset()
        one.score(inp)
    first, again, second, later = reward.seen
    assert first == again
    assert len({first, second, later}) == 3
    assert all(key.endswith(f"/{inp.frame_ids[0][0][0]}") for key in reward.seen)


def build_remote() -> None:
    build.reward("flicker", RewardPart(where=Place(url="http://127.0.0.1:9")), "here")


def serve() -> None:
    with serving():
        pass


@pytest.mark.parametrize(("library", "use"), [("httpx", build_remote), ("starlette", serve), ("uvicorn", serve)])
def test_a_missing_library_is_named_with_the_command(
    library: str, use: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = tuple(f"streamt1_plugins.evaluation.remote.{module}" for module in ("client", "server"))
    for module in list(sys.modules):
        if module.startswith((*ours, f"{library}.")):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(PluginError, match=rf"needs {library}: pip install 'streamt1-plugins\[serve\]'"):
        use()


def test_the_libraries_of_the_extra_are_imported_on_use() -> None:
    modules = {"httpx", "starlette", "uvicorn"}
    code = (
        "import sys, streamt1_plugins.plugins.build, streamt1_plugins.cli.reward_worker;"
        f"print(*({modules} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


@contextmanager
def listening(answer: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """URL of a server that gives everybody this answer, and the requests that it got."""
    got: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    accepted, _ = server.accept()
                except OSError:
                    return
                with accepted:
                    got.append(accepted.recv(10000))
                    accepted.sendall(answer)

        Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", got
        server.shutdown(socket.SHUT_RDWR)


def test_the_secret_follows_no_redirect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(wire.TOKEN, "sesame")
    with listening(b"") as (other, stolen):
        moved = f"HTTP/1.1 307 Moved\r\nLocation: {other}/reward\r\nContent-Length: 0\r\n\r\n".encode()
        with listening(moved) as (url, got), pytest.raises(PluginError, match="HTTP status 307"):
            load_flicker(url)
        assert b"Bearer sesame" in got[0]
        assert stolen == []


@pytest.mark.parametrize(
    "url", ["http://judge.example:8700", "http://10.0.0.1", "http://localhost.example", "http://localhost@judge"]
)
def test_the_secret_is_not_sent_unencrypted_to_another_machine(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(wire.TOKEN, "sesame")
    made = RemoteReward("flicker", Place(url=url), {})
    with pytest.raises(TrustError, match=rf"{wire.TOKEN} would travel unencrypted .*STREAMT1_TRUST=http://"):
        made.load("cpu")
    assert RemoteReward("flicker", Place(url=url), {}, trusted=True)._secret() == "sesame"
    monkeypatch.setenv("STREAMT1_TRUST", url.replace("localhost@", ""))
    assert made._secret() == "sesame"
    monkeypatch.delenv(wire.TOKEN)
    assert made._secret() == ""


def test_the_secret_goes_to_this_machine_and_over_https(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(wire.TOKEN, "sesame")
    for url in ("http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1", "https://judge.example"):
        assert RemoteReward("flicker", Place(url=url), {})._secret() == "sesame"


def test_a_url_in_a_file_gets_no_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(wire.TOKEN, "sesame")
    with listening(b"") as (url, got):
        shared = tmp_path / "shared.yaml"
        shared.write_text(f"extends: stream-t1\nrewards: {{short: {{flicker: {{where: '{url}'}}}}}}\n")
        with pytest.raises(TrustError, match=url):
            streamt1.wrap(ToyPipeline(), str(shared))("a prompt")
        assert got == []


@pytest.mark.parametrize("retry_after", ["0", "1000000", "soon", "-1", "\xb2"])
def test_a_busy_server_cannot_delay_a_run_for_long(retry_after: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "LONGEST_PAUSE", 0)
    head = f"HTTP/1.1 503 Busy\r\nRetry-After: {retry_after}\r\nContent-Length: 0\r\n\r\n".encode("latin-1")
    with listening(head) as (url, _), pytest.raises(UnreachableError, match="busy for"):
        RemoteReward("flicker", Place(url=url, timeout=2), {}).load("cpu")


# Interpreters and servers that hang.


@contextmanager
def mute() -> Iterator[str]:
    """URL of a server that offers `flicker` and never answers another request."""
    offered = wire.offer("flicker", Flicker(), 2**24).model_dump_json().encode()
    connections = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    accepted, _ = listening.accept()
                except OSError:
                    return
                connections.append(accepted)
                if accepted.recv(10000).startswith(b"GET"):
                    accepted.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n")
                    accepted.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(offered), offered))

        Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    for each in connections:
        each.close()


class Hanging:
    """Stands in for a process whose server hangs."""

    url, token, made = "", "", 0

    def __init__(self, *_: object) -> None:
        self.is_alive = True
        type(self).made += 1

    def kill(self) -> None:
        self.is_alive = False


def test_an_interpreter_that_hangs_is_started_again_and_given_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hanging, "made", 0)
    monkeypatch.setattr(client, "ServerProcess", Hanging)
    with mute() as url:
        monkeypatch.setattr(Hanging, "url", url)
        made = RemoteReward("flicker", Place(python="python", timeout=3, retries=1), {})
        made.load("cpu")
        for started in (1, 2):
            with pytest.raises(UnreachableError, match=r"no answer from .* in 3 s\. Its process was ended\.$"):
                made.score(example())
            assert (Hanging.made, made.process) == (started, None)
        for _ in range(3):
            with pytest.raises(UnreachableError, match=r"It failed 2 times and is not called again\.$"):
                made.score(example())
        assert Hanging.made == 2
        made.reset()  # another run
        with pytest.raises(UnreachableError, match="Its process was ended"):
            made.score(example())
        assert Hanging.made == 3


def test_offloading_does_not_grant_more_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ServerProcess", lambda *_: raise_unreachable())
    made = RemoteReward("flicker", Place(python="python", retries=1), {})
    for _ in range(2):
        with pytest.raises(UnreachableError, match="was not ready"):
            made.load("cpu")
        made.offload()
    with pytest.raises(UnreachableError, match=r"was not ready\. It failed 2 times and is not called again"):
        made.load("cpu")


def raise_unreachable() -> None:
    raise UnreachableError("Reward 'flicker': its process was not ready.")


def test_a_server_that_hangs_is_not_waited_for_in_every_chunk() -> None:
    with mute() as url:
        made = RemoteReward("flicker", Place(url=url, timeout=1, retries=0), {})
        made.load("cpu")
        with pytest.raises(UnreachableError, match=r"no answer from .* in 1 s\.$"):
            made.score(example())
        with pytest.raises(UnreachableError, match="is not called again"):
            made.score(example())


def test_a_server_that_sends_byte_after_byte_is_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MARGIN", 0.0)
    ended = Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            accepted, _ = listening.accept()
            with accepted, suppress(OSError):
                accepted.recv(10000)
                accepted.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                while not ended.wait(0.05):
                    accepted.sendall(b"x")

        Thread(target=serve, daemon=True).start()
        made = RemoteReward("flicker", Place(url=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=1), {})
        with pytest.raises(UnreachableError, match="no answer"):
            made.load("cpu")
        ended.set()


def test_all_attempts_together_have_the_time_of_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    start = time.monotonic()
    with pytest.raises(UnreachableError, match="cannot be reached"):
        RemoteReward("flicker", Place(url=url, timeout=1, retries=10**6), {}).load("cpu")
    assert time.monotonic() - start < 60
