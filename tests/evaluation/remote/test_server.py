"""The server: which requests it refuses, and that neither slow nor many clients keep it from answering."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import pytest
import torch

from streamt1_plugins.api.reward import Reward, RewardInput, RewardOutput
from streamt1_plugins.errors import InputError, PluginError
from streamt1_plugins.evaluation.remote import server as server_module
from streamt1_plugins.evaluation.remote import wire
from streamt1_plugins.evaluation.remote.server import RewardServer
from tests.evaluation.remote.serving import example, remote, request, serving


@dataclass
class Waiting(Reward):
    """A reward that scores once it is released, and counts how many calls run at once."""

    started: Event = field(default_factory=Event)
    released: Event = field(default_factory=Event)
    running: int = 0
    most: int = 0

    def score(self, inp: RewardInput) -> RewardOutput:
        self.running += 1
        self.most = max(self.most, self.running)
        self.started.set()
        self.released.wait(30)
        self.running -= 1
        return RewardOutput(torch.zeros(len(inp.prompts)))


def test_health_is_answered_while_scores_run_one_at_a_time() -> None:
    reward = Waiting()
    with serving(reward=reward) as server, ThreadPoolExecutor(4) as threads:
        made, inp = remote(server), example()
        scores = [threads.submit(made.score, inp) for _ in range(4)]
        assert reward.started.wait(20)
        assert request(server, "GET", "/health").json() == {"ok": True}
        assert not any(score.done() for score in scores)
        reward.released.set()
        assert all(score.result(20).scores.tolist() == [0.0] * len(inp.prompts) for score in scores)
    assert reward.most == 1


@contextmanager
def unfinished(server: RewardServer, count: int) -> Iterator[list[socket.socket]]:
    """Clients that connect and stop in the middle: before the request, in its headers, in its body."""
    head = b"POST /score HTTP/1.1\r\nHost: here\r\n"
    starts = (b"", head, head + b"Content-Length: 100\r\n\r\nhalf a body")
    with ExitStack() as stack:
        clients = []
        for index in range(count):
            clients.append(stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20)))
            clients[-1].sendall(starts[index % 3])
        yield clients


def test_slow_and_many_clients_leave_the_server_answering() -> None:
    with serving() as server, unfinished(server, 200), ThreadPoolExecutor(20) as threads:
        made, inp = remote(server), example()
        expected = made.score(inp).scores
        answers = [threads.submit(request, server, "GET", "/health") for _ in range(200)]
        scores = [threads.submit(made.score, inp) for _ in range(20)]
        assert {answer.result().status_code for answer in answers} == {200}
        assert all(torch.equal(score.result().scores, expected) for score in scores)


def test_a_server_stops_while_a_reward_does_not_return(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "GRACE", 0.1)
    reward = Waiting()
    with ThreadPoolExecutor(1) as threads:
        with serving(reward=reward) as server:
            made = remote(server, retries=0)
            score = threads.submit(made.score, example())
            assert reward.started.wait(20)
        assert not reward.released.is_set()
        with pytest.raises(PluginError):
            score.result(20)
    reward.released.set()


@pytest.mark.parametrize(
    ("method", "path", "given", "status", "message"),
    [
        ("GET", "/etc/passwd", {}, 404, "Not Found"),
        ("POST", "/nothing", {"content": b""}, 404, "Not Found"),
        ("GET", "/score", {}, 405, "Method Not Allowed"),
        ("POST", "/score", {"content": b"no tensors"}, 422, "Reading bytes as safetensors failed"),
        ("POST", "/score", {"content": iter([b"no length"])}, 411, "must declare its Content-Length"),
        ("POST", "/score", {"content": bytes(2**21)}, 413, "2097152 bytes, more than the 1048576"),
    ],
)
def test_a_wrong_request_is_refused_with_the_reason(
    method: str, path: str, given: dict[str, Any], status: int, message: str
) -> None:
    with serving(max_mb=1) as server:
        response = request(server, method, path, **given)
        assert (response.status_code, message in response.json()["error"]) == (status, True)
        assert request(server, "GET", "/health").status_code == 200


def raw(server: RewardServer, sent: bytes) -> bytes:
    """The status line of the answer to these bytes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(sent)
        return client.recv(1000).partition(b"\r\n")[0]


def test_a_request_is_refused_before_its_body_is_sent() -> None:
    head = b"POST /score HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n%s\r\n"
    with serving(max_mb=1) as server:
        assert b" 413 " in raw(server, head % (2**40, b""))
        assert b" 411 " in raw(server, head % (5, b"Transfer-Encoding: chunked\r\n"))
        assert b" 400 " in raw(server, head % (-1, b""))


def test_an_unforeseen_error_is_in_the_answer() -> None:
    with serving() as server:
        server.offer = None  # type: ignore[assignment]
        response = request(server, "GET", "/reward")
        assert response.status_code == 500
        assert "AttributeError" in response.json()["error"]


@pytest.mark.parametrize("secret", ["sesame", "sésame \n"])
def test_a_request_needs_the_token_where_there_is_one(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    monkeypatch.setenv(wire.TOKEN, secret)
    with serving() as server:
        assert remote(server).horizons == ("short", "long")
        for headers in ({}, {"Authorization": "Bearer guess"}, {"Authorization": "sesame"}):
            assert request(server, "GET", "/health", headers=headers).status_code == 401
        monkeypatch.setenv(wire.TOKEN, "guess")
        with pytest.raises(PluginError, match="The token is wrong or missing"):
            remote(server)


def test_an_address_that_others_reach_needs_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(wire.TOKEN, raising=False)
    with pytest.raises(InputError, match=r"0\.0\.0\.0 can be reached from other machines"), serving(host="0.0.0.0"):
        pass


def test_an_address_in_use_is_an_input_error() -> None:
    with serving() as server:
        taken = serving(port=server.port)
        with pytest.raises(InputError, match=rf"Cannot serve on 127\.0\.0\.1:{server.port}"), taken:
            pass


def test_ipv6_loopback_works_where_the_machine_has_it() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6")
    with serving(host="::1") as server:
        assert server.url == f"http://[::1]:{server.port}"
        assert remote(server).name == "flicker"


def test_a_reset_resets_the_reward() -> None:
    class Resettable(Waiting):
        resets = 0

        def reset(self) -> None:
            self.resets += 1

    reward = Resettable()
    with serving(reward=reward) as server:
        remote(server).reset()
    assert reward.resets == 1
