"""The server: which requests it refuses, and that neither slow nor many clients keep it from answering."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from threading import Event
from time import sleep
from typing import Any

import pytest
import torch

from streamt1_plugins.api.reward import Reward, RewardInput, RewardOutput
from streamt1_plugins.errors import InputError, PluginError, UnreachableError
from streamt1_plugins.evaluation.remote import server as server_module
from streamt1_plugins.evaluation.remote import wire
from streamt1_plugins.evaluation.remote.admission import Admission
from streamt1_plugins.evaluation.remote.connection import most_connections
from streamt1_plugins.evaluation.remote.server import RewardServer
from tests.evaluation.remote.serving import example, remote, request, serving


@dataclass
class Waiting(Reward):
    """A reward that scores once it is released, and counts how many calls run at once."""

    started: Event = field(default_factory=Event)
    released: Event = field(default_factory=Event)
    running: int = 0
    most: int = 0
    scored: int = 0

    def score(self, inp: RewardInput) -> RewardOutput:
        self.running += 1
        self.most = max(self.most, self.running)
        self.started.set()
        self.released.wait(30)
        self.running -= 1
        self.scored += 1
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
    head = b"POST /score HTTP/1.1\r\nHost: localhost\r\n"
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
    head = b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n%s\r\n"
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


def test_a_thousand_clients_at_once_are_all_answered() -> None:
    request_bytes = b"GET /reward HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with serving() as server, ExitStack() as stack:
        count = 1000 if most_connections() >= 1200 else 300  # each has two ends in this process
        clients = []
        for _ in range(count):
            clients.append(stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60)))
        for each in clients:
            each.sendall(request_bytes)
        assert {each.recv(1000).partition(b"\r\n")[0] for each in clients} == {b"HTTP/1.1 200 OK"}
        assert request(server, "GET", "/health").status_code == 200


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"Host": "evil.com"}, "Host 'evil.com' is not this server"),
        ({"Origin": "http://evil.com"}, "web pages are refused"),
        ({"Origin": "null"}, "web pages are refused"),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/health"), ("GET", "/reward"), ("POST", "/score"), ("POST", "/reset")]
)
def test_requests_of_web_pages_are_refused(method: str, path: str, headers: dict[str, str], message: str) -> None:
    with serving(reward=Refusing()) as server:
        response = request(server, method, path, headers=headers)
        assert (response.status_code, message in response.json()["error"]) == (403, True)


class Refusing(Reward):
    """A reward that must not be called."""

    def reset(self) -> None:
        raise AssertionError

    def score(self, inp: RewardInput) -> RewardOutput:
        raise AssertionError


def test_another_name_is_served_where_the_user_says_so() -> None:
    with serving() as server:
        server.names = (*server.names, "judge.lan")
        assert request(server, "GET", "/health", headers={"Host": "judge.lan:8700"}).status_code == 200


def test_a_full_server_says_when_to_come_back_and_the_client_does() -> None:
    reward = Waiting()
    with serving(reward=reward) as server, ThreadPoolExecutor(4) as threads:
        server._admission = Admission(max_requests=1, max_bytes=2**30)
        made, inp = remote(server), example()
        first = threads.submit(made.score, inp)
        assert reward.started.wait(20)
        response = request(server, "POST", "/score", content=b"more")
        assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
        second, impatient = threads.submit(remote(server).score, inp), remote(server, timeout=3)
        with pytest.raises(UnreachableError, match=r"has been busy for 3 s"):
            impatient.score(inp)
        reward.released.set()
        for each in (first, second):
            assert each.result(60).scores.tolist() == [0.0] * len(inp.prompts)


def test_bodies_together_have_a_limit() -> None:
    head = b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    with serving(max_mb=1) as server, ExitStack() as stack:
        for _ in range(2):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20))
            client.sendall(head % 2**20)
        while server._admission.requests < 2:
            sleep(0.01)
        assert b" 503 " in raw(server, head % 1)
        assert request(server, "GET", "/health").status_code == 200


def test_a_body_that_does_not_arrive_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "BODY_SECONDS", 0.2)
    with serving() as server:
        assert b" 408 " in raw(server, b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf")
        assert server._admission.requests == 0


def test_a_client_that_has_left_is_not_scored() -> None:
    reward = Waiting()
    with serving(reward=reward) as server, ThreadPoolExecutor(1) as threads:
        first = threads.submit(remote(server).score, example())
        assert reward.started.wait(20)
        body = wire.pack_input(example())
        head = b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
            client.sendall(head + body)
            while server._admission.requests < 2:
                sleep(0.01)
        reward.scored = 0
        reward.released.set()
        first.result(20)
        while server._admission.requests:
            sleep(0.01)
    assert reward.scored == 1


MALFORMED: dict[str, bytes] = {
    "negative length": b"Content-Length: -1\r\n\r\n",
    "no number": b"Content-Length: \xb2\r\n\r\n",
    "two lengths": b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n12",
    "endless length": b"Content-Length: " + b"9" * 30 + b"\r\n\r\n",
    "no length": b"\r\n",
    "chunked": b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "no header": b"a header without a colon\r\n\r\n",
    "nul": b"X: a\0b\r\n\r\n",
    "no tensors": b"Content-Length: 4\r\n\r\nnone",
    "header too long": b"Content-Length: 8\r\n\r\n" + b"\xff" * 8,
    "deep": b"Content-Length: 60008\r\n\r\n" + (60000).to_bytes(8, "little") + b"[" * 60000,
}


@pytest.mark.parametrize("rest", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_request_is_one_refusal_and_one_line(rest: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with serving() as server:
        assert raw(server, b"POST /score HTTP/1.1\r\nHost: localhost\r\n" + rest).startswith(b"HTTP/1.1 4")
        assert request(server, "GET", "/health").status_code == 200
    assert len(caplog.messages) == 1
    assert not any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize(
    "start", [b"\x16\x03\x01\x02\x00\x01", b"GET /health\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\n", b"A" * 200000]
)
def test_what_is_no_request_is_refused(start: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with serving() as server:
        assert raw(server, start + b"\r\n\r\n").startswith(b"HTTP/1.1 4")
        assert request(server, "GET", "/health").status_code == 200
    assert not any(record.exc_info for record in caplog.records)
